/**
 * Why a sidecar answers a call itself: the value of `outrigger-reason`, and of the label `reason` of metrics. One table
 * defines a reason completely, so that a new one does not compile without its status, its verdict, its safety and its
 * line in `docs/life-of-a-call.md`, which a test holds equal to this table.
 */
import { Status, type StatusCode } from '../grpc/status.ts';
import type { VerdictReason } from './verdicts.ts';

export type Reason =
  | 'no_route'
  | 'no_endpoint'
  | 'connect_failed'
  | 'circuit_open'
  | 'draining'
  | 'overloaded'
  | 'rate_limited'
  | 'not_read'
  | 'message_too_large'
  | 'headers_too_large'
  | 'unreadable_message'
  | 'bad_request'
  | 'deadline'
  | 'first_chunk'
  | 'idle'
  | 'stream_cut'
  | 'upstream_reset'
  | 'upstream_protocol'
  | 'caller_gone'
  | 'call_cycle'
  | 'call_depth'
  | 'task_not_repeatable'
  | 'bus_unavailable'
  | 'outcome_unknown'
  | 'task_cancelled'
  | 'task_dead'
  | 'task_unknown'
  | 'task_differs';

export interface ReasonFacts {
  /** The status of the answer. Some reasons may have another one, see `when`. */
  readonly status: StatusCode;
  /** The HTTP status for a request that is not gRPC. */
  readonly httpStatus: number;
  /**
   * What the answer proves about an endpoint whose own sidecar gave it. `by_deadline`: it depends on the time that the
   * endpoint had. `by_status`: RESOURCE_EXHAUSTED asks for less, any other status is a cut. `by_http_status`: the app
   * answered in HTTP alone, or it is a cut. `by_own_status`: RESOURCE_EXHAUSTED is the sidecar's, any other the app's.
   */
  readonly verdict: VerdictReason | 'by_deadline' | 'by_status' | 'by_http_status' | 'by_own_status';
  /**
   * `untouched`: the app has seen nothing of the call, nor of an earlier attempt of it, so that the call can be sent
   * again, whatever it does. A sidecar must not give such a reason for a call that may have reached its app.
   */
  readonly app: 'untouched' | 'may_have_seen';
  /** Another endpoint, or this one a little later, may accept the call. */
  readonly turnedAway: boolean;
  /** Another try would be refused again: the answer carries `grpc-retry-pushback-ms: -1`. */
  readonly final: boolean;
  /** The line in the documents. */
  readonly when: string;
}

/** The app saw nothing of the call, and another endpoint may accept it. */
const TURNED_AWAY = { app: 'untouched', turnedAway: true, final: false } as const;
/** The app saw nothing of the call, and no endpoint would accept it. */
const REFUSED = { app: 'untouched', turnedAway: false, final: false } as const;
const MAY_HAVE_RUN = { app: 'may_have_seen', turnedAway: false, final: false } as const;

