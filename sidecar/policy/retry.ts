/**
 * Whether a failed attempt is followed by another, when, and where.
 *
 * Transparent retries come first (`transparent-retry.ts`): what the transport proves untouched costs no attempt and no
 * budget. What is left is asked here, and all of it must hold:
 *
 *     nothing sent to the caller → pushback allows → the code may be tried again → this hop owns the retries
 *       → attempts are left → running it again is safe → the request is still here → the circuit is closed
 *         → the deadline leaves time → the budget has room
 *
 * Safe is a call that never reached the app, one of a method declared idempotent, or a task that the other side
 * de-duplicates by its id. gRPC itself retries by code alone; an agent that runs twice is paid for twice.
 *
 * Where to: an endpoint that failed is avoided. But a task whose outcome is unknown (the connection was lost after the
 * request had been sent) goes back to the endpoint that may be running it, which joins it to the run in flight or
 * replays its answer; it goes elsewhere only when that endpoint can't be reached any more.
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
  /** So far, without transparent ones. */
  readonly attempts: number;
  /** Made by hops before this one, by their `grpc-previous-rpc-attempts`: they count against the same limit. */
  readonly callersAttempts: number;
  readonly responseStarted: boolean;
  /** All of the request that has come is still here. */
  readonly requestWhole: boolean;
  /** Infinity without a deadline. */
  readonly timeLeftMs: number;
  /** The median of the method's latencies, in milliseconds; 0 when not known. */
  readonly usualLatencyMs: number;
  /** Back-offs since the last pushback: 0 at first, then what the last decision said. */
  readonly backoffStep: number;
  /** It carries a task id, and the endpoints' sidecars have said that they de-duplicate by it. */
  readonly deduplicated: boolean;
  /** An earlier attempt may have been processed (`outcomeUnknown`). */
  readonly unknownBefore: boolean;
  /** `CircuitBreaker.mayRetry`. */
  readonly circuitAllows: boolean;
  /** Endpoints that can be used, besides the one that failed. */
  readonly otherEndpoints: number;
  /**
   * The endpoint that may be running the task, or the one that failed, is still part of the cluster and its connection
   * is not in back-off. Ejection does not matter: what runs there runs there.
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
  /** `same`: the endpoint whose outcome is unknown. `other`: any, that one only when there is no other. */
  readonly target: 'same' | 'other';
  /** For `RetryCall.backoffStep` the next time. */
  readonly backoffStep: number;
}

interface RetryGiveUp {
  readonly again: false;
  readonly reason: GiveUpReason;
  /**
   * Whom the answer, and that of the inbound call it belongs to, tells not to try again: each hop above would try as
   * often again (three hops of three attempts: 27).
   */
  readonly notAgain: NotAgain;
}

export type RetryDecision = RetryAgain | RetryGiveUp;

const BACKOFF_MULTIPLIER = 2;

/** Immutable: make a new one for new settings; the budget goes on. */
export class RetryPolicy {
  readonly maxAttempts: number;
  readonly #codes: number;
  readonly #idempotent: ReadonlySet<string>;
  readonly #backoff: Backoff;
  readonly #budget: RetryBudget;

  constructor(settings: RetrySettings, budget: RetryBudget) {
    this.maxAttempts = settings.maxAttempts;
    this.#codes = settings.on.reduce((codes, name) => codes | (1 << Status[name]), 0);
    this.#idempotent = new Set(settings.idempotentMethods);
    this.#backoff = { ...settings.backoff, multiplier: BACKOFF_MULTIPLIER };
    this.#budget = budget;
  }

  isIdempotent(method: string): boolean {
    return this.#idempotent.has(method);
  }

  /**
   * What follows the attempt that ended so. "Again" has taken a place in the budget: release it when the new attempt
   * ends, or when it is not made after all.
   *
   * @param random in [0, 1), for the jitter
   */
  next(end: AttemptEnd, call: RetryCall, nowMs: number, random: number): RetryDecision {
    const refusal = this.#refusal(end, call);
    if (refusal !== undefined) return giveUp(refusal, end, call);
    const target = this.#target(end, call);
    const pushbackMs = pushbackFor(end, call, target);
    const step = pushbackMs === undefined ? call.backoffStep + 1 : 0;
    const afterMs = pushbackMs ?? backoffMs(this.#backoff, step, random);
    // To be joined to a run in flight takes less than a run, nobody knows how much.
    const neededMs = target === 'same' ? 0 : call.usualLatencyMs;
    if (call.timeLeftMs <= afterMs + neededMs) return giveUp('deadline', end, call);
    if (!this.#budget.tryAcquire(nowMs, call.callsInFlight)) return giveUp('budget_exhausted', end, call);
    return { again: true, afterMs, target, backoffStep: step };
  }

  #refusal(end: AttemptEnd, call: RetryCall): GiveUpReason | undefined {
    if (call.responseStarted) return 'committed';
    // Whatever the code, and though this hop would not try again anyway: those above must hear of it.
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
    if (!this.#isSafe(end, call)) return 'not_safe';
    if (!call.requestWhole) return 'request_dropped';
    return call.circuitAllows ? undefined : 'circuit';
  }

  /** Whether what happened may be better at another attempt, whatever else speaks against one. */
  mayFollow(end: AttemptEnd): boolean {
    if (this.#allows(end.status)) return true;
    // An endpoint that is silent, gives no status, or whose sidecar sends callers away, is unavailable under another code.
    const silent = end.kind === 'per_try' || end.kind === 'first_chunk' || end.kind === 'no_status';
    return this.#allows(Status.UNAVAILABLE) && (silent || turnedAwayBySidecar(end));
  }

  #allows(status: StatusCode): boolean {
    return (this.#codes & (1 << status)) !== 0;
  }

  #isSafe(end: AttemptEnd, call: RetryCall): boolean {
    if (neverReachedApp(end) && !call.unknownBefore) return true;
    return call.deduplicated || this.#idempotent.has(call.method);
  }

  #target(end: AttemptEnd, call: RetryCall): 'same' | 'other' {
    if (!call.deduplicated || !call.sameReachable) return 'other';
    const idempotent = this.#idempotent.has(call.method);
    if (outcomeUnknown(end)) {
      // A silent endpoint may be running it, or may have stopped: who may run it twice goes where someone answers.
      const silent = end.kind === 'per_try' || end.kind === 'first_chunk';
      return silent && idempotent ? 'other' : 'same';
    }
    // Turned away now, but an earlier attempt may still be running there.
    return call.unknownBefore && neverReachedApp(end) && !idempotent ? 'same' : 'other';
  }
}

/** Whether the attempt may have been processed, or may still be: it was sent, and no answer says what became of it. */
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
    default:
      return false;
  }
}

/**
 * The wait that the endpoint has asked for, in place of a back-off. What a sidecar asks that sent the call away before
 * its app is about that endpoint alone (its load, its circuit), and does not hold for another one.
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
      // Used up by the caller's own attempts: how many it makes is its own decision.
      return call.attempts > 1 ? NotAgain.EVERYBODY : NotAgain.SIDECARS;
    case 'not_safe':
    case 'budget_exhausted':
      // A sidecar above that has its agent run again has this call made again, which this hop has ruled out.
      return NotAgain.SIDECARS;
    default:
      return NotAgain.NOBODY;
  }
}
