/** Applies to a call what its owner gives it (`inbound-calls.ts`): deadline, end, retries and path. */
import { NotAgain } from '../policy/pushback.ts';
import { isTaskPath } from '../task/task-message.ts';
import type { CallWith } from './call-facts.ts';
import type { Dependent, InboundCall } from './inbound-call.ts';
import { endDependents, type Owner, ownedBy } from './inbound-calls.ts';
import { reply } from './reasons.ts';

/**
 * Applies to a call what follows from the inbound call that its agent makes it for (`inbound-calls.ts`): the time left,
 * who ends it, who owns its retries, and the agents it has come through.
 */

/** A call whose path this file writes. */
type PathCall = CallWith<'context' | 'info' | 'ownersPath', 'answer'> & { callPath: string };
/** A call whose owner this file finds and writes. */
type OwnedCall = Dependent &
  CallWith<'context' | 'info' | 'task'> & {
    owner: InboundCall | undefined;
    ownerless: boolean;
    ownersPath: string;
    ownersDeadlineMs: number;
  };

/** Refuses a task whose path is circular or too long. Returns false when the call was answered. */
export function checkPath(call: PathCall): boolean {
  const { context, info } = call;
  if (context.listener === 'outbound') return true;
  const check = context.callPath.check(info.callPath);
  if (check.ok) {
    call.callPath = check.path;
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
    if (typeof owner === 'string') call.ownerless = true;
    else own(call, ownedBy(owner, 'named'));
    return;
  }
  // A call to anything but an agent has an owner only if its head names one: it may be the agent's own work.
  const found = context.inboundCalls.ownerOf(info, '', '');
  if (found !== undefined && found.by !== 'alone') own(call, found);
}

/** Finds the owner by the task, or because only one call is running. */
export function findTaskOwner(call: OwnedCall): void {
  const { context, info, task, owner } = call;
  if (context.listener === 'inbound' || owner !== undefined || call.ownerless) return;
  const found = context.inboundCalls.ownerOf(info, task?.taskId ?? '', task?.correlationId ?? '');
  if (found !== undefined) own(call, found);
}

function own(call: OwnedCall, { call: owner, by, callPath, deadlineMs }: Owner): void {
  call.ownersPath = callPath;
  if (owner === undefined) {
    call.ownersDeadlineMs = deadlineMs;
    return;
  }
  call.owner = owner;
  // Work that only seems to belong to the call must not end with it.
  if (by !== 'named') return;
  owner.dependents ??= new Set();
  owner.dependents.add(call);
}

/** The call is over. If it is inbound and the app has not answered it, nobody wants what the app does for it. */
export function endOwnership(
  call: Dependent & InboundCall & CallWith<'attempt' | 'context' | 'owner' | 'reason'>,
): void {
  const { attempt, context, owner, reason } = call;
  owner?.dependents?.delete(call);
  if (context.listener === 'outbound') return;
  context.inboundCalls.delete(call);
  if (attempt?.kind !== 'status') endDependents(call, reason === 'deadline');
}

/** Adds the path of agents to an outbound task, unless the agent has passed it on itself. */
export function nameOutboundPath(call: PathCall): void {
  const { context, info, ownersPath } = call;
  if (context.listener === 'inbound' || info.callPath !== '') return;
  call.callPath = ownersPath || context.callPath.self;
}

/**
 * No endpoint is reachable. The app receives that status, and may wait and call again; but sidecars above must not run
 * the app again, since it would fail in the same way.
 */
export function endOwnersRetries({ owner }: CallWith<'owner'>): void {
  if (owner !== undefined) tell(owner, NotAgain.SIDECARS);
}

/** Tells the callers of this call and of its owner, in their answers, who must not try again. */
export function endRetries(call: CallWith<'owner'> & { notAgain: NotAgain }, notAgain: NotAgain): void {
  tell(call, notAgain);
  if (call.owner !== undefined) tell(call.owner, notAgain);
}

function tell(call: { notAgain: NotAgain }, notAgain: NotAgain): void {
  if (call.notAgain < notAgain) call.notAgain = notAgain;
}
