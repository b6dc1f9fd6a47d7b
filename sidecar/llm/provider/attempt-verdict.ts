/**
 * Judges how a provider attempt ended: what it proves to the breaker, what it cost in tokens, and what the request came to.
 * Pure.
 */

import type { Outcome } from '../../policy/verdicts.ts';
import type { LlmOutcome } from '../../telemetry/llm-stats.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { ProviderFailure, ProviderFailureReason } from '../shared/provider-failure.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import type { ProviderAttemptKind } from './provider-record.ts';

/**
 * What the attempt proved about the upstream. Throttling proves nothing, and neither does a caller that leaves. One
 * that is only slow has not failed: a silence counts when no other request got a sign of life either.
 */
export function verdictOnUpstream(end: ProviderAttemptEnd, cancelled: boolean): Outcome {
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

function verdictOfStatus(status: number): Outcome {
  if (status === 429 || status === 409) return 'neutral';
  return status === 408 || status >= 500 ? 'failure' : 'success';
}

/** Refusals that are not for the caller's request but for whoever asks: a key, a right, a bill, a model or a path that is none. */
const REFUSALS: ReadonlySet<number> = new Set([401, 402, 403, 404, 407]);

/** What the attempt says of the provider, for people (`provider-record.ts`). */
export function kindOfEnd(end: ProviderAttemptEnd, cancelled: boolean, model: string): ProviderAttemptKind {
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

function kindOfStatus(status: number, model: string): ProviderAttemptKind {
  if (status === 429) return 'throttled';
  // A file or a batch that is none is the caller's matter; a model, or the path to all of them, is not.
  if (REFUSALS.has(status)) return status === 404 && model === '' ? 'none' : 'refused';
  if (status === 408 || status >= 500) return 'failed';
  return status >= 400 ? 'none' : 'good';
}

/** The status that an attempt came to: of an error, that which it stands for. */
export function statusOfEnd({ failure, status }: ProviderAttemptEnd): number {
  return failure?.reason === 'status' ? failure.status : status;
}

/** Why a request was no success, for people: '' when it was one. */
export function reasonOf(end: ProviderAttemptEnd): string {
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
export function tokensUsed(end: ProviderAttemptEnd, facts: RequestFacts, cancelled: boolean): TokensUsed {
  const { usage } = end.facts;
  if (usage !== undefined) return { input: usage.inputTokens, output: usage.outputTokens, exact: true };
  const refused = end.status >= 400 || (end.failure !== undefined && !end.failure.mayHaveCost);
  // Before the provider has answered a caller that leaves may be early enough; it is counted as if not.
  if (refused || (end.status === 0 && end.failure === undefined && !cancelled)) return NONE;
  return { input: facts.estimatedInputTokens, output: end.estimatedOutputTokens, exact: false };
}

/** What a request has become when this was its last attempt. */
export function requestOutcomeOf(end: ProviderAttemptEnd): LlmOutcome {
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

const TIMEOUTS: ReadonlySet<ProviderFailureReason> = new Set<ProviderFailureReason>([
  'first_byte',
  'idle',
  'deadline',
]);

function isTimeout({ reason }: ProviderFailure): boolean {
  return TIMEOUTS.has(reason);
}
