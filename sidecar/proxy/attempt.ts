import type { ConnectionWaiter } from '../cluster/connection-pool.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import { Status, type StatusCode, statusFromHttp2Error } from '../grpc/status.ts';
import type { Connection } from '../http2/connection.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';

/** No stream could be had: nothing of the call has been sent. */
export interface NoConnection {
  readonly kind: 'no-connection';
  readonly reason: 'connect_failed' | 'pending_overflow';
  readonly unprocessed: true;
  readonly message: string;
}

export type AttemptFailure = StreamFailure | NoConnection;

/** The gRPC status that a failed attempt stands for. */
export function statusOfFailure(failure: AttemptFailure): StatusCode {
  if (failure.unprocessed || failure.kind === 'connection') return Status.UNAVAILABLE;
  return failure.kind === 'reset' ? statusFromHttp2Error(failure.code) : Status.INTERNAL;
}

/** The call an attempt works for. */
export interface AttemptOwner {
  /** A stream is there: send what there is of the request. */
  onStreamOpen(attempt: Attempt, stream: Stream): void;
  onResponseHead(attempt: Attempt, list: HeaderList, head: MessageHead): void;
  /** Answers how many bytes are done with, as `StreamHandler.onData` does. */
  onResponseData(attempt: Attempt, buffer: Buffer, start: number, end: number, endStream: boolean): number;
  /** The response ended with these fields: trailers, or a Trailers-Only response. */
  onResponseEnd(attempt: Attempt, list: HeaderList, head: MessageHead): void;
  onAttemptFailed(attempt: Attempt, failure: AttemptFailure): void;
  onRequestBytesSent(attempt: Attempt): void;
}

/**
 * One try of a call at one endpoint.
 *
 *     waiting ──a connection has room──▶ streaming ──END_STREAM──▶ ended
 *        │                                  │
 *        └──none can be had──▶ failed ◀─────┘ reset, connection lost, GOAWAY
 *
 * What happens to a stream that its peer provably never processed (REFUSED_STREAM, a GOAWAY below its id, no
 * connection at all) is said by `failure.unprocessed`, and decided in `pipeline.ts`.
 */
export class Attempt implements StreamHandler, ConnectionWaiter {
  readonly endpoint: Endpoint;
  /** 1 for the first of a call. */
  readonly number: number;
  readonly startedAtMs: number;
  stream: Stream | undefined = undefined;
  /** Request bytes that are on their way. */
  sentBytes = 0;
  /** Set when the first byte of the response message, or its end, came. */
  answered = false;
  ended = false;
  status: StatusCode | -1 = -1;
  private readonly owner: AttemptOwner;

  constructor(owner: AttemptOwner, endpoint: Endpoint, number: number, startedAtMs: number) {
    this.owner = owner;
    this.endpoint = endpoint;
    this.number = number;
    this.startedAtMs = startedAtMs;
  }

  start(): void {
    this.endpoint.attemptStarted();
    const connection = this.endpoint.pool.acquire(this);
    if (connection !== undefined) this.onConnection(connection);
  }

  onConnection(connection: Connection): void {
    this.stream = connection.openStream(this);
    this.owner.onStreamOpen(this, this.stream);
  }

  onNoConnection(reason: NoConnection['reason'], message: string): void {
    this.owner.onAttemptFailed(this, { kind: 'no-connection', reason, unprocessed: true, message });
  }

  /** Sends a piece of the request; the stream must be open. */
  send(buffer: Buffer, start: number, end: number, endStream: boolean): void {
    const stream = this.stream!;
    // Not in one statement with the sum: what was queued may go out, and be counted by onDataSent, during the call.
    const sent = stream.connection.sendData(stream, buffer, start, end, endStream);
    this.sentBytes += sent;
  }

  /** The response's bytes, which the downstream had to wait for, have gone out. */
  consume(bytes: number): void {
    const { stream } = this;
    if (stream !== undefined) stream.connection.consume(stream, bytes);
  }

  /** Gives the attempt up: the endpoint hears RST_STREAM at once. */
  cancel(status: StatusCode): void {
    if (this.ended) return;
    const { stream } = this;
    if (stream === undefined) this.endpoint.pool.cancel(this);
    else stream.connection.reset(stream, ErrorCode.CANCEL);
    this.end(status);
  }

  /** The attempt is over; said once. */
  end(status: StatusCode): void {
    if (this.ended) return;
    this.ended = true;
    this.status = status;
    this.endpoint.attemptEnded(status);
  }

  onHeaders(_stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    if (this.ended) return;
    if (endStream) this.owner.onResponseEnd(this, list, head);
    // Interim responses (1xx) say nothing that gRPC could use.
    else if (head.status >= 200) this.owner.onResponseHead(this, list, head);
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.ended) return end - start;
    return this.owner.onResponseData(this, buffer, start, end, endStream);
  }

  onDataSent(_stream: Stream, bytes: number): void {
    if (this.ended) return;
    this.sentBytes += bytes;
    this.owner.onRequestBytesSent(this);
  }

  onFailed(_stream: Stream, failure: StreamFailure): void {
    if (!this.ended) this.owner.onAttemptFailed(this, failure);
  }
}
