/** How a task ended, and whether its answer may be replayed. */

import { Status, type StatusCode } from '../grpc/status.ts';
import { TaskStatus } from './task-message.ts';

/** The end of a task, as its caller received it. */
export interface TaskEnd {
  readonly status: StatusCode;
  /** `TaskResponse.status`; -1 when there was none, as in streams. */
  readonly taskStatus: number;
  /** Names and values in turn: the trailers, or the only header block. */
  readonly trailers: readonly string[];
}

/**
 * Whether the same request would get the same answer. OK would, unless the task's own status is FAILED or TIMEOUT, which
 * happens to a model by chance; so would errors that only the request causes. PERMISSION_DENIED, NOT_FOUND,
 * FAILED_PRECONDITION and the like depend on state that can change in between, all others on the moment.
 */
export function isReplayable(status: StatusCode, taskStatus: number): boolean {
  if (status === Status.OK) return taskStatus !== TaskStatus.FAILED && taskStatus !== TaskStatus.TIMEOUT;
  return status === Status.INVALID_ARGUMENT || status === Status.OUT_OF_RANGE;
}
