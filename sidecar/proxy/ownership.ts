import { NotAgain } from '../policy/pushback.ts';
import { isTaskPath } from '../task/task-message.ts';
import type { CallWith } from './call-facts.ts';
import type { Dependent, InboundCall } from './inbound-call.ts';
import { endDependents, type Owner, ownedBy } from './inbound-calls.ts';
import { reply } from './reasons.ts';

/**
 * What a call has to do with the call that its agent makes it for (`inbound-calls.ts`): the time it has left, who ends
 * it, who owns its retries, and the agents it has come through.
 */

/** A call whose path is written here. */
type PathCall = CallWith<'context' | 'info' | 'ownersPath', 'answer'> & { callPath: string };
/** A call whose owner is found, and written, here. */
type OwnedCall = Dependent &
  CallWith<'context' | 'info' | 'task'> & {
    owner: InboundCall | undefined;
    ownerless: boolean;
    ownersPath: string;
    ownersDeadlineMs: number;
  };

/** Refuses a task that has come in a circle, or from too far. False: it has been answered. */
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

/** Finds the owner by what the head says. */
export function findOwner(call: OwnedCall): void {
  const { context, info } = call;
  if (context.listener === 'inbound' || context.inboundCalls.size === 0) return;
  if (isTaskPath(call.info.method)) {
    // The task's own ids may decide where the head's ids don't.
    const owner = context.inboundCalls.ofHead(info);
    if (owner === undefined) return;
    if (typeof owner === 'string') call.ownerless = true;
    else own(call, ownedBy(owner, 'named'));
    return;
  }
  // A call to anything but an agent belongs to an inbound call only if it says so: it may be the agent's own work.
  const found = context.inboundCalls.ownerOf(info, '', '');
  if (found !== undefined && found.by !== 'alone') own(call, found);
}

/** Finds it by what the task says, or because just one call is running. */
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

/** The call is over. What the app does for an inbound one that it has not answered is wanted by nobody. */
export function endOwnership(
  call: Dependent & InboundCall & CallWith<'attempt' | 'context' | 'owner' | 'reason'>,
): void {
  const { attempt, context, owner, reason } = call;
  owner?.dependents?.delete(call);
  if (context.listener === 'outbound') return;
  context.inboundCalls.delete(call);
  if (attempt?.kind !== 'status') endDependents(call, reason === 'deadline');
}

/** Names the agents that an outbound task has come through, unless its agent has passed them on. */
export function nameOutboundPath(call: PathCall): void {
  const { context, info, ownersPath } = call;
  if (context.listener === 'inbound' || info.callPath !== '') return;
  call.callPath = ownersPath || context.callPath.self;
}

/**
 * Nobody is there to be called. The app hears the plain truth, and may wait and call again; but sidecars above would only
 * have it run again for the same end.
 */
export function endOwnersRetries({ owner }: CallWith<'owner'>): void {
  if (owner !== undefined) tell(owner, NotAgain.SIDECARS);
}

/** Tells in this call's answer, and in that of the inbound call that it was made for, who must not try again. */
export function endRetries(call: CallWith<'owner'> & { notAgain: NotAgain }, notAgain: NotAgain): void {
  tell(call, notAgain);
  if (call.owner !== undefined) tell(call.owner, notAgain);
}

function tell(call: { notAgain: NotAgain }, notAgain: NotAgain): void {
  if (call.notAgain < notAgain) call.notAgain = notAgain;
}
