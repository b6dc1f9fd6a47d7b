/** Forwards one health request of a caller to the app. */
import type { Cluster } from '../cluster/cluster.ts';
import type { ConnectionWaiter } from '../cluster/connection/pool-types.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import { PREFIX_BYTES } from '../grpc/message-framing.ts';
import type { StatusCode } from '../grpc/status.ts';
import type { Connection } from '../http2/connection.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import { copyWithout, type HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import { GrowingBuffer } from './growing-buffer.ts';
import type { HealthCall } from './health-call.ts';
import { requestInfo } from './request-info.ts';
import { responseInfo } from './response-info.ts';

/** Enough for a list of a thousand services. */
const MAX_MESSAGE_BYTES = 65_536;

/** Receives the app's answer to a question. One of the last two methods ends the answer; none is called afterwards. */
export interface AppAnswer {
  /** The message without its prefix; valid only during the call. */
  onMessage(message: Buffer): void;
  onEnd(status: StatusCode, list: HeaderList, head: MessageHead): void;
  /** `absent`: no app was reachable, or its connection closed. `not_grpc`: the answer is unreadable. */
  onNoAnswer(why: 'absent' | 'not_grpc', message: string): void;
}

/**
 * Forwards a caller's request about the health of one of the app's own services, unchanged and with its metadata. The
 * sidecar sets no timeout for it: the question ends when the app ends it, or when the caller leaves.
 */
export class AppQuestion implements StreamHandler, ConnectionWaiter {
  /** Undefined when there is no app. */
  readonly endpoint: Endpoint | undefined;
  private readonly call: HealthCall;
  private readonly answer: AppAnswer;
  private stream: Stream | undefined = undefined;
  private readonly received = new GrowingBuffer();
  private done = false;

  constructor(cluster: Cluster, call: HealthCall, answer: AppAnswer) {
    this.endpoint = cluster.endpoints[0];
    this.call = call;
    this.answer = answer;
  }

  start(): void {
    if (this.endpoint === undefined) {
      this.noAnswer('absent', 'there is no app');
      return;
    }
    const connection = this.endpoint.pool.acquire(this);
    if (connection !== undefined) this.onConnection(connection);
  }

  onConnection(connection: Connection): void {
    const { list, head, request } = this.call;
    const { maxHeaderListBytes } = connection.peer;
    if (list.listBytes > maxHeaderListBytes) {
      this.done = true;
      const said = `the request's header fields have ${list.listBytes} bytes`;
      this.call.refuse(`${said}, and the app takes ${maxHeaderListBytes}`);
      return;
    }
    const stream = connection.openStream(this);
    this.stream = stream;
    // The sidecar reads the answer, so the app must not compress it.
    const plain = copyWithout(list, (name) => name === 'grpc-accept-encoding');
    const info = requestInfo(list, head);
    const fields = info.withScheme(info.withoutCertificate(plain), connection.scheme);
    connection.sendHeaders(stream, fields, undefined, false);
    connection.sendData(stream, request, 0, request.length, true);
  }

  onNoConnection(_reason: string, message: string): void {
    this.noAnswer('absent', message);
  }

  onHeaders(_stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    if (this.done || (head.kind === 'response' && head.status < 200)) return;
    const { grpc, status } = responseInfo(list, head);
    if (!endStream) {
      if (!grpc) this.noAnswer('not_grpc', `the app answered HTTP ${head.status}, not gRPC`);
    } else if (status === -1) {
      this.noAnswer('not_grpc', 'the app ended its answer without a gRPC status');
    } else {
      this.done = true;
      this.answer.onEnd(status, list, head);
    }
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.done) return end - start;
    this.received.add(buffer, start, end);
    for (let message = this.nextMessage(); message !== undefined && !this.done; message = this.nextMessage())
      this.answer.onMessage(message);
    if (endStream) this.noAnswer('not_grpc', 'the app ended its answer without a gRPC status');
    return end - start;
  }

  private nextMessage(): Buffer | undefined {
    const received = this.received.bytes;
    if (received.length < PREFIX_BYTES) return undefined;
    const length = received.readUInt32BE(1);
    if (received[0] !== 0 || length > MAX_MESSAGE_BYTES) {
      this.noAnswer('not_grpc', 'the app answered a message that is compressed, or too large');
      return undefined;
    }
    const end = PREFIX_BYTES + length;
    if (received.length < end) return undefined;
    this.received.dropFirst(end);
    return received.subarray(PREFIX_BYTES, end);
  }

  onDataSent(): void {}

  onFailed(_stream: Stream, failure: StreamFailure): void {
    this.noAnswer('absent', failure.message);
  }

  private noAnswer(why: 'absent' | 'not_grpc', message: string): void {
    if (this.done) return;
    this.cancel();
    this.answer.onNoAnswer(why, message);
  }

  /** The caller left: cancels the request to the app. */
  cancel(): void {
    if (this.done) return;
    this.done = true;
    const { stream } = this;
    if (stream === undefined) this.endpoint?.pool.cancel(this);
    else if (!stream.closed) stream.connection.reset(stream, ErrorCode.CANCEL);
  }
}
