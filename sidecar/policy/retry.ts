/**
 * Whether another attempt follows a failed one, when, and where.
 *
 * Transparent retries come first (`transparent-retry.ts`): what the transport proves untouched uses no attempt and no
 * budget. For the other failures this policy decides, and all of these must hold:
 *
 *     nothing sent to the caller → pushback allows → the code may be tried again → this hop owns the retries
 *       → attempts are left → running it again is safe → the request is still here → the circuit is closed
 *         → the deadline leaves time → the budget has room
 *
 * A call is safe if it never reached the app, if its method is declared idempotent, or if it is a task that the other
 * side de-duplicates by its id. gRPC itself retries by code alone; but a second run of an agent costs as much as the
 * first.
 *
 * The target: a retry avoids the endpoint that failed. But a task whose outcome is unknown (the connection was lost
 * after the request had been sent) returns to the endpoint that may be running it, which joins it to the run in
 * progress or replays its answer; it goes elsewhere only when that endpoint is not reachable any more.
 *
 * Sources: gRPC proposal A6, "Retryable Status Codes", "Exponential Backoff", "Pushback".
 */
import { type Backoff, backoffMs } from '../clock/backoff.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import { type AttemptEnd, neverReachedApp, turnedAwayBySidecar } from './attempt-end.ts';
import { NEVER, NotAgain } from './pushback.ts';
import type { RetryBudget } from './retry-budget.ts';
import type { RetrySettings } from './retry-settings.ts';

/** What the policy must know of the call. A call can have these fields itself. */
export interface RetryCall {
  /** The path, `/package.Service/Method`. */
  readonly method: string;
  /** The number of attempts so far, without transparent ones. */
  readonly attempts: number;
  /** Attempts of hops before this one, by their `grpc-previous-rpc-attempts`: they count against the same limit. */
  readonly callersAttempts: number;
  readonly responseStarted: boolean;
  /** All of the request that has arrived is still in memory. */
  readonly requestWhole: boolean;
  /** Infinity without a deadline. */
  readonly timeLeftMs: number;
  /** The median of the method's latencies, in milliseconds; 0 when unknown. */
  readonly usualLatencyMs: number;
  /** Back-offs since the last pushback: 0 at first, then the value of the last decision. */
  readonly backoffStep: number;
  /** The call carries a task id, and the endpoints' sidecars have announced that they de-duplicate by it. */
  readonly deduplicated: boolean;
  /** The endpoint may have processed an earlier attempt (`outcomeUnknown`). */
  readonly unknownBefore: boolean;
  /** `CircuitBreaker.mayRetry`. */
  readonly circuitAllows: boolean;
  /** The number of usable endpoints besides the one that failed. */
  readonly otherEndpoints: number;
  /**
   * The endpoint that may be running the task, or the one that failed, is still part of the cluster, and its connection
   * is not in back-off. Ejection does not matter: the task keeps running there.
   */
  readonly sameReachable: boolean;
  /** In the cluster. */
  readonly callsInFlight: number;
}

export type GiveUpReason =
  | 'committed'
  | 'retries_off'
  | 'ended'
  | 'code'
  | 'pushback'
  | 'attempts_exhausted'
  | 'not_safe'
  | 'request_dropped'
  | 'circuit'
  | 'deadline'
  | 'budget_exhausted';

interface RetryAgain {
  readonly again: true;
  readonly afterMs: number;
  /** `same`: the endpoint whose outcome is unknown. `other`: any; that one only when there is no other. */
  readonly target: 'same' | 'other';
  /** The next value of `RetryCall.backoffStep`. */
  readonly backoffStep: number;
}

interface RetryGiveUp {
  readonly again: false;
  readonly reason: GiveUpReason;
  /**
   * The callers that must not try again, by this call's answer and by that of the inbound call it belongs to: each hop
   * above would multiply the attempts (three hops of three attempts: 27).
   */
  readonly notAgain: NotAgain;
}

export type RetryDecision = RetryAgain | RetryGiveUp;

export const RETRY_MULTIPLIER = 2;

/** Immutable: create a new one for new settings, with the same budget. */
export class RetryPolicy {
  readonly maxAttempts: number;
  private readonly codes: number;
  private readonly idempotent: ReadonlySet<string>;
  private readonly backoff: Backoff;
  private readonly budget: RetryBudget;

  constructor(settings: RetrySettings, budget: RetryBudget) {
    this.maxAttempts = settings.maxAttempts;
    this.codes = settings.on.reduce((codes, name) => codes | (1 << Status[name]), 0);
    this.idempotent = new Set(settings.idempotentMethods);
    this.backoff = { ...settings.backoff, multiplier: RETRY_MULTIPLIER };
    this.budget = budget;
  }

  isIdempotent(method: string): boolean {
    return this.idempotent.has(method);
  }

