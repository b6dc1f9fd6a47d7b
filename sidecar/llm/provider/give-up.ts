/** Chooses the refusal of a request that gets no other attempt: a model's 429 becomes `throttled` here. Pure. */
import type { LlmOutcome } from '../../telemetry/llm-stats.ts';
import type { RefusalReason } from '../caller/refusals.ts';
import type { ProviderFailure } from '../shared/provider-failure.ts';
import { requestOutcomeOf } from './attempt-verdict.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import type { NextStep } from './provider-retry.ts';

export type NoStep = Extract<NextStep, { go: false }>;

/** A refusal, before it is written. */
export interface Refusal {
  readonly reason: RefusalReason;
  readonly message: string;
  readonly outcome: LlmOutcome;
  readonly retryAfterMs: number | undefined;
  /** The caller's client decides by its own rules whether it retries. */
  readonly clientDecides: boolean;
}

/**
 * Returns the refusal of a request that gets no other attempt.
 *
 * @param failure the failure of its last attempt; undefined without an attempt
 * @param step why no attempt could be made; undefined when the time is over
 */
export function refusalOf(
  failure: ProviderFailure | undefined,
  last: ProviderAttemptEnd | undefined,
  step: NoStep | undefined,
  state: {
    readonly attempts: number;
    readonly maxAttempts: number;
    readonly nowMs: number;
    /** Only the client's own clock prevented another attempt. */
    readonly clientDecides: boolean;
    /** The latest failure of each upstream; '' without one. */
    readonly lastErrors: readonly string[];
  },
): Refusal {
  const { clientDecides } = state;
  if (failure !== undefined && last !== undefined) {
    const ofStatus = failure.status === 429 ? 'throttled' : 'upstream_failed';
    return {
      reason: failure.reason === 'status' ? ofStatus : failure.reason,
      message: `${failure.message}; ${state.attempts} of ${state.maxAttempts} attempts were made`,
      outcome: requestOutcomeOf({ ...last, failure, committed: false }),
      retryAfterMs: failure.retryAfterMs,
      clientDecides: failure.mayBeRunning || clientDecides,
    };
  }
  if (step === undefined) {
    const message =
      'the time for the request was over before an upstream was free; give the request more time';
    return { reason: 'deadline', message, outcome: 'timeout', retryAfterMs: undefined, clientDecides };
  }
  const retryAfterMs = step.againAtMs - state.nowMs;
  const because = state.lastErrors
    .filter((error) => error !== '')
    .map((error) => `; ${error}`)
    .join('');
  if (step.because === 'circuit_open') {
    const message = `the circuit of every upstream is open after too many failures; try again later, and see /stats${because}`;
    return { reason: 'circuit_open', message, outcome: 'failed', retryAfterMs, clientDecides };
  }
  const message = `every upstream is throttled for longer than max_retry_after; try again later, and see /stats${because}`;
  return { reason: 'throttled', message, outcome: 'throttled', retryAfterMs, clientDecides };
}
