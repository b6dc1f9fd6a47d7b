import type { InboundCall } from './inbound-call.ts';
import { binaryTraceOf, type RequestIds, traceIdOf, traceIdsOf } from './request-ids.ts';

/**
 * Whether a request that carries these ids of `found` can't be made for `other`, which has some of them, too: there is an id that
 * the request and `found` have in common, where `other` has one of its own. An id that only `other` lacks says nothing, since its
 * caller may not have sent one; neither does one that `found` has not got from its caller either, which may be the agent's.
 *
 *     request        trace 1, task a    trace 1, task a    trace 1, task a
 *     found          trace 1, task a    trace 1, task a    task a
 *     other          trace 1, task b    trace 1            trace 1
 *     told apart     by the task        no                 no
 */
export function tellsApart(ids: RequestIds, found: InboundCall, other: InboundCall): boolean {
  const { passed } = ids;
  return (
    (passed !== undefined &&
      (isOwn(passed.taskId, found.task?.taskId, other.task?.taskId) ||
        isOwn(passed.correlationId, found.task?.correlationId, other.task?.correlationId) ||
        isOwn(passed.requestId, found.info.passed?.requestId, other.info.passed?.requestId))) ||
    isOwnTrace(traceIdsOf(ids), tracesOf(found), tracesOf(other))
  );
}

function isOwn(id: string, found = '', other = ''): boolean {
  return id !== '' && id === found && other !== '' && other !== id;
}

function isOwnTrace(ids: readonly string[], found: readonly string[], other: readonly string[]): boolean {
  const has = (traces: readonly string[]): boolean => ids.some((id) => id !== '' && traces.includes(id));
  return has(found) && other.some((id) => id !== '') && !has(other);
}

function tracesOf({ info, trace }: InboundCall): readonly string[] {
  const own = trace?.traceId ?? traceIdOf(info.traceparent);
  return [own, binaryTraceOf(info), ...(info.passed?.traceIds ?? [])];
}
