/** How an attempt ended, in the words that the policies judge by. */
import type { StatusCode } from '../grpc/status.ts';
import type { DeadlineOwner } from './deadline.ts';
import type { NotAgain } from './pushback.ts';
import { factsOf, type ReasonFacts } from './reasons.ts';

/**
 * - `first_message`: not an end; a stream's first response message has begun to come, see `verdict.ts`.
 * - `status`: the answer ended with a `grpc-status`, in headers (Trailers-Only) or in trailers.
 * - `no_status`: the answer ended cleanly and without one.
 * - `http_status`: an HTTP status other than 200 and no `grpc-status`: no gRPC server spoke.
 * - `reset`, `goaway`, `connection_lost`, `protocol`: the peer's RST_STREAM; its GOAWAY above the stream; the
 *   connection went away under it; the peer broke HTTP/2.
 * - `no_connection`: none could be made. `own_limit`: none was allowed by a limit of this sidecar or this host
 *   (`max_pending_calls`, file descriptors), or the message was above our own size. `no_streams`: the peer's limit of
 *   streams left none while the call waited, and it has gone to another endpoint.
 * - `deadline`: the call's, see `deadlineOwner`. `per_try`, `first_chunk`, `idle`: the clocks of those names.
 * - `cancelled`: the caller is gone. `superseded`: another attempt of the call has won. `shutdown`: we are going.
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
  /** Waits for room: all connections are at the peer's limit of streams and no more may be opened. */
  QUEUED: 0,
  /** Waits for a connection that is being made. */
  CONNECTING: 1,
  /** The request, or its beginning, was written. */
  SENT: 2,
  /** The first byte of a response message came. */
  MESSAGE: 3,
} as const;
export type Progress = (typeof Progress)[keyof typeof Progress];

/** What `TaskResponse.status` says when it counts against the agent. */
export type TaskFailure = 'none' | 'failed' | 'timeout';

/** An attempt can be its own end: these are plain fields, so that nothing has to be made to judge one. */
export interface AttemptEnd {
  readonly kind: EndKind;
  /** The endpoint's; for ends without one, the status that the caller is told. Not read for `first_message`. */
  readonly status: StatusCode;
  /**
   * The HTTP/2 error code of `reset` and `goaway`; the HTTP status of `http_status`, also where the peer's sidecar says that
   * its app answered so; else 0.
   */
  readonly code: number;
  readonly progress: Progress;
  /** By the transport's proof: REFUSED_STREAM, GOAWAY below the stream, no connection, never written. */
  readonly unprocessed: boolean;
  /** The response may have several messages. Who does not know the method says true. */
  readonly streaming: boolean;
  /**
   * The caller had sent all of its request, or some of it waited for the endpoint to take it: it was the endpoint's turn.
   * While the caller may still send, a server that is silent waits for it.
   */
  readonly answerOwed: boolean;
  /** Whose deadline the attempt ran under. */
  readonly deadlineOwner: DeadlineOwner;
  /** Milliseconds from the attempt's start to that deadline; Infinity for none. */
  readonly allowedMs: number;
  /** Milliseconds from the attempt's start to this end. */
  readonly elapsedMs: number;
  /**
   * It ended with a connection that was going away in order, and whatever of that could count has been counted: see
   * `proxy/going-away.ts`.
   */
  readonly goingAway: boolean;
  /** The request's head is not what gRPC asks of it: a server that refuses it may do so for that. Read of failures. */
  readonly requestIrregular: boolean;
  /** `outrigger-reason`, when the answer was made by the peer's own sidecar; '' when the app gave it. */
  readonly peerReason: string;
  /** Of `grpc-retry-pushback-ms`, read by `parsePushback`; undefined without one. */
  readonly pushbackMs: number | undefined;
  /** Callers that must not try the call again, by the endpoint's answer. */
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

/** The peer's sidecar answered in place of its app, and will take the call another time. */
export function turnedAwayBySidecar(end: AttemptEnd): boolean {
  return peerFacts(end)?.turnedAway === true;
}

/** Of an answer in place of the app's; behind a message of the app it can't be one. */
function peerFacts(end: AttemptEnd): ReasonFacts | undefined {
  const answered = end.kind === 'status' && end.progress < Progress.MESSAGE;
  return answered && end.peerReason !== '' ? factsOf(end.peerReason) : undefined;
}
