/**
 * Hedging: a second attempt beside a slow one, at another endpoint; the first answer wins and the others are reset.
 * Only for idempotent methods, and within the retry budget. Pure.
 *
 *     first attempt ──delay──▶ second beside it ──delay──▶ … at most max_extra
 *           │                       │
 *           └───── first answer ────┴──▶ the others are cancelled (verdict `superseded`, neutral)
 *
 * An answer is a response head that is not an error, or any status that a retry would not improve. A status that may be
 * retried does not end the call while another attempt is running (gRPC proposal A6, "Hedging Policy").
 */
import type { HedgeSettings } from './hedge-settings.ts';
import { NEVER } from './pushback.ts';
import type { RetryBudget } from './retry-budget.ts';

/** A call of a method that may run twice. */
export interface HedgeCall {
  /** The number of extra attempts so far. */
  readonly extra: number;
  readonly responseStarted: boolean;
  /** All of the request that has arrived is still in memory. */
  readonly requestWhole: boolean;
  /** Infinity without a deadline. */
  readonly timeLeftMs: number;
  /** The median of the method's latencies, in milliseconds; 0 when unknown. */
  readonly usualLatencyMs: number;
  /** `CircuitBreaker.mayRetry`: neither a probe nor a call of a circuit that has opened. */
  readonly circuitAllows: boolean;
  /** The number of usable endpoints that run no attempt of the call. */
  readonly freeEndpoints: number;
  /** The last pushback that an attempt of the call received. */
  readonly pushbackMs: number | undefined;
  /** In the cluster. */
  readonly callsInFlight: number;
}

export type HedgeDecision =
  | 'send'
  | 'answered'
  | 'max_extra'
  | 'request_dropped'
  | 'pushback'
  | 'circuit'
  | 'no_endpoint'
  | 'deadline'
  | 'budget_exhausted';

/**
 * Milliseconds from the start of one attempt to the next; Infinity when no other follows.
 *
 * @param latency returns the latency that this percentage of the answers stayed within, 0 when unknown
 */
export function hedgeDelayMs(settings: HedgeSettings, latency: { at(percent: number): number }): number {
  const { delayMs, percentile } = settings;
  if (settings.maxExtra === 0) return Number.POSITIVE_INFINITY;
  const usualMs = percentile > 0 ? latency.at(percentile) : 0;
  return Math.max(delayMs, usualMs) || Number.POSITIVE_INFINITY;
}

/**
 * The delay is over without an answer: decides whether to make an extra attempt. `send` has taken a place in the
 * budget: release it when that attempt ends.
 */
export function decideHedge(
  settings: HedgeSettings,
  call: HedgeCall,
  budget: RetryBudget,
  nowMs: number,
): HedgeDecision {
  if (call.responseStarted) return 'answered';
  if (call.extra >= settings.maxExtra) return 'max_extra';
  if (call.pushbackMs === NEVER) return 'pushback';
  if (!call.circuitAllows) return 'circuit';
  if (!call.requestWhole) return 'request_dropped';
  // A second attempt at the same endpoint would wait as long as the first.
  if (call.freeEndpoints === 0) return 'no_endpoint';
  if (call.timeLeftMs <= call.usualLatencyMs) return 'deadline';
  return budget.tryAcquire(nowMs, call.callsInFlight) ? 'send' : 'budget_exhausted';
}

/**
 * Milliseconds from now to the next extra attempt after a failed one: 0, since nothing is left to wait for, or the
 * endpoint's pushback; Infinity when the pushback says never.
 */
export function hedgeAfterFailureMs(pushbackMs: number | undefined): number {
  if (pushbackMs === undefined) return 0;
  return pushbackMs === NEVER ? Number.POSITIVE_INFINITY : pushbackMs;
}
