import type { Cluster } from '../cluster/cluster.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import { type CallStats, type ListenerStats, OTHER_METHOD } from '../telemetry/call-stats.ts';
import type { Attempt } from './attempt.ts';
import type { RequestInfo } from './request-info.ts';

/** Where a call is counted. */
export interface PlacedCall {
  readonly cluster: Cluster | undefined;
  readonly context: {
    readonly listener: 'inbound' | 'outbound';
    readonly stats: ListenerStats;
    readonly clock: () => number;
  };
}

/** And what is counted of it. */
export interface CountedCall extends PlacedCall {
  readonly info: RequestInfo;
  readonly attempt: Attempt | undefined;
  readonly startedAtMs: number;
  readonly trace: { readonly traceId: string } | null | undefined;
}

/** What its caller got, and when it had that. Written here where the call goes on. */
export interface HeardCall extends CountedCall {
  status: StatusCode | -1;
  callerGoneAtMs: number;
}

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

/**
 * The caller has its answer with this status, or has left: counts the call where metrics and `/stats` read, once, whoever
 * has answered it. A task may run on for others who have sent it; {@link endActive} says when that is over, too.
 */
export function countCall(call: CountedCall, status: StatusCode): void {
  const { attempt, cluster, context } = call;
  if (isError(status)) context.stats.totalErrors++;
  if (status === Status.OK && wasRetry(attempt)) cluster?.count(cluster.retries, 'success');
  countDuration(call, status);
}

/** The caller has left, or was told this, and the call goes on for others who have sent its task: it is not counted again. */
export function countCallerGone(call: HeardCall, status: StatusCode): void {
  if (call.status !== -1) return;
  call.status = status;
  call.callerGoneAtMs = call.context.clock();
  countCall(call, status);
}

/** Nothing of the call is under way any more. */
export function endActive({ cluster, context }: PlacedCall): void {
  context.stats.activeCalls--;
  if (cluster !== undefined) cluster.activeCalls--;
}

/** The attempt followed one that had failed. A hedge is sent beside others, and counts for itself. */
function wasRetry(attempt: Attempt | undefined): boolean {
  return attempt !== undefined && attempt.number > 1 && !attempt.hedge;
}

/** Where it is counted. Outbound, the listener's own numbers are of calls that have come to no cluster. */
function statsOf({ cluster, context }: PlacedCall): CallStats {
  return context.listener === 'inbound' || cluster === undefined ? context.stats.calls : cluster.calls;
}

function isAnswered(attempt: Attempt | undefined): boolean {
  return attempt !== undefined && (attempt.answered || attempt.kind === 'status');
}

/** Whether a call that ends so is counted by its method's own name. */
export function isKnownMethod(
  call: PlacedCall & { readonly info: { readonly method: string } },
  status: StatusCode | -1,
  attempt: Attempt | undefined,
): boolean {
  return status !== Status.UNIMPLEMENTED && statsOf(call).hasName(call.info.method, isAnswered(attempt));
}

function countDuration(call: CountedCall, status: StatusCode): void {
  const { attempt, context, info } = call;
  const calls = statsOf(call);
  const seconds = (context.clock() - call.startedAtMs) / 1000;
  if (status === Status.UNIMPLEMENTED) {
    // Paths that nobody implements are counted together: they are the caller's invention.
    calls.of(OTHER_METHOD).record(status, seconds, call.trace?.traceId);
    return;
  }
  if (info.statsFrom !== calls || info.methodStats === undefined) {
    info.methodStats = calls.of(info.method, isAnswered(attempt));
    // Not for good where it has no name of its own: an answer will give it one.
    info.statsFrom = info.methodStats.method === OTHER_METHOD ? undefined : calls;
  }
  info.methodStats.record(status, seconds, call.trace?.traceId);
}
