/**
 * Whether, and when, the rest of a stream is asked for that was lost with its connection. Pure.
 *
 *     the connection is lost ──▶ asked for at once, which costs no budget: the run goes on, and nothing runs again
 *     no connection ──▶ again after a back-off, within the time that the run waits for its caller, and the deadline:
 *                       a listener, or the way to it, may be away for a moment
 *     no answer, or REFUSED_STREAM ──▶ the same, within the retry budget
 *     "this run is not here" ──▶ never again: another process has the address, and no other run may continue the answer
 */
import { type Backoff, backoffMs } from '../clock/backoff.ts';

/**
 * How a resumption ended, for `outrigger_streams_resumed_total`:
 *
 * - `resumed`: the stream goes on;
 * - `refused`: the endpoint does not have the run, or does not resume streams (any more);
 * - `gone`: the endpoint is no longer part of the cluster, or could not be reached in the time that the run waits;
 * - `deadline`: the call's time would be over before the next try;
 * - `budget_exhausted`: the retry budget has no room for another try;
 * - `not_read`: too many bytes wait for the caller already.
 */
export const RESUME_OUTCOMES = [
  'resumed',
  'refused',
  'gone',
  'deadline',
  'budget_exhausted',
  'not_read',
] as const;
export type ResumeOutcome = (typeof RESUME_OUTCOMES)[number];

export interface ResumeTry {
  /** The endpoint is no longer part of the cluster. */
  readonly gone: boolean;
  /** The try before has reached it, and costs it something. */
  readonly reached: boolean;
  /** The tries so far that got no answer. */
  readonly tries: number;
  /** Since the connection was lost. */
  readonly lostForMs: number;
  /** How long the run waits for its caller. */
  readonly lingerMs: number;
  /** Infinity without a deadline. */
  readonly timeLeftMs: number;
  readonly callsInFlight: number;
}

interface Budget {
  tryAcquire(nowMs: number, callsInFlight: number): boolean;
}

export type ResumeDecision =
  | { readonly again: true; readonly afterMs: number; readonly budgeted: boolean }
  | { readonly again: false; readonly outcome: ResumeOutcome };

/** Decides on the next try, which has taken a place in the budget where it is `budgeted`. */
export function nextResume(
  { gone, reached, tries, lostForMs, lingerMs, timeLeftMs, callsInFlight }: ResumeTry,
  backoff: Backoff,
  budget: Budget,
  nowMs: number,
  random: number,
): ResumeDecision {
  if (gone) return { again: false, outcome: 'gone' };
  if (tries === 0) return { again: true, afterMs: 0, budgeted: false };
  const afterMs = backoffMs(backoff, tries, random);
  if (lostForMs + afterMs >= lingerMs) return { again: false, outcome: 'gone' };
  if (afterMs >= timeLeftMs) return { again: false, outcome: 'deadline' };
  if (reached && !budget.tryAcquire(nowMs, callsInFlight))
    return { again: false, outcome: 'budget_exhausted' };
  return { again: true, afterMs, budgeted: reached };
}