export const REASONS: Readonly<Record<Reason, ReasonFacts>> = {
  no_route: {
    status: Status.UNIMPLEMENTED,
    httpStatus: 404,
    verdict: 'refused_by_sidecar',
    ...REFUSED,
    when: 'no route, and no cluster of that name; of `outrigger.v1.Tasks`, no such method, or no bus',
  },
  no_endpoint: {
    status: Status.UNAVAILABLE,
    httpStatus: 503,
    verdict: 'app_unreachable',
    ...TURNED_AWAY,
    when: 'discovery found none, all are in back-off, or the pod has no app (`inbound.app: none`)',
  },
  connect_failed: {
    status: Status.UNAVAILABLE,
    httpStatus: 503,
    verdict: 'app_unreachable',
    ...TURNED_AWAY,
    when: 'the connection was refused, timed out, or went away before the call',
  },
  circuit_open: {
    status: Status.UNAVAILABLE,
    httpStatus: 503,
    // The failures that opened it were counted when they happened.
    verdict: 'circuit_open',
    ...TURNED_AWAY,
    when: 'the circuit of the cluster and method is open; with pushback',
  },
  draining: {
    status: Status.UNAVAILABLE,
    httpStatus: 503,
    verdict: 'draining',
    ...TURNED_AWAY,
    when: 'the sidecar ends, and the app has seen nothing of the call',
  },
  overloaded: {
    status: Status.RESOURCE_EXHAUSTED,
    httpStatus: 429,
    verdict: 'back_pressure',
    ...TURNED_AWAY,
    when: 'a limit on calls, or on calls that wait; with pushback',
  },
  rate_limited: {
    status: Status.RESOURCE_EXHAUSTED,
    httpStatus: 429,
    verdict: 'back_pressure',
    ...TURNED_AWAY,
    when: 'the caller makes more calls than `inbound.rate_limit` allows; with pushback',
  },
  not_read: {
    status: Status.RESOURCE_EXHAUSTED,
    httpStatus: 429,
    verdict: 'back_pressure',
    ...MAY_HAVE_RUN,
    when: 'upstream does not read the request, and too many bytes wait for such readers',
  },
  message_too_large: {
    status: Status.RESOURCE_EXHAUSTED,
    httpStatus: 413,
    verdict: 'refused_by_sidecar',
    ...MAY_HAVE_RUN,
    when: 'a message above `inbound.max_message_bytes`',
  },
  headers_too_large: {
    status: Status.RESOURCE_EXHAUSTED,
    httpStatus: 431,
    verdict: 'by_own_status',
    ...MAY_HAVE_RUN,
    when: 'header fields above `limits.max_header_bytes`, or above what their receiver takes; an error of the app keeps its status',
  },
  unreadable_message: {
    status: Status.UNIMPLEMENTED,
    httpStatus: 415,
    verdict: 'refused_by_sidecar',
    ...REFUSED,
    final: true,
    when: "a route by `agent_type`, and a message compressed by what can't be read here; INTERNAL if it is no such thing",
  },
  bad_request: {
    status: Status.INVALID_ARGUMENT,
    httpStatus: 400,
    verdict: 'refused_by_sidecar',
    ...REFUSED,
    when: 'a malformed `grpc-timeout`, CONNECT; a malformed request of `outrigger.v1.Tasks`',
  },
  deadline: {
    status: Status.DEADLINE_EXCEEDED,
    httpStatus: 504,
    verdict: 'by_deadline',
    ...MAY_HAVE_RUN,
    when: "the caller's deadline has passed, or a configured limit has (`timeout`, `max_timeout`)",
  },
  first_chunk: {
    status: Status.DEADLINE_EXCEEDED,
    httpStatus: 504,
    verdict: 'first_chunk_timeout',
    ...MAY_HAVE_RUN,
    when: 'no first message within `first_chunk_timeout`',
  },
  idle: {
    status: Status.DEADLINE_EXCEEDED,
    httpStatus: 504,
    verdict: 'idle_timeout',
    ...MAY_HAVE_RUN,
    when: 'nothing in either direction for `idle_timeout`',
  },
  stream_cut: {
    status: Status.UNAVAILABLE,
    httpStatus: 502,
    verdict: 'app_cut',
    ...MAY_HAVE_RUN,
    when: 'the connection was lost, or the sidecar ends under a call that has begun',
  },
  upstream_reset: {
    status: Status.INTERNAL,
    httpStatus: 502,
    verdict: 'by_status',
    ...MAY_HAVE_RUN,
    when: 'RST_STREAM from upstream; CANCEL and some others have a status of their own',
  },
  upstream_protocol: {
    status: Status.INTERNAL,
    httpStatus: 502,
    verdict: 'by_http_status',
    ...MAY_HAVE_RUN,
    when: 'upstream broke HTTP/2, ended without a `grpc-status`, or answered in HTTP alone (by its status)',
  },
  caller_gone: {
    status: Status.CANCELLED,
    httpStatus: 499,
    verdict: 'cancelled_by_app',
    ...MAY_HAVE_RUN,
    when: 'the inbound call that this one was made for has lost its caller',
  },
  call_cycle: {
    status: Status.FAILED_PRECONDITION,
    httpStatus: 412,
    verdict: 'refused_by_sidecar',
    ...REFUSED,
    final: true,
    when: 'the task has come through this agent before',
  },
  call_depth: {
    status: Status.FAILED_PRECONDITION,
    httpStatus: 412,
    verdict: 'refused_by_sidecar',
    ...REFUSED,
    final: true,
    when: 'the task has come through too many agents',
  },
  task_not_repeatable: {
    status: Status.FAILED_PRECONDITION,
    httpStatus: 412,
    verdict: 'refused_by_sidecar',
    ...MAY_HAVE_RUN,
    when: "the task has run, and its answer can't be given again",
  },
  bus_unavailable: {
    status: Status.UNAVAILABLE,
    httpStatus: 503,
    verdict: 'refused_by_sidecar',
    ...MAY_HAVE_RUN,
    when: "the bus can't be reached; a task that it had stored before is still there, and the same task joins it",
  },
  outcome_unknown: {
    status: Status.UNAVAILABLE,
    httpStatus: 503,
    verdict: 'refused_by_sidecar',
    ...MAY_HAVE_RUN,
    when: 'the bus may have stored the task, and did not confirm it in time; the same task joins it',
  },
  task_cancelled: {
    status: Status.CANCELLED,
    httpStatus: 499,
    verdict: 'cancelled_by_app',
    ...MAY_HAVE_RUN,
    when: 'somebody has cancelled the task on the bus',
  },
  task_dead: {
    status: Status.INTERNAL,
    httpStatus: 500,
    verdict: 'refused_by_sidecar',
    ...MAY_HAVE_RUN,
    final: true,
    when: 'the task is in the dead letters of the bus: its runs were lost too often, or it waited for too long',
  },
  task_unknown: {
    status: Status.NOT_FOUND,
    httpStatus: 404,
    verdict: 'refused_by_sidecar',
    ...REFUSED,
    when: 'the bus has no such task of this caller (`outrigger.v1.Tasks`)',
  },
  task_differs: {
    status: Status.ALREADY_EXISTS,
    httpStatus: 409,
    verdict: 'refused_by_sidecar',
    ...REFUSED,
    when: 'the `idempotency_key` of a Submit names a task with another request',
  },
};

const BY_NAME: ReadonlyMap<string, ReasonFacts> = new Map(Object.entries(REASONS));

/** The facts of a peer's `outrigger-reason`; undefined for '' and for a reason of a newer version. */
export function factsOf(reason: string): ReasonFacts | undefined {
  return BY_NAME.get(reason);
}
