/** How an attempt ended, in the terms that the policies use. */
import type { StatusCode } from '../grpc/status.ts';
import type { DeadlineOwner } from './deadline.ts';
import type { NotAgain } from './pushback.ts';
import { factsOf, type ReasonFacts } from './reasons.ts';

/**
 * - `first_message`: not an end; a stream's first response message has begun to arrive, see `verdict.ts`.
 * - `status`: the answer ended with a `grpc-status`, in headers (Trailers-Only) or in trailers.
 * - `no_status`: the answer ended cleanly and without one.
 * - `http_status`: an HTTP status other than 200 and no `grpc-status`: the answer is not a gRPC server's.
 * - `reset`, `goaway`, `connection_lost`, `protocol`: the peer's RST_STREAM; its GOAWAY above the stream; the
 *   connection was lost; the peer broke HTTP/2.
 * - `no_connection`: no connection could be made. `own_limit`: a limit of this sidecar or this host allowed none
 *   (`max_pending_calls`, file descriptors), or the message exceeded our own size limit. `no_streams`: the peer's limit
 *   of streams left none while the call waited, and the call moved to another endpoint.
 * - `deadline`: the call's, see `deadlineOwner`. `per_try`, `first_chunk`, `idle`: the clocks of those names.
 * - `cancelled`: the caller left. `superseded`: another attempt of the call won. `shutdown`: the sidecar stops.
 */
export type EndKind =
  | 'first_message'
  | 'status'
  | 'no_status'
  | 'http_status'
  | 'reset'
  | 'goaway'
  | 'connection_lost'
  | 'protocol'
  | 'no_connection'
  | 'no_streams'
  | 'own_limit'
  | 'deadline'
  | 'per_try'
  | 'first_chunk'
  | 'idle'
  | 'cancelled'
  | 'superseded'
  | 'shutdown';

/** How far an attempt came; compare with `<`. */
export const Progress = {
  /** Waits for room: all connections are at the peer's limit of streams, and no more may be opened. */
  QUEUED: 0,
  /** Waits for a connection that is being made. */
  CONNECTING: 1,
  /** The request, or its beginning, was written. */
  SENT: 2,
  /** The first byte of a response message arrived. */
  MESSAGE: 3,
} as const;
export type Progress = (typeof Progress)[keyof typeof Progress];

/** The value of `TaskResponse.status`, when it counts against the agent. */
export type TaskFailure = 'none' | 'failed' | 'timeout';

/** The end of an attempt. `Attempt` has these fields itself, so that judging it allocates nothing. */
export interface AttemptEnd {
  readonly kind: EndKind;
  /** The endpoint's status; for ends without one, the status that the caller receives. Not read for `first_message`. */
  readonly status: StatusCode;
  /**
   * The HTTP/2 error code of `reset` and `goaway`; the HTTP status of `http_status`, also where the peer's sidecar
   * reports that its app answered in that way; else 0.
   */
  readonly code: number;
  readonly progress: Progress;
  /** By the transport's proof: REFUSED_STREAM, GOAWAY below the stream, no connection, never written. */
  readonly unprocessed: boolean;
  /** The response may have several messages. True for an unknown method. */
  readonly streaming: boolean;
  /**
   * The endpoint owed the answer: the caller had sent its whole request, or a part of it waited for the endpoint to
   * read. While the caller may still send, a silent server is waiting for the caller.
   */
  readonly answerOwed: boolean;
  /** The owner of the deadline that the attempt ran under. */
  readonly deadlineOwner: DeadlineOwner;
  /** Milliseconds from the attempt's start to that deadline; Infinity for none. */
  readonly allowedMs: number;
  /** Milliseconds from the attempt's start to this end. */
  readonly elapsedMs: number;
  /**
   * The attempt ended with a connection that was going away gracefully, and another attempt already counted for that: see
   * `proxy/going-away.ts`.
   */
  readonly goingAway: boolean;
  /** The request's head breaks gRPC's rules, which may be why a server refused it. Read only for failures. */
  readonly requestIrregular: boolean;
  /** `outrigger-reason`, when the peer's own sidecar answered; '' when the app did. */
  readonly peerReason: string;
  /** From `grpc-retry-pushback-ms`, by `parsePushback`; undefined without one. */
  readonly pushbackMs: number | undefined;
  /** The callers that must not try the call again, by the endpoint's answer. */
  readonly notAgain: NotAgain;
  readonly taskFailure: TaskFailure;
}

/**
 * Whether the app at the endpoint provably saw nothing of the call: by the transport's proof, or because its sidecar
 * says so in place of an answer. Such a call can be sent again, whatever it does.
 */
export function neverReachedApp(end: AttemptEnd): boolean {
  return end.unprocessed || peerFacts(end)?.app === 'untouched';
}

/** Whether the peer's sidecar answered in place of its app, and will accept the call another time. */
export function turnedAwayBySidecar(end: AttemptEnd): boolean {
  return peerFacts(end)?.turnedAway === true;
}

/** The facts of an answer in place of the app's; an answer that follows a message of the app is not one. */
function peerFacts(end: AttemptEnd): ReasonFacts | undefined {
  const answered = end.kind === 'status' && end.progress < Progress.MESSAGE;
  return answered && end.peerReason !== '' ? factsOf(end.peerReason) : undefined;
}
