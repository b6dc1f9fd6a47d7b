/**
 * Judges the end of a provider attempt: what it proves to the breaker, how many tokens it cost, and how its request ended.
 * Pure.
 */

import type { Outcome } from '../../policy/verdicts.ts';
import type { LlmOutcome } from '../../telemetry/llm-stats.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { ProviderFailureReason } from '../shared/provider-failure.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import type { ProviderAttemptKind } from './provider-record.ts';

/**
 * Returns what the attempt proved about the upstream. Throttling proves nothing, and neither does a caller that leaves. An
 * upstream that is only slow has not failed: silence counts when no other request had a sign of life either.
 */
export function verdictOnUpstream(end: ProviderAttemptEnd, cancelled: boolean): Outcome {
  if (cancelled) return end.committed ? 'success' : 'neutral';
  if (end.stale) return 'neutral';
  if (end.failure === undefined) return statusVerdict(end.status);
  const { reason } = end.failure;
  switch (reason) {
    case 'status':
      return statusVerdict(end.failure.status);
    case 'first_byte':
    case 'deadline':
      return end.failure.upstreamWasSilent ? 'failure' : 'neutral';
    case 'draining':
    case 'answer_too_large':
    case 'budget_exhausted':
      return 'neutral';
    case 'connect_failed':
    case 'connection_lost':
    case 'upstream_protocol':
    case 'idle':
    case 'stream_cut':
    case 'answer_cut':
    case 'malformed_answer':
      return 'failure';
    default:
      return reason satisfies never;
  }
}

function statusVerdict(status: number): Outcome {
  if (status === 429 || status === 409) return 'neutral';
  return status === 408 || status >= 500 ? 'failure' : 'success';
}

/**
 * The statuses with which a provider refuses not this request but whoever sends it: a key, a right or a payment is missing,
 * or the model or the path does not exist.
 */
const REFUSALS: ReadonlySet<number> = new Set([401, 402, 403, 404, 407]);

/** Returns what the attempt says about the provider, for operators (`provider-record.ts`). */
export function kindOfEnd(end: ProviderAttemptEnd, cancelled: boolean, model: string): ProviderAttemptKind {
  const { failure } = end;
  if (cancelled) return end.status === 0 ? 'unanswered' : 'none';
  if (end.stale) return 'none';
  if (failure === undefined || failure.reason === 'status') return kindOfStatus(statusOfEnd(end), model);
  const { reason } = failure;
  switch (reason) {
    case 'draining':
    case 'answer_too_large':
    case 'budget_exhausted':
      return 'none';
    case 'deadline':
      // The caller may have left it too little time.
      return failure.clock === 'timeout' || failure.upstreamWasSilent ? 'failed' : 'none';
    case 'connect_failed':
    case 'connection_lost':
    case 'upstream_protocol':
    case 'first_byte':
    case 'idle':
    case 'stream_cut':
    case 'answer_cut':
    case 'malformed_answer':
      return 'failed';
    default:
      return reason satisfies never;
  }
}

function kindOfStatus(status: number, model: string): ProviderAttemptKind {
  if (status === 429) return 'throttled';
  // The caller may ask for a file or a batch that does not exist; a missing model or base path is the operator's matter.
  if (REFUSALS.has(status)) return status === 404 && model === '' ? 'none' : 'refused';
  if (status === 408 || status >= 500) return 'failed';
  return status >= 400 ? 'none' : 'good';
}

/** Returns the status of the answer; for an error inside an answer, the status that the error stands for. */
export function statusOfEnd({ failure, status }: ProviderAttemptEnd): number {
  return failure?.reason === 'status' ? failure.status : status;
}

/** Returns why the request failed, for operators; '' for a success. */
export function reasonOf(end: ProviderAttemptEnd): string {
  if (end.failure !== undefined && end.failure.reason !== 'status') return end.failure.reason;
  const status = statusOfEnd(end);
  return status >= 400 ? String(status) : '';
}

export interface TokensUsed {
  readonly input: number;
  readonly output: number;
  /** The provider has counted them. */
  readonly exact: boolean;
}

const NONE: TokensUsed = { input: 0, output: 0, exact: true };

/** Returns the tokens by the answer's usage, or an estimate without one. */
export function tokensUsed(end: ProviderAttemptEnd, facts: RequestFacts, cancelled: boolean): TokensUsed {
  const { usage } = end.facts;
  // Some servers say 0 where they count nothing: a prompt has tokens, and so has a text.
  const isCounted =
    usage !== undefined &&
    (usage.inputTokens > 0 || facts.estimatedInputTokens === 0) &&
    (usage.outputTokens > 0 || end.estimatedOutputTokens === 0);
  if (isCounted) return { input: usage.inputTokens, output: usage.outputTokens, exact: true };
  const refused = end.status >= 400 || (end.failure !== undefined && !end.failure.mayHaveCost);
  // A caller that leaves before the answer may leave before the model has worked; the estimate assumes that it did not.
  if (refused || (end.status === 0 && end.failure === undefined && !cancelled)) return NONE;
  return { input: facts.estimatedInputTokens, output: end.estimatedOutputTokens, exact: false };
}

/** Returns the outcome of a request whose last attempt this was. */
export function requestOutcomeOf(end: ProviderAttemptEnd): LlmOutcome {
  const { failure } = end;
  if (failure === undefined) return outcomeOfStatus(end.status);
  if (failure.reason === 'status') return outcomeOfStatus(failure.status);
  if (failure.reason === 'budget_exhausted') return 'over_budget';
  if (TIMEOUTS.has(failure.reason)) return 'timeout';
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
