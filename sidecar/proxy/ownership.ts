/** Finds the owner of a call (`inbound-calls.ts`), which gives it deadline, end, retries and path. */
import { NotAgain } from '../policy/pushback.ts';
import { isTaskPath } from '../task/task-message.ts';
import type { CallContext, CallWith } from './call-facts.ts';
import type { Dependent, InboundCall } from './inbound-call.ts';
import { type Owner, ownedBy } from './inbound-calls.ts';
import { reply } from './reasons.ts';

/**
 * The owner of a call is the inbound call that its agent makes it for. The owner limits its time, ends it, owns its
 * retries, and gives it the agents that it has come through. `lineage.ts` keeps the facts.
 */

/** A call whose owner this file finds. */
type OwnedCall = Dependent & CallWith<'context' | 'info' | 'task' | 'lineage'>;
/** A call whose path this file checks. */
type PathCall = CallWith<'context' | 'info' | 'task' | 'lineage', 'answer'>;

/** Refuses a task whose path is circular or too long. Returns false when the call was answered. */
export function checkPath(call: PathCall): boolean {
  const { context, info } = call;
  if (context.listener === 'outbound') return true;
  const check = context.callPath.of(call.task?.agentType ?? '').check(info.callPath);
  if (check.ok) {
    call.lineage.comeThrough(check.path);
    return true;
  }
  call.answer(reply(check.refuse === 'cycle' ? 'call_cycle' : 'call_depth', check.message));
  return false;
}

/** Finds the owner by the request's head. */
export function findOwner(call: OwnedCall): void {
  const { context, info } = call;
  if (context.listener === 'inbound' || context.inboundCalls.size === 0) return;
  if (isTaskPath(call.info.method)) {
    // The task's own ids may decide where the ids of the head don't.
    const owner = context.inboundCalls.ofHead(info);
    if (owner === undefined) return;
    if (typeof owner === 'string') call.lineage.noteOwnerOver();
    else own(call, ownedBy(owner, 'named'));
    return;
  }
  // A call to anything but an agent has an owner only if its head names one: it may be the agent's own work.
  const found = context.inboundCalls.ownerOf(info, '', '');
  if (found !== undefined && found.by !== 'alone') own(call, found);
}

/** Finds the owner by the task, or because only one call is running. */
export function findTaskOwner(call: OwnedCall): void {
  const { context, info, lineage, task } = call;
  if (context.listener === 'inbound' || lineage.owner !== undefined || lineage.isOwnerOver) return;
  const found = context.inboundCalls.ownerOf(info, task?.taskId ?? '', task?.correlationId ?? '');
  if (found !== undefined) own(call, found);
}

function own(call: OwnedCall, owner: Owner): void {
  call.lineage.belongTo(owner);
  // Work that only seems to belong to the call must not end with it.
  if (owner.by === 'named') owner.call?.lineage.addDependent(call);
}

/** The call is over. If it is inbound and the app has not answered it, nobody wants the work that the app does for it. */
export function endOwnership(
  call: Dependent & InboundCall & CallWith<'attempt' | 'context' | 'lineage' | 'reason'>,
): void {
  const { attempt, context, lineage, reason } = call;
  lineage.owner?.lineage.removeDependent(call);
  if (context.listener === 'outbound') return;
  context.inboundCalls.delete(call);
  if (attempt?.kind !== 'status') lineage.endDependents(reason === 'deadline');
}

/** Adds the path of agents to an outbound task, unless the agent has passed it on itself. */
export function nameOutboundPath(call: PathCall): void {
  const { context, info, lineage } = call;
  if (context.listener === 'inbound' || info.callPath !== '') return;
  lineage.comeThrough(lineage.ownersPath || pathOfUnknownOwner(context));
}

/** The path of a call of the app whose owner, if it has one, is not known. */
export function pathOfUnknownOwner({
  callPath,
  inboundCalls,
}: Pick<CallContext, 'callPath' | 'inboundCalls'>): string {
  return callPath.ofUnknownOwner(callPath.needsAgentType ? inboundCalls.deepestPath : 0);
}

/**
 * No endpoint is reachable. The app receives that status, and may wait and call again; but sidecars above must not run
 * the app again, since it would fail in the same way.
 */
export function forbidOwnersRetries({ lineage }: CallWith<'lineage'>): void {
  lineage.owner?.lineage.forbidRetries(NotAgain.SIDECARS);
}

/** The answers of this call and of its owner will tell these callers not to try again. */
export function forbidRetries({ lineage }: CallWith<'lineage'>, notAgain: NotAgain): void {
  lineage.forbidRetries(notAgain);
  lineage.owner?.lineage.forbidRetries(notAgain);
}
