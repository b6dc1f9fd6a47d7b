import { observeFailure, observeLatency } from '../cluster/balancer.ts';
import { decayedRtt } from '../cluster/peak-ewma.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { Attempt } from './attempt.ts';

/** An attempt that ends so says that its endpoint is in trouble. */
export function isFailure(status: StatusCode): boolean {
  switch (status) {
    case Status.UNAVAILABLE:
    case Status.INTERNAL:
    case Status.UNKNOWN:
    case Status.DATA_LOSS:
    case Status.DEADLINE_EXCEEDED:
      return true;
    default:
      return false;
  }
}

/** The first byte of the answer came: that is the latency a caller feels, for unary calls and for streams. */
export function observeAnswer(attempt: Attempt, nowMs: number): void {
  attempt.answered = true;
  observeLatency(attempt.endpoint, nowMs - attempt.startedAtMs, nowMs);
}

/** Failures are slow in the balancer's eyes, or an endpoint that fails at once would look like the fastest. */
export function observeEnd(attempt: Attempt, status: StatusCode, nowMs: number): void {
  if (isFailure(status)) observeFailure(attempt.endpoint, nowMs - attempt.startedAtMs, nowMs);
  else if (!attempt.answered) observeAnswer(attempt, nowMs);
}

/**
 * The call's clock ran out first. That tells something of the endpoint when it has taken longer than usual; a
 * caller that gives less time than every call needs tells nothing.
 */
export function observeDeadline(attempt: Attempt, nowMs: number, callersOwn: boolean): void {
  const elapsedMs = nowMs - attempt.startedAtMs;
  if (callersOwn && elapsedMs <= decayedRtt(attempt.endpoint, nowMs)) return;
  observeFailure(attempt.endpoint, elapsedMs, nowMs);
}
