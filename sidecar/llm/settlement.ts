/** What an attempt's end means: for the breaker, for the tokens, and for the request. Pure. */
import type { LlmOutcome } from '../telemetry/llm-stats.ts';
import type { AttemptEnd } from './attempt-owner.ts';
import type { BreakerVerdict } from './breaker.ts';
import type { AttemptKind } from './provider-record.ts';
import type { Reason } from './reasons.ts';
import type { RequestFacts } from './request-facts.ts';
import type { AttemptFailure, FailureReason, NextStep } from './retry.ts';

/**
 * What the attempt proved about the upstream. Throttling proves nothing, and neither does a caller that leaves. One
 * that is only slow has not failed: a silence counts when no other request got a sign of life either.
 */
export function verdictOf(end: AttemptEnd, cancelled: boolean): BreakerVerdict {
  if (cancelled) return end.committed ? 'success' : 'neutral';
  if (end.stale) return 'neutral';
  if (end.failure === undefined) return verdictOfStatus(end.status);
  switch (end.failure.reason) {
    case 'status':
      return verdictOfStatus(end.failure.status);
    case 'first_byte':
    case 'deadline':
      return end.failure.upstreamWasSilent ? 'failure' : 'neutral';
    case 'draining':
    case 'answer_too_large':
    case 'budget_exhausted':
      return 'neutral';
    default:
      return 'failure';
  }
}

function verdictOfStatus(status: number): BreakerVerdict {
  if (status === 429 || status === 409) return 'neutral';
  return status === 408 || status >= 500 ? 'failure' : 'success';
}

/** Refusals that are not for the caller's request but for whoever asks: a key, a right, a bill, a model or a path that is none. */
const REFUSALS: ReadonlySet<number> = new Set([401, 402, 403, 404, 407]);

/** What the attempt says of the provider, for people (`provider-record.ts`). */
export function kindOfEnd(end: AttemptEnd, cancelled: boolean, model: string): AttemptKind {
  const { failure } = end;
  if (cancelled) return end.status === 0 ? 'unanswered' : 'none';
  if (end.stale) return 'none';
  if (failure === undefined || failure.reason === 'status') return kindOfStatus(statusOfEnd(end), model);
  switch (failure.reason) {
    case 'draining':
    case 'answer_too_large':
    case 'budget_exhausted':
      return 'none';
    case 'deadline':
      // The caller may have given it too little time.
      return failure.clock === 'timeout' || failure.upstreamWasSilent ? 'failed' : 'none';
    default:
      return 'failed';
  }
}

function kindOfStatus(status: number, model: string): AttemptKind {
  if (status === 429) return 'throttled';
  // A file or a batch that is none is the caller's matter; a model, or the path to all of them, is not.
  if (REFUSALS.has(status)) return status === 404 && model === '' ? 'none' : 'refused';
  if (status === 408 || status >= 500) return 'failed';
  return status >= 400 ? 'none' : 'good';
}

/** The status that an attempt came to: of an error, that which it stands for. */
export function statusOfEnd({ failure, status }: AttemptEnd): number {
  return failure?.reason === 'status' ? failure.status : status;
}

/** Why a request was no success, for people: '' when it was one. */
export function reasonOf(end: AttemptEnd): string {
  if (end.failure !== undefined && end.failure.reason !== 'status') return end.failure.reason;
  const status = statusOfEnd(end);
  return status >= 400 ? String(status) : '';
}

export interface TokensUsed {
  readonly input: number;
  readonly output: number;
  /** The provider's own count. */
  readonly exact: boolean;
}

const NONE: TokensUsed = { input: 0, output: 0, exact: true };

/** By the answer's usage, or as well as can be told without. */
export function tokensUsed(end: AttemptEnd, facts: RequestFacts, cancelled: boolean): TokensUsed {
  const { usage } = end.facts;
  if (usage !== undefined) return { input: usage.inputTokens, output: usage.outputTokens, exact: true };
  const refused = end.status >= 400 || (end.failure !== undefined && !end.failure.mayHaveCost);
  // Before the provider has answered a caller that leaves may be early enough; it is counted as if not.
  if (refused || (end.status === 0 && end.failure === undefined && !cancelled)) return NONE;
  return { input: facts.estimatedInputTokens, output: end.estimatedOutputTokens, exact: false };
}

/** What a request has become when this was its last attempt. */
export function outcomeOf(end: AttemptEnd): LlmOutcome {
  const { failure } = end;
  if (failure === undefined) return outcomeOfStatus(end.status);
  if (failure.reason === 'status') return outcomeOfStatus(failure.status);
  if (failure.reason === 'budget_exhausted') return 'over_budget';
  if (isTimeout(failure)) return 'timeout';
  return end.committed ? 'cut' : 'failed';
}

function outcomeOfStatus(status: number): LlmOutcome {
  if (status === 429) return 'throttled';
  if (status >= 500) return 'failed';
  return status >= 400 ? 'refused' : 'success';
}

const TIMEOUTS: ReadonlySet<FailureReason> = new Set<FailureReason>(['first_byte', 'idle', 'deadline']);

function isTimeout({ reason }: AttemptFailure): boolean {
  return TIMEOUTS.has(reason);
}

export type NoStep = Extract<NextStep, { go: false }>;

/** An answer of our own. */
export interface Refusal {
  readonly reason: Reason;
  readonly message: string;
  readonly outcome: LlmOutcome;
  readonly retryAfterMs: number | undefined;
  /** The caller's client may ask again by its own rules. */
  readonly clientDecides: boolean;
}

/**
 * What a request is answered that gets no other attempt.
 *
 * @param failure of its last attempt; undefined when there was none
 * @param step why none could be made; undefined when its time is over
 */
export function refusalOf(
  failure: AttemptFailure | undefined,
  last: AttemptEnd | undefined,
  step: NoStep | undefined,
  state: {
    readonly attempts: number;
    readonly maxAttempts: number;
    readonly nowMs: number;
    /** Only the client's own clock stood against another attempt. */
    readonly clientDecides: boolean;
    /** How each upstream has failed last; '' for one that has not. */
    readonly lastErrors: readonly string[];
  },
): Refusal {
  const { clientDecides } = state;
  if (failure !== undefined && last !== undefined) {
    const ofStatus = failure.status === 429 ? 'throttled' : 'upstream_failed';
    return {
      reason: failure.reason === 'status' ? ofStatus : failure.reason,
      message: `${failure.message}; ${state.attempts} of ${state.maxAttempts} attempts were made`,
      outcome: outcomeOf({ ...last, failure, committed: false }),
      retryAfterMs: failure.retryAfterMs,
      clientDecides: failure.mayBeRunning || clientDecides,
    };
  }
  if (step === undefined) {
    const message = 'the time for the request was over before an upstream could be asked';
    return { reason: 'deadline', message, outcome: 'timeout', retryAfterMs: undefined, clientDecides };
  }
  const retryAfterMs = step.againAtMs - state.nowMs;
  const because = state.lastErrors
    .filter((error) => error !== '')
    .map((error) => `; ${error}`)
    .join('');
  if (step.because === 'circuit_open') {
    const message = `every upstream has failed too often and is left alone for a while (see /stats)${because}`;
    return { reason: 'circuit_open', message, outcome: 'failed', retryAfterMs, clientDecides };
  }
  const message = `every upstream is throttled for longer than may be waited (see /stats)${because}`;
  return { reason: 'throttled', message, outcome: 'throttled', retryAfterMs, clientDecides };
}
