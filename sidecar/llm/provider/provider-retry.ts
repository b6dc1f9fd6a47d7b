/**
 * Decides what follows an attempt that failed before the caller had received anything of its answer. Pure.
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

/** What the choice knows about one upstream. */
export interface Candidate {
  /** The breaker admits requests. */
  readonly closed: boolean;
  /** When the model's rest, or the wait for its learned limits, is over; a time in the past without either. */
  readonly freeAtMs: number;
  /** When an open breaker admits a probe. */
  readonly probeAtMs: number;
  /** This request, or an earlier try of its client, has gone there. */
  readonly tried: boolean;
  /** The provider demands payment: it is asked only if no other upstream can be. */
  readonly lastResort: boolean;
  /** Our own limits would let it wait: another one that is free comes first. */
  readonly isFull?: boolean;
}

export interface RetryState {
  /** The number of attempts so far for this request of the client. */
  readonly attempts: number;
  readonly nowMs: number;
  readonly deadlineMs: number;
  /** In [0, 1). */
  readonly random: number;
}

/** Where the next attempt goes, and when; or why none can be made, and when the client may try again. */
export type NextStep =
  | { readonly go: true; readonly candidate: number; readonly atMs: number }
  | { readonly go: false; readonly because: 'circuit_open' | 'cooling'; readonly againAtMs: number };

/** OpenAI's clients retry these statuses. */
function isRetryableStatus(status: number): boolean {
  return status === 408 || status === 409 || status === 429 || status >= 500;
}

/** Whether a failure of this kind may be tried again at all. */
export function isRetryable(failure: ProviderFailure, settings: LlmRetrySettings): boolean {
  const { reason } = failure;
  switch (reason) {
    case 'status':
      // The operator may have paid another upstream.
      if (failure.outOfCredit !== undefined) return true;
      return failure.shouldRetry ?? isRetryableStatus(failure.status);
    case 'connect_failed':
      return true;
    case 'upstream_protocol':
      // Bytes that are not an answer cost nothing.
      return !failure.mayHaveCost;
    case 'connection_lost':
    case 'first_byte':
      return settings.resend || !failure.mayBeRunning;
    case 'answer_cut':
    case 'malformed_answer':
      // The answer has cost tokens, and the next one would, too.
      return settings.incompleteAnswers;
    case 'idle':
    case 'deadline':
    case 'stream_cut':
    case 'answer_too_large':
    case 'budget_exhausted':
    case 'draining':
      return false;
    default:
      return reason satisfies never;
  }
}

/**
 * Chooses the upstream of the next attempt: the first in order that is free and untried, then the first that is free
 * after a back-off, then the upstream that is free soonest if the wait is within `max_retry_after` and the deadline. An
 * upstream that demands payment comes last, and once.
 */
export function chooseUpstream(
  candidates: readonly Candidate[],
  settings: LlmRetrySettings,
  state: RetryState,
): NextStep {
  const { nowMs, deadlineMs, attempts, random } = state;
  const isFresh = (one: Candidate): boolean =>
    one.closed && !one.lastResort && !one.tried && one.freeAtMs <= nowMs;
  let fresh = candidates.findIndex((one) => isFresh(one) && one.isFull !== true);
  if (fresh < 0) fresh = candidates.findIndex(isFresh);
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
    // A client that retries has waited already.
    const waitMs = one.tried && attempts > 0 ? backoffMs(toBackoff(settings), attempts, random) : 0;
    let atMs = Math.max(nowMs + waitMs, one.freeAtMs);
    // Requests that wait for the same moment must not all be sent at once.
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

/** The longest rest that a provider's answer can cause: the longest quotas are those of a day. */
const MAX_REST_MS = 86_400_000;

/**
 * Returns how long a model of an upstream rests after an answer that is tried again: as long as the answer asks for. A 429
 * that names no time causes a back-off, longer each time in a row; another failure causes a rest only if it asks for one.
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
