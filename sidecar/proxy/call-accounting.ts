/** Counts calls by method and status, for metrics and `/stats`. */
import type { Cluster } from '../cluster/cluster.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import { type CallStats, type ListenerStats, OTHER_METHOD } from '../telemetry/call-stats.ts';
import type { Attempt } from './attempt.ts';
import type { RequestInfo } from './request-info.ts';

/** The fields that say where a call is counted. */
export interface PlacedCall {
  readonly cluster: Cluster | undefined;
  readonly context: {
    readonly listener: 'inbound' | 'outbound';
    readonly stats: ListenerStats;
    readonly clock: () => number;
  };
}

/** The fields of a call that are counted. */
export interface CountedCall extends PlacedCall {
  readonly info: RequestInfo;
  readonly attempt: Attempt | undefined;
  readonly startedAtMs: number;
  readonly trace: { readonly traceId: string } | null | undefined;
}

/** A call that may outlive its caller. */
export interface HeardCall extends CountedCall {
  readonly progress: {
    readonly status: StatusCode | -1;
    outlastCaller(status: StatusCode, nowMs: number): void;
  };
}

/** What a status says of the system: it served the call, failed, refused it by a limit, or the caller spoiled or left it. */
export type EndWord = 'ok' | 'failed' | 'refused' | 'by_caller';

const ENDS: Readonly<Record<number, EndWord>> = {
  [Status.OK]: 'ok',
  [Status.CANCELLED]: 'by_caller',
  [Status.UNKNOWN]: 'failed',
  [Status.INVALID_ARGUMENT]: 'by_caller',
  [Status.DEADLINE_EXCEEDED]: 'failed',
  [Status.NOT_FOUND]: 'by_caller',
  [Status.ALREADY_EXISTS]: 'by_caller',
  [Status.PERMISSION_DENIED]: 'by_caller',
  [Status.RESOURCE_EXHAUSTED]: 'refused',
  [Status.FAILED_PRECONDITION]: 'by_caller',
  [Status.ABORTED]: 'by_caller',
  [Status.OUT_OF_RANGE]: 'by_caller',
  [Status.UNIMPLEMENTED]: 'by_caller',
  [Status.INTERNAL]: 'failed',
  [Status.UNAVAILABLE]: 'failed',
  [Status.DATA_LOSS]: 'failed',
  [Status.UNAUTHENTICATED]: 'by_caller',
} satisfies Record<StatusCode, EndWord>;

/** A status that gRPC does not define is no success. */
export function endOf(status: number): EndWord {
  return ENDS[status] ?? 'failed';
}

/**
 * The caller received its answer with this status, or left: counts the call once for metrics and `/stats`, whether the
 * app or the sidecar answered. A task may continue for other callers; {@link endActive} counts the end of that.
 */
export function countCall(call: CountedCall, status: StatusCode): void {
  const { attempt, cluster, context } = call;
  countTotal(context.stats, status);
  if (status === Status.OK && wasRetry(attempt)) cluster?.count(cluster.retries, 'success');
  countDuration(call, status);
}

function countTotal(stats: ListenerStats, status: StatusCode): void {
  switch (endOf(status)) {
    case 'ok':
      stats.totalOk++;
      break;
    case 'failed':
      stats.totalErrors++;
      break;
    case 'refused':
      stats.totalRefused++;
      break;
    case 'by_caller':
  }
}

/**
 * The caller left, or received this status, and the call continues for others who sent its task. It is not counted
 * again.
 */
export function countCallerGone(call: HeardCall, status: StatusCode): void {
  if (call.progress.status !== -1) return;
  call.progress.outlastCaller(status, call.context.clock());
  countCall(call, status);
}

/** No part of the call is running any more. */
export function endActive({ cluster, context }: PlacedCall): void {
  context.stats.activeCalls--;
  if (cluster !== undefined) cluster.activeCalls--;
}

/** Whether the attempt followed one that failed. A hedge runs beside others and is counted as a hedge. */
function wasRetry(attempt: Attempt | undefined): boolean {
  // The rest of a stream counts as the attempt that began it.
  const begun = attempt?.resume?.origin ?? attempt;
  return begun !== undefined && begun.number > 1 && !begun.hedge;
}

/** Returns the stats that count the call. The outbound listener's own stats count calls that reached no cluster. */
function statsOf({ cluster, context }: PlacedCall): CallStats {
  return context.listener === 'inbound' || cluster === undefined ? context.stats.calls : cluster.calls;
}

function isAnswered(attempt: Attempt | undefined): boolean {
  return attempt !== undefined && (attempt.answered || attempt.kind === 'status');
}

/** Whether a call that ends this way is counted under its method's own name. */
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
    // Callers can invent paths: all paths that no app implements share one entry.
    calls.of(OTHER_METHOD).record(status, seconds, call.trace?.traceId);
    return;
  }
  if (info.statsFrom !== calls || info.methodStats === undefined) {
    info.methodStats = calls.of(info.method, isAnswered(attempt));
    // Don't cache the shared entry: the method gets its own name when the app answers it.
    info.statsFrom = info.methodStats.method === OTHER_METHOD ? undefined : calls;
  }
  info.methodStats.record(status, seconds, call.trace?.traceId);
}
