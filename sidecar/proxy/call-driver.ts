import type { Attempt, AttemptFailure } from './attempt.ts';
import type { AdmittedFacts, PlacedFacts } from './call-facts.ts';

/** What a call asks of the pipeline that it runs through. */
export interface CallDriver<Call> {
  /** The first message is here, or can't be had. */
  onFirstMessage(call: Call): void;
  /** An attempt failed before anything was sent downstream, or the call ended with it. */
  onAttemptFailed(call: Call & AdmittedFacts, attempt: Attempt, failure: AttemptFailure): void;
  /** An attempt waits for a stream of an endpoint that has none to give: has another one? */
  mayMove(call: Call & AdmittedFacts, attempt: Attempt): boolean;
  /** One more attempt beside those that run, at an endpoint that has none of them. False: there is none. */
  hedge(call: Call & AdmittedFacts, running: readonly Attempt[], nowMs: number): boolean;
  /** The back-off after a failed attempt is over. */
  onRetryDue(call: Call & AdmittedFacts, failed: Attempt, sameEndpoint: boolean): void;
  /** It had joined another call's task, and runs it now. */
  onRunAgain(call: Call): void;
  /** Its turn in the queue has come. */
  onAdmitted(call: Call & PlacedFacts): void;
  /** An attempt has ended badly and nothing was sent downstream. True: another follows, and the call goes on. */
  retries(call: Call & AdmittedFacts, attempt: Attempt): boolean;
}
