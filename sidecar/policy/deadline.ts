/**
 * Deadlines of calls. Pure; times are milliseconds on the caller's monotonic clock, and 0 always stands for "none",
 * as in the configuration.
 *
 * Each hop turns the timeout it was sent into a point in time, and sends on what is left of it, so the time a call
 * waits here counts without any two clocks being compared.
 */
import { formatTimeout } from '../grpc/timeout.ts';
import type { TimeLimitSettings } from './time-limit-settings.ts';

/**
 * The time limits that are configured for one side, an inbound listener or an outbound cluster. They are for callers who
 * named no deadline of their own: that one stands, and only `maxTimeoutMs`, which is off by default, shortens it.
 */
export interface TimeLimits extends TimeLimitSettings {
  /** Silence in both directions, of a task's stream. */
  readonly idleTimeoutMs: number;
  /** The same, of methods of which nothing is known: a stream that says little, such as a health `Watch`, is well. */
  readonly otherIdleTimeoutMs: number;
}

export const NO_TIME_LIMITS: TimeLimits = {
  timeoutMs: 0,
  maxTimeoutMs: 0,
  firstChunkTimeoutMs: 0,
  idleTimeoutMs: 0,
  otherIdleTimeoutMs: 0,
};

/** How a method is known to behave. `unknown` is treated as a stream. */
export type MethodKind = 'unary' | 'task_stream' | 'unknown';

/**
 * Whose limit a call ran into. The answer says so, because the remedy is another one. `inbound`: what is left of the
 * inbound call that an outbound one is made for.
 */
export type DeadlineOwner = 'caller' | 'configured' | 'inbound' | 'none';

/** How long a call may take, by its caller and by the configuration; 0 for no limit. */
export function allowedMs(callerTimeoutMs: number, limits: TimeLimits, kind: MethodKind): number {
  if (callerTimeoutMs > 0) return shorter(callerTimeoutMs, limits.maxTimeoutMs);
  return kind === 'unary' ? limits.timeoutMs : 0;
}

/** The owner of the limit that {@link allowedMs} took. The caller wins a tie, since it gives up at that moment. */
export function deadlineOwner(callerTimeoutMs: number, allowed: number): DeadlineOwner {
  if (allowed === 0) return 'none';
  return allowed === callerTimeoutMs ? 'caller' : 'configured';
}

/** How long neither side may send anything; 0 for no limit. A unary call is silent while it is worked on. */
export function idleTimeoutMs(limits: TimeLimits, kind: MethodKind): number {
  if (kind === 'unknown') return limits.otherIdleTimeoutMs;
  return kind === 'task_stream' ? limits.idleTimeoutMs : 0;
}

/** When an attempt must be over: by the call's deadline, or sooner by its own limit. */
export function attemptDeadlineAtMs(
  callDeadlineAtMs: number,
  nowMs: number,
  perTryTimeoutMs: number,
): number {
  return shorter(callDeadlineAtMs, perTryTimeoutMs === 0 ? 0 : nowMs + perTryTimeoutMs);
}

/** Infinity without a deadline; 0 once it has passed. */
export function timeLeftMs(deadlineMs: number, nowMs: number): number {
  return deadlineMs === 0 ? Number.POSITIVE_INFINITY : Math.max(deadlineMs - nowMs, 0);
}

/** Less than a microsecond is no time for a call: what a caller's 0 reads as, give or take the rounding of the clock. */
const LEAST_MS = 0.001;

/** Whether there is no time left to do anything in, by {@link timeLeftMs}. */
export function isTimeUp(leftMs: number): boolean {
  return leftMs < LEAST_MS;
}

/** The `grpc-timeout` for upstream; undefined when there is no deadline, and the header is to be left out. */
export function timeoutHeader(deadlineMs: number, nowMs: number): string | undefined {
  return deadlineMs === 0 ? undefined : formatTimeout(deadlineMs - nowMs);
}

/** Bounds of the time that a request, or its reset, may spend on the way to us from a busy process or host. */
const LEAST_LEEWAY_MS = 20;
const MOST_LEEWAY_MS = 1_000;

/**
 * Whether a deadline has passed for the one at the other end, who watches the same deadline by a clock of its own. The
 * caller's clock started before ours: its request waited on its way, and clients round what they write in `grpc-timeout`
 * up by as much as 1 % (C-core has three digits). So its RST_STREAM comes a little before our own clock strikes.
 *
 * @param elapsedMs since the call, or the attempt, began here
 * @param allowedMs from then to the deadline; Infinity for none
 */
export function deadlineReached(elapsedMs: number, allowedMs: number): boolean {
  return elapsedMs >= allowedMs - leewayMs(allowedMs);
}

/** A tenth, at least 20 ms but no more than a quarter of a short time, at most a second; but 1 % of any. */
function leewayMs(allowedMs: number): number {
  if (allowedMs === Number.POSITIVE_INFINITY) return 0;
  const waited = Math.min(Math.max(allowedMs * 0.1, LEAST_LEEWAY_MS), allowedMs / 4, MOST_LEEWAY_MS);
  return Math.max(waited, allowedMs * 0.01);
}

/** The smaller of two limits, of which 0 is none. */
function shorter(one: number, other: number): number {
  if (one === 0) return other;
  return other === 0 || one <= other ? one : other;
}
