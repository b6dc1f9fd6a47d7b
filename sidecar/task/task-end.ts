/** How a task ended, and whether its answer may be given again. */

import { Status, type StatusCode } from '../grpc/status.ts';
import { TaskStatus } from './task-message.ts';

/** How a task ended: what its caller was told. */
export interface TaskEnd {
  readonly status: StatusCode;
  /** `TaskResponse.status`; -1 when there was none, as in streams. */
  readonly taskStatus: number;
  /** Names and values in turn: the trailers, or the only header block. */
  readonly trailers: readonly string[];
}

/**
 * Whether the same request would get the same answer: OK, unless the task itself says that it FAILED or timed out,
 * which a model does by chance; and errors of the request alone. PERMISSION_DENIED, NOT_FOUND, FAILED_PRECONDITION and
 * their like depend on what can change in between, everything else on the moment.
 */
export function isReplayable(status: StatusCode, taskStatus: number): boolean {
  if (status === Status.OK) return taskStatus !== TaskStatus.FAILED && taskStatus !== TaskStatus.TIMEOUT;
  return status === Status.INVALID_ARGUMENT || status === Status.OUT_OF_RANGE;
}
