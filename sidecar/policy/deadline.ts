/**
 * Deadlines of calls. Pure; times are milliseconds on the caller's monotonic clock, and 0 always means "none", as in
 * the configuration.
 *
 * Each hop turns the received timeout into a point in time, and sends on what is left of it. So the time that a call
 * waits here counts, and no two clocks need to be compared.
 */
import { formatTimeout } from '../grpc/timeout.ts';
import { STREAM_IDLE_MS, type TimeLimits } from './time-limit-settings.ts';

export const NO_TIME_LIMITS: TimeLimits = {
  timeoutMs: 0,
  maxTimeoutMs: 0,
  firstChunkTimeoutMs: 0,
  idleTimeoutMs: 0,
};

/** How a method is known to behave. `unknown` is treated as a stream. */
export type MethodKind = 'unary' | 'task_stream' | 'unknown';

/**
 * The owner of the limit that a call ran into. The answer names it, because the remedy depends on it. `inbound`: the
 * time left of the inbound call that an outbound one is made for.
 */
export type DeadlineOwner = 'caller' | 'configured' | 'inbound' | 'none';

/** How long a call may take, by its caller and by the configuration; 0 for no limit. */
export function allowedMs(callerTimeoutMs: number, limits: TimeLimits, kind: MethodKind): number {
  if (callerTimeoutMs > 0) return shorter(callerTimeoutMs, limits.maxTimeoutMs);
  return kind === 'unary' ? limits.timeoutMs : 0;
}

/** The owner of the limit that {@link allowedMs} chose. The caller wins a tie, since it gives up at that moment. */
export function deadlineOwner(callerTimeoutMs: number, allowed: number): DeadlineOwner {
  if (allowed === 0) return 'none';
  return allowed === callerTimeoutMs ? 'caller' : 'configured';
}

/**
 * How long both sides may be silent; 0 for no limit. A unary call is silent while the app works on it. By default, only the
 * stream of a task has a limit: a stream of an unknown method that sends little, such as a health `Watch`, is well.
 */
export function idleTimeoutMs(limits: TimeLimits, kind: MethodKind): number {
  if (kind === 'unary') return 0;
  return limits.idleTimeoutMs ?? (kind === 'task_stream' ? STREAM_IDLE_MS : 0);
}

/** When an attempt must be over: at the call's deadline, or earlier at its own limit. */
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

/** Less than a microsecond is no time for a call: it is a caller's 0, apart from the rounding of the clock. */
const LEAST_MS = 0.001;

/** Whether the time left, by {@link timeLeftMs}, is too short to do anything. */
export function isTimeUp(leftMs: number): boolean {
  return leftMs < LEAST_MS;
}

/** The `grpc-timeout` for upstream; undefined when there is no deadline and the header must be left out. */
export function timeoutHeader(deadlineMs: number, nowMs: number): string | undefined {
  return deadlineMs === 0 ? undefined : formatTimeout(deadlineMs - nowMs);
}

/** Bounds of the time that a request, or its reset, may spend on the way here from a busy process or host. */
const LEAST_LEEWAY_MS = 20;
const MOST_LEEWAY_MS = 1_000;

/**
 * Whether a deadline has passed at the other end, which watches the same deadline by its own clock. The caller's clock
 * started before ours: its request spent time on the way, and clients round the value of `grpc-timeout` up by as much
 * as 1 % (C-core has three digits). So its RST_STREAM arrives a little before our own clock expires.
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

/** The smaller of two limits, where 0 means none. */
function shorter(one: number, other: number): number {
  if (one === 0) return other;
  return other === 0 || one <= other ? one : other;
}
