/**
 * Decides what follows an attempt that failed before anything of its answer was passed on. Pure.
 *
 *     attempt failed ──▶ may it be running? ──yes, and not `resend`──▶ pass it on: the caller decides
 *                            │no
 *                     retryable, attempts left? ──no──▶ pass it on
 *                            │yes
 *                   another upstream free? ──yes──▶ there, at once
 *                            │no
 *          a wait that fits cap and deadline? ──yes──▶ wait, then the first that is free
 *                            │no
 *                       pass it on
 */
import { type Backoff, backoffMs } from '../../clock/backoff.ts';
import type { LlmRetrySettings } from '../shared/llm-settings.ts';
import type { ProviderFailure } from '../shared/provider-failure.ts';

/** What is known of an upstream when one is to be chosen. */
export interface Candidate {
  /** Requests may go there, as far as its breaker says. */
  readonly closed: boolean;
  /** When the model's rest, or the wait for its learned limits, is over; the past when there is none. */
  readonly freeAtMs: number;
  /** When its breaker lets a probe through; for an open one. */
  readonly probeAtMs: number;
  /** This request, or an earlier try of its client, was sent there. */
  readonly tried: boolean;
  /** It wants to be paid first: asked only if nobody else can be. */
  readonly lastResort: boolean;
}

export interface RetryState {
  /** Attempts made so far for this request of the client's. */
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
function isRetryableStatus(status: number): boolean {
  return status === 408 || status === 409 || status === 429 || status >= 500;
}

/** May this failure be tried again at all, by its kind? */
export function isRetryable(failure: ProviderFailure, settings: LlmRetrySettings): boolean {
  switch (failure.reason) {
    case 'status':
      // Another upstream may be paid for.
      if (failure.outOfCredit !== undefined) return true;
      return failure.shouldRetry ?? isRetryableStatus(failure.status);
    case 'connect_failed':
      return true;
    case 'upstream_protocol':
      // Bytes that are no answer cost nothing.
      return !failure.mayHaveCost;
    case 'connection_lost':
    case 'first_byte':
      return settings.resend || !failure.mayBeRunning;
    case 'answer_cut':
    case 'malformed_answer':
      // It has cost tokens, and would again.
      return settings.incompleteAnswers;
    default:
      return false;
  }
}

/**
 * Chooses the upstream of the next attempt: the first in order that is free and untried, then the first that is free
 * after a back-off, then the one that is free soonest if the wait is within `max_retry_after` and the deadline. One that
 * wants to be paid first comes last, and once.
 */
export function chooseUpstream(
  candidates: readonly Candidate[],
  settings: LlmRetrySettings,
  state: RetryState,
): NextStep {
  const { nowMs, deadlineMs, attempts, random } = state;
  const fresh = candidates.findIndex(
    (one) => one.closed && !one.lastResort && !one.tried && one.freeAtMs <= nowMs,
  );
  if (fresh >= 0) return { go: true, candidate: fresh, atMs: nowMs };

  let best = -1;
  let bestAtMs = Number.POSITIVE_INFINITY;
  let probeAtMs = Number.POSITIVE_INFINITY;
  candidates.forEach((one, index) => {
    if (!one.closed) {
      probeAtMs = Math.min(probeAtMs, one.probeAtMs);
      return;
    }
    if (one.lastResort) return;
    // A client's own retry has waited by itself.
    const waitMs = one.tried && attempts > 0 ? backoffMs(toBackoff(settings), attempts, random) : 0;
    let atMs = Math.max(nowMs + waitMs, one.freeAtMs);
    // Those who wait for the same moment don't come back all at once.
    if (one.freeAtMs > nowMs + waitMs) atMs += random * Math.min(250, (one.freeAtMs - nowMs) / 4);
    if (atMs < bestAtMs) {
      best = index;
      bestAtMs = atMs;
    }
  });
  const freeAtMs = candidates[best]?.freeAtMs ?? Number.POSITIVE_INFINITY;
  if (best >= 0 && freeAtMs - nowMs <= settings.maxRetryAfterMs && bestAtMs < deadlineMs)
    return { go: true, candidate: best, atMs: bestAtMs };
  const unpaid = candidates.findIndex(
    (one) => one.closed && one.lastResort && (!one.tried || attempts === 0) && one.freeAtMs <= nowMs,
  );
  if (unpaid >= 0) return { go: true, candidate: unpaid, atMs: nowMs };
  if (best >= 0) return { go: false, because: 'cooling', againAtMs: Math.max(freeAtMs, nowMs) };
  return { go: false, because: 'circuit_open', againAtMs: probeAtMs };
}

function toBackoff({ backoff }: LlmRetrySettings): Backoff {
  return { ...backoff, multiplier: 2 };
}

/** Nobody is believed who asks to be left alone for longer: quotas are by the day at most. */
const MAX_REST_MS = 86_400_000;

/**
 * How long a model of an upstream is left alone after an answer that is tried again: as long as it says. A 429 that
 * does not say is taken for a back-off, longer each time in a row; other failures rest only if they ask for it.
 */
export function restMs(
  { status, retryAfterMs }: ProviderFailure,
  settings: LlmRetrySettings,
  inARow: number,
  random: number,
): number {
  if (retryAfterMs !== undefined) return Math.min(retryAfterMs, MAX_REST_MS);
  return status === 429 ? backoffMs(toBackoff(settings), inARow, random) : 0;
}
