import { Status, type StatusCode } from '../grpc/status.ts';
import { OTHER_METHOD } from '../telemetry/call-stats.ts';
import type { Call } from './call.ts';

/** Statuses that count as errors of the listener; what a caller did wrong does not. */
export function isError(status: StatusCode): boolean {
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

/** A call has ended with this status: counts it where metrics and `/stats` read. */
export function countCall(call: Call, status: StatusCode): void {
  const { cluster, context } = call;
  const { stats } = context;
  stats.activeCalls--;
  if (isError(status)) stats.totalErrors++;
  if (cluster === undefined) return;
  if (status === Status.OK && call.attempts > 1) cluster.count(cluster.retries, 'success');
  countDuration(call, status);
}

function countDuration(call: Call, status: StatusCode): void {
  const { attempt, context, info } = call;
  const calls = context.listener === 'inbound' ? context.stats.calls : call.cluster!.calls;
  const seconds = (context.clock() - call.startedAtMs) / 1000;
  if (status === Status.UNIMPLEMENTED) {
    // Paths that nobody implements are counted together: they are the caller's invention.
    calls.of(OTHER_METHOD).record(status, seconds);
    return;
  }
  if (info.statsFrom !== calls || info.methodStats === undefined) {
    const answered = attempt !== undefined && (attempt.answered || attempt.kind === 'status');
    info.methodStats = calls.of(call.head.path, answered);
    // Not for good where it has no name of its own: an answer will give it one.
    info.statsFrom = info.methodStats.method === OTHER_METHOD ? undefined : calls;
  }
  info.methodStats.record(status, seconds, call.trace?.traceId);
}
