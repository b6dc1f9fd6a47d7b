/** What a circuit breaker is told, and what it tells of itself: its state, what opened it, whom it turns away. */
import type { VerdictReason } from './verdicts.ts';

/**
 * A call that was let in: the generation of a closed circuit (0 or more), or a probe's number (below 0). A number, so
 * that letting a call in allocates nothing.
 */
export type CircuitAdmission = number;

export function isProbe(admission: CircuitAdmission): boolean {
  return admission < 0;
}

/** The attempt that gave the verdict; an attempt object has these fields itself. */
export interface CircuitEvidence {
  /** Compared by identity; undefined when attempts at several endpoints have failed the call. */
  readonly endpoint: unknown;
  readonly startedAtMs: number;
  /** When the first verdict of a stream was given; 0 when there was none. */
  readonly firstMessageAtMs: number;
  /** Nobody was there, or somebody was; undefined when it may be either (`reach.ts`). */
  readonly unreachable: boolean | undefined;
  /** Nothing came in time, and whether somebody was there is being asked; see `circuit-reach.ts`. */
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

/** For the metric `outrigger_circuit_state`. */
export const CIRCUIT_STATE_VALUE: Readonly<Record<CircuitState, number>> = {
  closed: 0,
  half_open: 1,
  open: 2,
};

/**
 * What opened a circuit: so many calls in a row failed; so many streams in a row were cut after their first message;
 * the share of failures was too high; or a probe failed and opened it again.
 */
export interface CircuitCause {
  readonly rule: 'consecutive_failures' | 'consecutive_cuts' | 'failure_percent' | 'probe';
  readonly failures: number;
  /** Of so many calls; equal to `failures` for the other rules. */
  readonly calls: number;
  /** The time these calls were looked at over; 0 for the other rules. */
  readonly overMs: number;
  /** Why the latest of them failed, the latest last. */
  readonly reasons: readonly VerdictReason[];
}

export interface CircuitTransition {
  readonly from: CircuitState;
  readonly to: CircuitState;
  readonly atMs: number;
  /** What opened it; undefined for other moves. */
  readonly cause: CircuitCause | undefined;
  /** How long it will stay open; 0 for other moves. */
  readonly openForMs: number;
  /** How often it has opened without having recovered in between; 1 for the first time. */
  readonly openings: number;
  /**
   * Open: it opened because nobody could be reached, so that somebody should look for the endpoints. Half-open: one of
   * them can be reached again, before the recovery timeout is over. False for other moves.
   */
  readonly unreachable: boolean;
}

/** A call that was not let in. The breaker changes and gives out the same object again: read it at once. */
export interface CircuitRejection {
  readonly state: CircuitState;
  readonly cause: CircuitCause;
  /** It is open because nobody could be reached, and ends when somebody can. */
  readonly unreachable: boolean;
  /** When another try may get in, in milliseconds from now; for `grpc-retry-pushback-ms`. */
  readonly retryAfterMs: number;
}

/** The cause in words, for `grpc-message`, `/clusters` and the log. */
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
  }
}

/** `unavailable, unavailable, reset` → `2 × unavailable, reset`. */
function countReasons(reasons: readonly VerdictReason[]): string {
  const counts = new Map<VerdictReason, number>();
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(([reason, count]) => (count === 1 ? reason : `${count} × ${reason}`)).join(', ');
}

/** A rejection in words: what to tell the caller, which is that it is not its fault and when to come again. */
export function describeRejection({ state, cause, unreachable, retryAfterMs }: CircuitRejection): string {
  const when = `try again in ${Math.ceil(retryAfterMs / 100) / 10} s`;
  const until = unreachable ? ' until an endpoint can be reached' : '';
  return state === 'open'
    ? `the circuit is open${until}: ${describeCause(cause)}; ${when}`
    : `the circuit is half-open and its probes are out, since ${describeCause(cause)}; ${when}`;
}
