/** What a call asks of the pipeline that it runs through. */
import type { Attempt, AttemptFailure } from './attempt.ts';
import type { AdmittedFacts, PlacedFacts } from './call-facts.ts';

/** The pipeline, as a call knows it. */
export interface CallDriver<Call> {
  /** The first message arrived, or will not arrive. */
  onFirstMessage(call: Call): void;
  /** An attempt failed before anything was sent downstream, or ended the call. */
  onAttemptFailed(call: Call & AdmittedFacts, attempt: Attempt, failure: AttemptFailure): void;
  /** An attempt waits for a stream of an endpoint that has none free. Returns whether another endpoint has one. */
  mayMove(call: Call & AdmittedFacts, attempt: Attempt): boolean;
  /** Starts one more attempt at an endpoint that runs none of this call's. Returns false when there is no such endpoint. */
  hedge(call: Call & AdmittedFacts, running: readonly Attempt[], nowMs: number): boolean;
  /** The back-off after a failed attempt is over. */
  onRetryDue(call: Call & AdmittedFacts, failed: Attempt, sameEndpoint: boolean): void;
  /** The call had joined another call's task, and now runs it itself. */
  onRunAgain(call: Call): void;
  /** The call's turn in the queue came. */
  onAdmitted(call: Call & PlacedFacts): void;
  /** An attempt failed and nothing was sent downstream. Returns true when another follows and the call continues. */
  retries(call: Call & AdmittedFacts, attempt: Attempt): boolean;
}
