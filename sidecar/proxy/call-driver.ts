/** The interface of the pipeline for the calls that run through it. */
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptFailure } from './attempt-failure.ts';
import type { PlacedFacts } from './call-facts.ts';

/** The pipeline, as a call knows it. Only an admitted call has attempts to ask about. */
export interface CallDriver<Call, Admitted extends Call> {
  /** The first message arrived, or will not arrive. */
  onFirstMessage(call: Call): void;
  /** The call had joined another call's task, and now runs it itself. */
  onRunAgain(call: Call): void;
  /** The call's turn in the queue came. */
  onAdmitted(call: Call & PlacedFacts): void;
  /** Starts attempts (`attempt-starter.ts`). */
  readonly starter: Starter<Admitted>;
  /** Decides what follows a failed attempt (`next-attempt.ts`). */
  readonly next: Next<Admitted>;
}

interface Starter<Admitted> {
  /** Starts one more attempt at an endpoint that runs none of this call's. Returns false when there is no such endpoint. */
  hedge(call: Admitted, running: readonly Attempt[], nowMs: number): boolean;
}

interface Next<Admitted> {
  /** An attempt failed before anything was sent downstream, or ended the call. */
  onAttemptFailed(call: Admitted, attempt: Attempt, failure: AttemptFailure): void;
  /** An attempt waits for a stream of an endpoint that has none free. Returns whether another endpoint has one. */
  mayMove(call: Admitted, attempt: Attempt): boolean;
  /** The back-off after a failed attempt is over. */
  onRetryDue(call: Admitted, failed: Attempt, sameEndpoint: boolean): void;
  /** Goes on with streams whose connection was lost after the answer had begun. */
  readonly resuming: {
    onAnswer(call: Admitted, attempt: Attempt, head: HeaderList | undefined): void;
    onRefused(call: Admitted, attempt: Attempt): void;
  };
  /** An attempt failed and nothing was sent downstream. Returns true when another follows and the call continues. */
  retries(call: Admitted, attempt: Attempt): boolean;
}
