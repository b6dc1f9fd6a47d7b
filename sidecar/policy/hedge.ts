/**
 * Hedging: a second attempt beside one that is slow, at another endpoint; the first answer wins and the others are
 * reset. For idempotent methods only, and within the retry budget. Pure.
 *
 *     first attempt ──delay──▶ second beside it ──delay──▶ … at most max_extra
 *           │                       │
 *           └───── first answer ────┴──▶ the others are cancelled (verdict `superseded`, neutral)
 *
 * An answer is a response head that is not an error, or any status that retrying would not help. A status that may be
 * retried does not end the call as long as another attempt is running (gRPC proposal A6, "Hedging Policy").
 */
import type { HedgeSettings } from './hedge-settings.ts';
import { NEVER } from './pushback.ts';
import type { RetryBudget } from './retry-budget.ts';

/** A call of a method that may run twice. */
export interface HedgeCall {
  /** Extra attempts so far. */
  readonly extra: number;
  readonly responseStarted: boolean;
  /** All of the request that has come is still here. */
  readonly requestWhole: boolean;
  /** Infinity without a deadline. */
  readonly timeLeftMs: number;
  /** The median of the method's latencies, in milliseconds; 0 when not known. */
  readonly usualLatencyMs: number;
  /** `CircuitBreaker.mayRetry`: neither a probe nor a call of a circuit that has opened. */
  readonly circuitAllows: boolean;
  /** Endpoints that can be used and where no attempt of the call is running. */
  readonly freeEndpoints: number;
  /** The last pushback that an attempt of the call was answered with. */
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
 * Milliseconds from the start of one attempt to the next; Infinity when there is to be none.
 *
 * @param latency gives the latency that so many percent of the answers kept to, 0 when not known
 */
export function hedgeDelayMs(settings: HedgeSettings, latency: { at(percent: number): number }): number {
  const { delayMs, percentile } = settings;
  if (settings.maxExtra === 0) return Number.POSITIVE_INFINITY;
  const usualMs = percentile > 0 ? latency.at(percentile) : 0;
  return Math.max(delayMs, usualMs) || Number.POSITIVE_INFINITY;
}

/**
 * The delay is over and no answer has come: is an extra attempt made? `send` has taken a place in the budget: release
 * it when that attempt ends.
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
  // Beside itself at the same endpoint an attempt would only wait twice.
  if (call.freeEndpoints === 0) return 'no_endpoint';
  if (call.timeLeftMs <= call.usualLatencyMs) return 'deadline';
  return budget.tryAcquire(nowMs, call.callsInFlight) ? 'send' : 'budget_exhausted';
}

/**
 * Milliseconds from now to the next extra attempt after one that failed: at once, since nobody needs to wait for what
 * has failed, or when the endpoint's pushback says; Infinity when it says never.
 */
export function hedgeAfterFailureMs(pushbackMs: number | undefined): number {
  if (pushbackMs === undefined) return 0;
  return pushbackMs === NEVER ? Number.POSITIVE_INFINITY : pushbackMs;
}
