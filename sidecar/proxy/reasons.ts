import { Status, type StatusCode } from '../grpc/status.ts';

/** Why the sidecar answered a call itself: the value of `outrigger-reason`, and of metrics' `reason`. */
export type Reason =
  | 'no_route'
  | 'no_endpoint'
  | 'connect_failed'
  | 'circuit_open'
  | 'draining'
  | 'overloaded'
  | 'rate_limited'
  | 'message_too_large'
  | 'headers_too_large'
  | 'bad_request'
  | 'deadline'
  | 'first_chunk'
  | 'idle'
  | 'stream_cut'
  | 'upstream_reset'
  | 'upstream_protocol'
  /** The inbound call that the app made this one for is over: nobody waits for it. */
  | 'caller_gone'
  /** The path of agents leads back to this one, or is too long. */
  | 'call_cycle'
  | 'call_depth'
  /** The task has run, and its answer can't be given again. */
  | 'task_not_repeatable';

/** The status each reason is answered with; `upstream_reset` carries the one its reset code maps to. */
export const REASON_STATUS: Readonly<Record<Reason, StatusCode>> = {
  no_route: Status.UNIMPLEMENTED,
  no_endpoint: Status.UNAVAILABLE,
  connect_failed: Status.UNAVAILABLE,
  circuit_open: Status.UNAVAILABLE,
  draining: Status.UNAVAILABLE,
  overloaded: Status.RESOURCE_EXHAUSTED,
  rate_limited: Status.RESOURCE_EXHAUSTED,
  message_too_large: Status.RESOURCE_EXHAUSTED,
  headers_too_large: Status.RESOURCE_EXHAUSTED,
  bad_request: Status.INVALID_ARGUMENT,
  deadline: Status.DEADLINE_EXCEEDED,
  first_chunk: Status.DEADLINE_EXCEEDED,
  idle: Status.DEADLINE_EXCEEDED,
  stream_cut: Status.UNAVAILABLE,
  upstream_reset: Status.UNAVAILABLE,
  upstream_protocol: Status.INTERNAL,
  caller_gone: Status.CANCELLED,
  call_cycle: Status.FAILED_PRECONDITION,
  call_depth: Status.FAILED_PRECONDITION,
  task_not_repeatable: Status.FAILED_PRECONDITION,
};

/** What a request that is not gRPC gets for the same reason. */
export const REASON_HTTP_STATUS: Readonly<Record<Reason, number>> = {
  no_route: 404,
  no_endpoint: 503,
  connect_failed: 503,
  circuit_open: 503,
  draining: 503,
  overloaded: 429,
  rate_limited: 429,
  message_too_large: 413,
  headers_too_large: 431,
  bad_request: 400,
  deadline: 504,
  first_chunk: 504,
  idle: 504,
  stream_cut: 502,
  upstream_reset: 502,
  upstream_protocol: 502,
  caller_gone: 499,
  call_cycle: 412,
  call_depth: 412,
  task_not_repeatable: 412,
};

/** An answer of the sidecar's own. */
export interface LocalReply {
  readonly reason: Reason;
  readonly status: StatusCode;
  /** For a person: what happened and what to do. Encoded for `grpc-message` when it is sent. */
  readonly message: string;
  /** Sent as `grpc-retry-pushback-ms`; negative: do not retry. */
  readonly pushbackMs?: number;
}

export function reply(reason: Reason, message: string, pushbackMs?: number): LocalReply {
  const status = REASON_STATUS[reason];
  return pushbackMs === undefined ? { reason, status, message } : { reason, status, message, pushbackMs };
}
