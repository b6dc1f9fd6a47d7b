/** Decides whether another run of a task may follow, and wants the answers that this one has paid for. Pure. */
import { Status, type StatusCode } from '../../grpc/status.ts';
import { TaskStatus } from '../../task/task-message.ts';

/** With these statuses an agent, or its sidecar, says that the moment was wrong: the same task may succeed. */
const TRY_AGAIN: ReadonlySet<StatusCode> = new Set<StatusCode>([
  Status.CANCELLED,
  Status.DEADLINE_EXCEEDED,
  Status.RESOURCE_EXHAUSTED,
  Status.ABORTED,
  Status.UNAVAILABLE,
]);

/**
 * An answer of the agent ends its task. A caller that sends it again, although it was answered, wants other answers: the
 * same ones would lead to the same end.
 *
 * @param taskStatus `TaskResponse.status`; -1 without one
 * @param modelFailed the last model request of the run had no answer
 */
export function isLastRun(status: StatusCode, taskStatus: number, modelFailed: boolean): boolean {
  if (TRY_AGAIN.has(status)) return false;
  const failed =
    status !== Status.OK || taskStatus === TaskStatus.FAILED || taskStatus === TaskStatus.TIMEOUT;
  return !(failed && modelFailed);
}
