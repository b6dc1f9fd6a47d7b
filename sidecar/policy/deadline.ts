/**
 * Deadlines of calls. Pure; times are milliseconds on the caller's monotonic clock, and 0 always stands for "none",
 * as in the configuration.
 *
 * Each hop turns the timeout it was sent into a point in time, and sends on what is left of it, so the time a call
 * waits here counts without any two clocks being compared.
 */
import { formatTimeout } from '../grpc/timeout.ts';

/**
 * Whose limit a call ran into. The answer says so, because the remedy is another one. `inbound`: what is left of the
 * inbound call that an outbound one is made for.
 */
export type DeadlineOwner = 'caller' | 'configured' | 'inbound' | 'none';

/** When a call that came at `startMs` must be over: by the shorter of the timeouts; 0 for no limit. */
export function deadlineAtMs(startMs: number, callerTimeoutMs: number, configuredTimeoutMs: number): number {
  const timeoutMs = shorter(callerTimeoutMs, configuredTimeoutMs);
  return timeoutMs === 0 ? 0 : startMs + timeoutMs;
}

/** Whose timeout {@link deadlineAtMs} went by. Of two equal ones it is the caller's: it is giving up just then. */
export function deadlineOwner(callerTimeoutMs: number, configuredTimeoutMs: number): DeadlineOwner {
  if (callerTimeoutMs === 0) return configuredTimeoutMs === 0 ? 'none' : 'configured';
  return shorter(callerTimeoutMs, configuredTimeoutMs) === callerTimeoutMs ? 'caller' : 'configured';
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

/** The `grpc-timeout` for upstream; undefined when there is no deadline, and the header is to be left out. */
export function timeoutHeader(deadlineMs: number, nowMs: number): string | undefined {
  return deadlineMs === 0 ? undefined : formatTimeout(deadlineMs - nowMs);
}

/** The smaller of two limits, of which 0 is none. */
function shorter(one: number, other: number): number {
  if (one === 0) return other;
  return other === 0 || one <= other ? one : other;
}
