/** The state that a call keeps about its attempts. */
import type { Endpoint } from '../cluster/endpoint.ts';
import { outcomeUnknown } from '../policy/retry.ts';
import { Attempt, type AttemptOwner } from './attempt.ts';
import type { Hedging } from './hedging.ts';
import type { LocalReply } from './reasons.ts';
import type { RetryWait } from './retrying.ts';

/** Other files read these fields; only these methods write them. */
export class CallAttempts {
  /** The running attempt, or the one that ended last. */
  current: Attempt | undefined = undefined;
  count = 0;
  /** How many attempts followed one that was provably never processed. */
  transparentRetries = 0;
  /** Back-offs since the last pushback. */
  backoffStep = 0;
  /** The endpoint may have processed an earlier attempt. */
  unknownBefore = false;
  severalEndpointsFailed = false;
  /** The answer for the caller if no other attempt follows. */
  lastFailure: LocalReply | undefined = undefined;
  /** The running back-off. */
  retryWait: RetryWait | undefined = undefined;
  /** The attempts beside `current`, where hedging is on. */
  hedging: Hedging | undefined = undefined;

  begin(call: AttemptOwner, endpoint: Endpoint, nowMs: number): Attempt {
    this.count++;
    this.current = new Attempt(call, endpoint, this.count, nowMs);
    return this.current;
  }

  /** Allows the call several attempts at a time. */
  hedgeBy(hedging: Hedging | undefined): void {
    this.hedging = hedging;
  }

  /** This attempt answered first; the others end. */
  choose(attempt: Attempt): void {
    this.current = attempt;
  }

  /** One of several running attempts failed; this one continues. */
  goOnWith(attempt: Attempt): void {
    this.severalEndpointsFailed = true;
    this.current = attempt;
  }

  /** An attempt failed, and the next one goes to another endpoint. */
  changeEndpoint(): void {
    this.severalEndpointsFailed = true;
  }

  /** An attempt was provably never processed, and another follows at once. */
  countTransparent(): void {
    this.transparentRetries++;
  }

  /** Notes whether the app may have run the failed attempt. */
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
