import type { Call } from './call.ts';
import { OVERLOADED_PUSHBACK_MS } from './failure-reply.ts';
import { reply } from './reasons.ts';

/** Some 50 MB for calls, at 3 KB each, and as much for what has come of their messages. */
const MAX_CALLS = 16_384;
const MAX_BYTES = 50_000_000;

/**
 * The calls of a listener that wait for their first message, before anything else counts them. Their callers may take
 * their time, for a stream has no time limit by itself; so it is their number and their bytes that are bounded, and
 * above that the call of which nothing has come for the longest time is given up. Who sends steadily is not held up by
 * those who do not.
 *
 * Their order is in the links of the admission queue, which a call joins only afterwards.
 */
export class FirstMessages {
  maxCalls = MAX_CALLS;
  maxBytes = MAX_BYTES;
  calls = 0;
  bytes = 0;
  private stillest: Call | undefined = undefined;
  private latest: Call | undefined = undefined;

  add(call: Call): void {
    call.awaitingMessage = true;
    this.calls++;
    this.append(call);
    this.keepBounds();
  }

  /** More of it has come, but not all. */
  moved(call: Call): void {
    this.unlink(call);
    this.append(call);
    this.keepBounds();
  }

  /** It waits no longer: its message is here, or it has ended. */
  delete(call: Call): void {
    call.awaitingMessage = false;
    this.calls--;
    this.unlink(call);
  }

  private append(call: Call): void {
    const last = this.latest;
    call.queueOlder = last;
    if (last === undefined) this.stillest = call;
    else last.queueNewer = call;
    this.latest = call;
    call.awaitedBytes = call.request.bytes;
    this.bytes += call.awaitedBytes;
  }

  private unlink(call: Call): void {
    this.bytes -= call.awaitedBytes;
    const older = call.queueOlder as Call | undefined;
    const newer = call.queueNewer as Call | undefined;
    if (older === undefined) this.stillest = newer;
    else older.queueNewer = newer;
    if (newer === undefined) this.latest = older;
    else newer.queueOlder = older;
    call.queueOlder = undefined;
    call.queueNewer = undefined;
  }

  private keepBounds(): void {
    while (this.calls > this.maxCalls || this.bytes > this.maxBytes) {
      const message =
        'too many calls wait for their first message, and of this one nothing has come for the longest time';
      // It ends, and with that is deleted.
      this.stillest!.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
    }
  }
}
