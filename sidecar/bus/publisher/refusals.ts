/** The answers that the publisher gives itself; `policy/reasons.ts` has the facts of their reasons. */
import { Status, type StatusCode } from '../../grpc/status.ts';
import type { Reason } from '../../policy/reasons.ts';
import type { Submitted } from '../log/task-log.ts';
import type { TaskRecord } from '../log/task-record.ts';
import type { NoRoomError } from '../memory/room.ts';

export interface Refusal {
  readonly status: StatusCode;
  /** `outrigger-reason`. */
  readonly reason: Reason;
  readonly message: string;
  /** `grpc-retry-pushback-ms`; -1 means never. */
  readonly pushbackMs?: number;
}

const FULL_PUSHBACK_MS = 1_000;

export function refusedFor(
  { reason }: Submitted & { readonly outcome: 'refused' },
  agentType: string,
): Refusal {
  const limit = {
    agent_full: `as many tasks wait for ${agentType} as bus.publish.max_queued_per_agent allows`,
    caller_full: `as many tasks of this caller wait for ${agentType} as bus.publish.max_queued_per_caller allows`,
    caller_bytes_full:
      'the requests of this caller that wait, run or are dead letters take what bus.publish.max_queued_bytes_per_caller allows',
    bytes_full:
      'the requests that wait, run or are dead letters take what bus.publish.max_queued_bytes allows',
    types_full: `no agent has taken tasks of ${agentType} yet, and as many other agent types have queues as the bus lets callers begin`,
    store_full: 'the results on the bus take what bus.results.max_bytes allows',
    disk_full: 'the disk of the bus is full: make room on it',
  }[reason];
  return {
    status: Status.RESOURCE_EXHAUSTED,
    reason: 'overloaded',
    message: `${limit}; try again later`,
    pushbackMs: FULL_PUSHBACK_MS,
  };
}

export function noRoom({ message }: NoRoomError): Refusal {
  return { status: Status.RESOURCE_EXHAUSTED, reason: 'overloaded', message, pushbackMs: FULL_PUSHBACK_MS };
}

export function busUnavailable(message: string): Refusal {
  return { status: Status.UNAVAILABLE, reason: 'bus_unavailable', message };
}

export const OUTCOME_UNKNOWN: Refusal = {
  status: Status.UNAVAILABLE,
  reason: 'outcome_unknown',
  message:
    'the bus may have stored the task, and did not confirm it in time; send the same task again, which joins it',
};

export const STREAM_CUT: Refusal = {
  status: Status.UNAVAILABLE,
  reason: 'stream_cut',
  message:
    'the run that sent these messages was lost; send the same task again, which gives its new run from the first message',
};

export const NOT_KEPT: Refusal = {
  status: Status.FAILED_PRECONDITION,
  reason: 'task_not_repeatable',
  message: 'the task has run, and its answer is no longer kept (bus.results.max_age); use a new task_id',
  pushbackMs: -1,
};

export const STORE_REPLACED: Refusal = busUnavailable(
  'the bus no longer has what was stored with the task: its file was moved or removed, its streams were deleted, or bus.url names another bus now; send the task again, which stores and runs it anew',
);

export const NO_MESSAGE: Refusal = {
  status: Status.INTERNAL,
  reason: 'unreadable_message',
  message: 'the request has no whole message, or one that is not what grpc-encoding says',
  pushbackMs: -1,
};

export function tooLarge(maxBytes: number): Refusal {
  return {
    status: Status.RESOURCE_EXHAUSTED,
    reason: 'message_too_large',
    message: `the task has more than ${maxBytes} bytes (inbound.max_message_bytes)`,
  };
}

export function unknownEncoding(encoding: string, known: readonly string[]): Refusal {
  return {
    status: Status.UNIMPLEMENTED,
    reason: 'unreadable_message',
    message: `a task is stored as it is, and ${encoding || 'this compression'} can't be read here; compress it by ${known.join(', ')}, or not at all`,
    pushbackMs: -1,
  };
}

export function noMethod(path: string, agentType: string): Refusal {
  return {
    status: Status.UNIMPLEMENTED,
    reason: 'no_route',
    message: `${path.slice(0, 100)} does not go through the bus to ${agentType}: ProcessTask, StreamProcess and HealthCheck do; call an agent for it directly`,
  };
}

/** The answer for a task that ended without a result. */
export function endedWithout({ state, cause }: TaskRecord, hadTime: boolean): Refusal {
  if (state === 'dead')
    return {
      status: Status.INTERNAL,
      reason: 'task_dead',
      message: `the task is in the dead letters: ${cause}`,
      pushbackMs: -1,
    };
  if (!hadTime)
    return { status: Status.DEADLINE_EXCEEDED, reason: 'deadline', message: `the task is over: ${cause}` };
  return { status: Status.CANCELLED, reason: 'task_cancelled', message: `the task was cancelled: ${cause}` };
}

export function ourFault(error: unknown): Refusal {
  const message = error instanceof Error ? error.message : String(error);
  return { status: Status.INTERNAL, reason: 'upstream_protocol', message: `the bus: ${message}` };
}
