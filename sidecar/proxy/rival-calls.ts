/** Tells two running calls that share an id apart. */
import type { InboundCall } from './inbound-call.ts';
import { binaryTraceOf, type RequestIds, traceIdOf, traceIdsOf } from './request-ids.ts';

/**
 * Whether an id rules out that a request with `found`'s ids is made for `other`, which shares some of them. Such an id
 * is one that the request and `found` share, and for which `other` has a different value. An id that `other` lacks
 * proves nothing, since its caller may not have sent one; neither does an id that `found` did not receive from its
 * caller, because the agent may have made it.
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
