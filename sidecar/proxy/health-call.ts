/** One health request of a caller: gathers the request, then sends the answer. */
import { readOnlyMessage } from '../grpc/message-encoding.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import { encodeStatusMessage } from '../grpc/status-message.ts';
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import { type ServingStatus, writeServingStatus } from '../task/health-message.ts';
import { type Caller, callerOf } from './caller.ts';
import { responseInfo } from './response-info.ts';

const MAX_REQUEST_BYTES = 4_096;
/** The size, head included, up to which a request is not counted as held while it is answered. */
const LIGHT_BYTES = 16_384;

const RESPONSE_HEAD = new HeaderList([':status', '200', 'content-type', 'application/grpc']);
const OK_TRAILERS = new HeaderList(['grpc-status', '0']);

export class HealthCall implements StreamHandler {
  readonly list: HeaderList;
  readonly head: MessageHead;
  service = '';
  /** Called when the call has ended, whoever ended it. */
  onGone: () => void = () => {};
  private readonly stream: Stream;
  private readonly onRequest: (call: HealthCall) => void;
  /** The request as received, with gRPC's prefix. */
  request: Buffer = Buffer.alloc(0);
  /** True while the request is incomplete, or the answer unread. */
  awaitsCaller = true;
  private started = false;
  private ended = false;
  /** Of a watch: the status that was sent last, and the one to send when the caller reads again. */
  private lastStatus = -1;
  private nextStatus = -1;

  constructor(stream: Stream, list: HeaderList, head: MessageHead, onRequest: (call: HealthCall) => void) {
    this.stream = stream;
    this.list = list;
    this.head = head;
    this.onRequest = onRequest;
  }

  get caller(): Caller {
    return callerOf(this.stream.connection);
  }

  complete(): void {
    if (this.ended) return;
    const { stream } = this;
    this.awaitsCaller = false;
    // The number of open questions and watches is bounded, but not the size of their requests.
    if (stream.heldBytes <= LIGHT_BYTES) heldRequests.pass(stream);
    else heldRequests.moved(stream);
    this.onRequest(this);
  }

  onNoRoom(stream: Stream): void {
    if (this.ended) stream.connection.giveUp(stream);
    else this.end(Status.RESOURCE_EXHAUSTED, 'too many requests wait, and most of them are of this caller');
  }

  get encoding(): string {
    return this.list.getTrimmed('grpc-encoding') ?? '';
  }

  /** The message without its prefix, inflated if it is compressed; or why it is unreadable. */
  readMessage(): ReturnType<typeof readOnlyMessage> {
    return readOnlyMessage(this.request, this.encoding, MAX_REQUEST_BYTES);
  }

  onHeaders(): void {
    this.complete();
  }

  onData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.ended) return end - start;
    if (this.request.length + end - start > MAX_REQUEST_BYTES) {
      this.refuse(`a health request has at most ${MAX_REQUEST_BYTES} bytes`);
      return end - start;
    }
    this.request = Buffer.concat([this.request, buffer.subarray(start, end)]);
    heldRequests.add(stream, end - start);
    if (endStream) this.complete();
    return end - start;
  }

  onDataSent(): void {
    if (this.nextStatus >= 0 && this.stream.queue === undefined)
      this.sendStatus(this.nextStatus as ServingStatus);
  }

  onFailed(): void {
    this.gone();
  }

  private gone(): void {
    if (this.ended) return;
    this.ended = true;
    this.onGone();
  }

  /**
   * Of a watch: sends a status that differs from the last one. A caller that does not read gets the newest when it
   * reads again.
   */
  sendStatus(status: ServingStatus): void {
    this.nextStatus = -1;
    if (status === this.lastStatus || this.ended) return;
    if (this.stream.queue !== undefined) {
      this.nextStatus = status;
      return;
    }
    this.lastStatus = status;
    this.sendMessage(writeServingStatus(status));
  }

  /** @param message with its prefix */
  sendMessage(message: Buffer): void {
    if (this.ended) return;
    this.start();
    this.stream.connection.sendData(this.stream, message, 0, message.length, false);
  }

  private start(): void {
    const { stream } = this;
    if (!this.started) stream.connection.sendHeaders(stream, RESPONSE_HEAD, undefined, false);
    this.started = true;
  }

  end(status: StatusCode, message = ''): void {
    if (status === Status.OK) {
      this.start();
      this.endWith(OK_TRAILERS, undefined);
    } else {
      const fields = ['grpc-status', String(status), 'grpc-message', encodeStatusMessage(message)];
      this.endWith(this.started ? new HeaderList([]) : RESPONSE_HEAD, fields);
    }
  }

  /** The caller sent more than the limit: refuses the call, which costs the allowance of a cancelled one. */
  refuse(message: string): void {
    this.end(Status.RESOURCE_EXHAUSTED, message);
    this.stream.connection.waste(this.stream);
  }

  /** Ends the call with the fields that the app ended its own answer with. */
  endAs(list: HeaderList, head: MessageHead): void {
    if (head.kind === 'trailers') this.start();
    this.endWith(responseInfo(list, head).asApp, undefined);
  }

  private endWith(list: HeaderList, fields: readonly string[] | undefined): void {
    if (this.ended) return;
    const { stream } = this;
    stream.connection.sendHeaders(stream, list, fields, true);
    stream.connection.stopReceiving(stream);
    this.awaitsCaller = true;
    heldRequests.hold(stream);
    this.gone();
  }
}
