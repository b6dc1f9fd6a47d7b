/** The input and output of a circuit breaker: evidence, state, cause of an opening, rejections. */
import type { Arrows } from '../errors/illegal-step.ts';
import type { VerdictReason } from './verdicts.ts';

/**
 * An admitted call: the generation of a closed circuit (0 or more), or the number of a probe (below 0). It is a number
 * so that an admission allocates nothing.
 */
export type CircuitAdmission = number;

export function isProbe(admission: CircuitAdmission): boolean {
  return admission < 0;
}

/** The attempt that gave the verdict; an attempt object has these fields itself. */
export interface CircuitEvidence {
  /** Compared by identity; undefined when attempts at several endpoints failed. */
  readonly endpoint: unknown;
  readonly startedAtMs: number;
  /** When a stream got its first verdict; 0 without one. */
  readonly firstMessageAtMs: number;
  /** True when the endpoint was not reachable, false when it was; undefined when that is unknown (`reach.ts`). */
  readonly unreachable: boolean | undefined;
  /** Nothing arrived in time, and a check whether the endpoint is alive is running; see `circuit-reach.ts`. */
  readonly silent: boolean;
}

/** For verdicts that come from no single endpoint: they always count in full. */
export const ANY_ENDPOINT: CircuitEvidence = {
  endpoint: undefined,
  startedAtMs: Number.POSITIVE_INFINITY,
  firstMessageAtMs: 0,
  unreachable: undefined,
  silent: false,
};

export type CircuitState = 'closed' | 'half_open' | 'open';

/** The arrows of the drawing in `circuit-breaker.ts`. */
export const CIRCUIT_ARROWS: Arrows<CircuitState> = {
  closed: ['open'],
  open: ['half_open', 'closed'],
  half_open: ['closed', 'open'],
};

/** For the metric `outrigger_circuit_state`. */
export const CIRCUIT_STATE_VALUE: Readonly<Record<CircuitState, number>> = {
  closed: 0,
  half_open: 1,
  open: 2,
};

/**
 * The rule that opened a circuit: this many calls in a row failed; this many streams in a row were cut after their
 * first message; the share of failures was too high; or a probe failed and opened it again.
 */
export interface CircuitCause {
  readonly rule: 'consecutive_failures' | 'consecutive_cuts' | 'failure_percent' | 'probe';
  readonly failures: number;
  /** The number of calls that the rule counted; equal to `failures` for the rules without a share. */
  readonly calls: number;
  /** The time over which these calls were counted; 0 for the other rules. */
  readonly overMs: number;
  /** Why the most recent of them failed, in order. */
  readonly reasons: readonly VerdictReason[];
}

export interface CircuitTransition {
  readonly from: CircuitState;
  readonly to: CircuitState;
  readonly atMs: number;
  /** What opened the circuit; undefined for other transitions. */
  readonly cause: CircuitCause | undefined;
  /** How long the circuit will stay open; 0 for other transitions. */
  readonly openForMs: number;
  /** How often it has opened without a recovery in between; 1 for the first time. */
  readonly openings: number;
  /**
   * Open: no endpoint was reachable, so something must look for them. Half-open: an endpoint is reachable again, before
   * the recovery timeout is over. False for other transitions.
   */
  readonly unreachable: boolean;
}

/** A rejected call. The breaker changes and returns the same object again: read it at once. */
export interface CircuitRejection {
  readonly state: CircuitState;
  readonly cause: CircuitCause;
  /** The circuit is open because no endpoint was reachable, and ends when one is. */
  readonly unreachable: boolean;
  /** When another try may be admitted, in milliseconds from now; for `grpc-retry-pushback-ms`. */
  readonly retryAfterMs: number;
}

/** Describes the cause for `grpc-message`, `/clusters` and the log. */
export function describeCause({ rule, failures, calls, overMs, reasons }: CircuitCause): string {
  const why = countReasons(reasons);
  switch (rule) {
    case 'consecutive_failures':
      return `${failures} calls in a row failed (${why})`;
    case 'consecutive_cuts':
      return `${failures} streams in a row were cut (${why})`;
    case 'failure_percent':
      return `${failures} of ${calls} calls in ${Math.round(overMs / 100) / 10} s failed (latest: ${why})`;
    case 'probe':
      return `a probe failed (${why})`;
    default:
      return rule satisfies never;
  }
}

/** `unavailable, unavailable, reset` → `2 × unavailable, reset`. */
function countReasons(reasons: readonly VerdictReason[]): string {
  const counts = new Map<VerdictReason, number>();
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(([reason, count]) => (count === 1 ? reason : `${count} × ${reason}`)).join(', ');
}

/** Describes a rejection: tells the caller that it is not at fault, and when to try again. */
export function describeRejection({ state, cause, unreachable, retryAfterMs }: CircuitRejection): string {
  const when = `try again in ${Math.ceil(retryAfterMs / 100) / 10} s`;
  const until = unreachable ? ' until an endpoint can be reached' : '';
  return state === 'open'
    ? `the circuit is open${until}: ${describeCause(cause)}; ${when}`
    : `the circuit is half-open and its probes are out, since ${describeCause(cause)}; ${when}`;
}