  /**
   * Decides what follows the attempt that ended in this way. "Again" has taken a place in the budget: release it when
   * the new attempt ends, or when it is not made after all.
   *
   * @param random in [0, 1), for the jitter
   */
  next(end: AttemptEnd, call: RetryCall, nowMs: number, random: number): RetryDecision {
    const refusal = this.refusal(end, call);
    if (refusal !== undefined) return giveUp(refusal, end, call);
    const target = this.target(end, call);
    const pushbackMs = pushbackFor(end, call, target);
    const step = pushbackMs === undefined ? call.backoffStep + 1 : 0;
    const afterMs = pushbackMs ?? backoffMs(this.backoff, step, random);
    // Joining a run in progress takes less time than a run; how much less is unknown.
    const neededMs = target === 'same' ? 0 : call.usualLatencyMs;
    if (call.timeLeftMs <= afterMs + neededMs) return giveUp('deadline', end, call);
    if (!this.budget.tryAcquire(nowMs, call.callsInFlight)) return giveUp('budget_exhausted', end, call);
    return { again: true, afterMs, target, backoffStep: step };
  }

  private refusal(end: AttemptEnd, call: RetryCall): GiveUpReason | undefined {
    if (call.responseStarted) return 'committed';
    // Check this before the code, even when this hop would not try again: the hops above must be notified.
    if (end.pushbackMs === NEVER || end.notAgain !== NotAgain.NOBODY) return 'pushback';
    if (this.maxAttempts <= 1) return 'retries_off';
    switch (end.kind) {
      case 'deadline':
        return 'deadline';
      case 'cancelled':
      case 'superseded':
      case 'shutdown':
      case 'first_message':
        return 'ended';
    }
    // Another endpoint would wait for the same caller.
    if (end.kind === 'idle' && !end.answerOwed) return 'ended';
    if (!this.mayFollow(end)) return 'code';
    if (call.callersAttempts + call.attempts >= this.maxAttempts) return 'attempts_exhausted';
    if (!this.isSafe(end, call)) return 'not_safe';
    if (!call.requestWhole) return 'request_dropped';
    return call.circuitAllows ? undefined : 'circuit';
  }

  /** Whether another attempt may have a better result, regardless of the other conditions. */
  mayFollow(end: AttemptEnd): boolean {
    if (this.allows(end.status)) return true;
    // An endpoint that is silent, gives no status, or whose sidecar sends callers away is unavailable, under another
    // code.
    const silent = end.kind === 'per_try' || end.kind === 'first_chunk' || end.kind === 'no_status';
    return this.allows(Status.UNAVAILABLE) && (silent || turnedAwayBySidecar(end));
  }

  private allows(status: StatusCode): boolean {
    return (this.codes & (1 << status)) !== 0;
  }

  private isSafe(end: AttemptEnd, call: RetryCall): boolean {
    if (neverReachedApp(end) && !call.unknownBefore) return true;
    return call.deduplicated || this.idempotent.has(call.method);
  }

  private target(end: AttemptEnd, call: RetryCall): 'same' | 'other' {
    if (!call.deduplicated || !call.sameReachable) return 'other';
    const idempotent = this.idempotent.has(call.method);
    if (outcomeUnknown(end)) {
      // A silent endpoint may be running the task or may have stopped: a call that may run twice goes to another
      // endpoint.
      const silent = end.kind === 'per_try' || end.kind === 'first_chunk';
      return silent && idempotent ? 'other' : 'same';
    }
    // The endpoint refused this attempt, but may still be running an earlier one.
    return call.unknownBefore && neverReachedApp(end) && !idempotent ? 'same' : 'other';
  }
}

/** Whether the attempt may have been processed, or may still be: it was sent, and no answer gives its outcome. */
export function outcomeUnknown(end: AttemptEnd): boolean {
  switch (end.kind) {
    case 'no_status':
    case 'http_status':
    case 'reset':
    case 'goaway':
    case 'connection_lost':
    case 'protocol':
    case 'per_try':
    case 'first_chunk':
    case 'idle':
    case 'deadline':
      return !end.unprocessed;
    case 'first_message':
    case 'status':
    case 'no_connection':
    case 'no_streams':
    case 'own_limit':
    case 'cancelled':
    case 'superseded':
    case 'shutdown':
      return false;
    default:
      return end.kind satisfies never;
  }
}

/**
 * The pushback of the endpoint, which replaces a back-off. A sidecar that refused the call before its app asks for a
 * wait at that endpoint alone (for its load, its circuit), which does not apply to another one.
 */
function pushbackFor(end: AttemptEnd, call: RetryCall, target: 'same' | 'other'): number | undefined {
  const goesElsewhere = target === 'other' && call.otherEndpoints > 0;
  return turnedAwayBySidecar(end) && goesElsewhere ? undefined : end.pushbackMs;
}

function giveUp(reason: GiveUpReason, end: AttemptEnd, call: RetryCall): RetryGiveUp {
  return { again: false, reason, notAgain: notAgain(reason, end, call) };
}

function notAgain(reason: GiveUpReason, end: AttemptEnd, call: RetryCall): NotAgain {
  switch (reason) {
    case 'pushback':
      return end.notAgain || NotAgain.SIDECARS;
    case 'attempts_exhausted':
      // The caller's own attempts used the limit up: the caller alone decides how many it makes.
      return call.attempts > 1 ? NotAgain.EVERYBODY : NotAgain.SIDECARS;
    case 'not_safe':
    case 'budget_exhausted':
      // A sidecar above would have its agent run again and repeat this call, which this hop has ruled out.
      return NotAgain.SIDECARS;
    case 'committed':
    case 'retries_off':
    case 'ended':
    case 'code':
    case 'request_dropped':
    case 'circuit':
    case 'deadline':
      return NotAgain.NOBODY;
    default:
      return reason satisfies never;
  }
}
