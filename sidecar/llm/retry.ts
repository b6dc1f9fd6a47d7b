/**
 * What to do about an attempt that failed before anything of its answer was passed on. Pure.
 *
 *     attempt failed ──▶ retryable? ──no──▶ pass it on
 *                            │yes
 *                     attempts left? ──no──▶ pass it on
 *                            │yes
 *                   another upstream free? ──yes──▶ there, at once
 *                            │no
 *          a wait that fits cap and deadline? ──yes──▶ wait, then the first that is free
 *                            │no
 *                       pass it on
 */
import { type Backoff, backoffMs } from '../clock/backoff.ts';
import type { LlmRetrySettings } from './settings.ts';

/** Why an attempt failed; also the reason that an answer of our own gives. */
export type FailureReason =
  | 'status'
  | 'connect_failed'
  | 'connection_lost'
  | 'first_byte'
  | 'idle'
  | 'deadline'
  | 'stream_cut'
  | 'answer_cut'
  | 'malformed_answer'
  | 'answer_too_large'
  | 'budget_exhausted'
  | 'draining';

export interface AttemptFailure {
  readonly reason: FailureReason;
  /** Of the provider's answer; 0 when there was none. */
  readonly status: number;
  /** What it asked for, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** Its `x-should-retry`. */
  readonly shouldRetry: boolean | undefined;
  /** For people; never holds a key or anything of a body. */
  readonly message: string;
  /** The provider may have worked for it: its tokens count as spent. */
  readonly mayHaveCost: boolean;
}

/** What is known of an upstream when one is to be chosen. */
export interface Candidate {
  /** Requests may go there, as far as its breaker says. */
  readonly closed: boolean;
  /** When its cooldown, or the wait for its learned limits, is over; the past when there is none. */
  readonly freeAtMs: number;
  /** When its breaker lets a probe through; for an open one. */
  readonly probeAtMs: number;
  /** This request has tried it. */
  readonly tried: boolean;
}

export interface RetryState {
  /** Attempts made so far. */
  readonly attempts: number;
  readonly nowMs: number;
  readonly deadlineMs: number;
  /** In [0, 1). */
  readonly random: number;
}

/** Where to go and when; or why nowhere, and when it may be worth asking again. */
export type NextStep =
  | { readonly go: true; readonly candidate: number; readonly atMs: number }
  | { readonly go: false; readonly because: 'circuit_open' | 'cooling'; readonly againAtMs: number };

/** openai's clients retry on these, and every 5xx. */
export function isRetryableStatus(status: number): boolean {
  return status === 408 || status === 409 || status === 429 || status >= 500;
}

/** May this failure be tried again at all, by its kind? */
export function isRetryable(failure: AttemptFailure, settings: LlmRetrySettings): boolean {
  switch (failure.reason) {
    case 'status':
      return failure.shouldRetry ?? isRetryableStatus(failure.status);
    case 'connect_failed':
    case 'connection_lost':
    case 'first_byte':
      return true;
    case 'answer_cut':
    case 'malformed_answer':
    case 'idle':
      // It has cost tokens, and would again.
      return settings.incompleteAnswers;
    default:
      return false;
  }
}

/**
 * Chooses the upstream of the next attempt: the first in order that is free and untried, then the first that is free
 * after a back-off, then the one that is free soonest if the wait is within `max_retry_after` and the deadline.
 */
export function chooseUpstream(
  candidates: readonly Candidate[],
  settings: LlmRetrySettings,
  state: RetryState,
): NextStep {
  const { nowMs, deadlineMs, attempts, random } = state;
  const fresh = candidates.findIndex((one) => one.closed && !one.tried && one.freeAtMs <= nowMs);
  if (fresh >= 0) return { go: true, candidate: fresh, atMs: nowMs };

  let best = -1;
  let bestAtMs = Number.POSITIVE_INFINITY;
  let probeAtMs = Number.POSITIVE_INFINITY;
  candidates.forEach((one, index) => {
    if (!one.closed) {
      probeAtMs = Math.min(probeAtMs, one.probeAtMs);
      return;
    }
    const waitMs = one.tried ? backoffMs(toBackoff(settings), attempts, random) : 0;
    let atMs = Math.max(nowMs + waitMs, one.freeAtMs);
    // Those who wait for the same moment don't come back all at once.
    if (one.freeAtMs > nowMs + waitMs) atMs += random * Math.min(250, (one.freeAtMs - nowMs) / 4);
    if (atMs < bestAtMs) {
      best = index;
      bestAtMs = atMs;
    }
  });
  if (best < 0) return { go: false, because: 'circuit_open', againAtMs: probeAtMs };
  const { freeAtMs } = candidates[best]!;
  const tooLate = freeAtMs - nowMs > settings.maxRetryAfterMs || bestAtMs >= deadlineMs;
  if (tooLate) return { go: false, because: 'cooling', againAtMs: bestAtMs };
  return { go: true, candidate: best, atMs: bestAtMs };
}

function toBackoff({ backoff }: LlmRetrySettings): Backoff {
  return { ...backoff, multiplier: 2 };
}

/** How long an upstream is left alone after a 429, when it doesn't say: longer each time in a row. */
export function cooldownMs(
  failure: AttemptFailure,
  settings: LlmRetrySettings,
  inARow: number,
  random: number,
): number {
  const askedMs = failure.retryAfterMs ?? backoffMs(toBackoff(settings), inARow, random);
  return Math.min(askedMs, Math.max(settings.maxRetryAfterMs, settings.backoff.maxMs));
}
