import type { Endpoint } from '../cluster/endpoint.ts';
import { outcomeUnknown } from '../policy/retry.ts';
import { Attempt, type AttemptOwner } from './attempt.ts';
import type { Hedging } from './hedging.ts';
import type { LocalReply } from './reasons.ts';
import type { RetryWait } from './retrying.ts';

/** What a call remembers of its attempts. Others read it; only these methods write it. */
export class CallAttempts {
  /** The one that runs, or has ended last. */
  current: Attempt | undefined = undefined;
  count = 0;
  /** Of the attempts, those that followed one which was provably never processed. */
  transparentRetries = 0;
  /** Back-offs since the last pushback. */
  backoffStep = 0;
  /** An earlier attempt may have been processed. */
  unknownBefore = false;
  severalEndpointsFailed = false;
  /** What the caller is told when no other attempt follows. */
  lastFailure: LocalReply | undefined = undefined;
  /** The back-off that is under way. */
  retryWait: RetryWait | undefined = undefined;
  /** Attempts beside `current`, where the call may have them. */
  hedging: Hedging | undefined = undefined;

  begin(call: AttemptOwner, endpoint: Endpoint, nowMs: number): Attempt {
    this.count++;
    this.current = new Attempt(call, endpoint, this.count, nowMs);
    return this.current;
  }

  /** The call may have several at a time. */
  hedgeBy(hedging: Hedging | undefined): void {
    this.hedging = hedging;
  }

  /** Of those that run beside each other this one has answered. */
  choose(attempt: Attempt): void {
    this.current = attempt;
  }

  /** One of those that run beside each other has failed: this one is left. */
  goOnWith(attempt: Attempt): void {
    this.severalEndpointsFailed = true;
    this.current = attempt;
  }

  /** One has failed, and the next one goes to another endpoint. */
  changeEndpoint(): void {
    this.severalEndpointsFailed = true;
  }

  /** One was provably never processed, and is followed by another at once. */
  countTransparent(): void {
    this.transparentRetries++;
  }

  /** One has ended badly, perhaps behind the app's having run it. */
  noteOutcome(attempt: Attempt): void {
    this.unknownBefore ||= outcomeUnknown(attempt);
  }

  fail(answer: LocalReply): void {
    this.lastFailure = answer;
  }

  wait(wait: RetryWait, backoffStep: number): void {
    this.retryWait = wait;
    this.backoffStep = backoffStep;
  }

  /** The back-off is over. */
  endWait(): void {
    this.retryWait = undefined;
  }
}
