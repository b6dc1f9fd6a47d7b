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
/** What a question may hold, head and all, without being counted while it is answered. */
const LIGHT_BYTES = 16_384;

const RESPONSE_HEAD = new HeaderList([':status', '200', 'content-type', 'application/grpc']);
const OK_TRAILERS = new HeaderList(['grpc-status', '0']);

/** One caller's question about health: gathers the small request, then answers. */
export class HealthCall implements StreamHandler {
  readonly list: HeaderList;
  readonly head: MessageHead;
  service = '';
  /** It has ended, whoever ended it. */
  onGone: () => void = () => {};
  private readonly stream: Stream;
  private readonly onRequest: (call: HealthCall) => void;
  /** With gRPC's prefix, as it came. */
  request: Buffer = Buffer.alloc(0);
  /** Its request has not come as a whole, or its answer is not read. */
  awaitsCaller = true;
  private started = false;
  private ended = false;
  /** Of a watch: what was said last, and what is to be said when the caller reads again. */
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
    // What is asked or watched now is bounded in number, but not what it was asked with.
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

  /** The message without its prefix, inflated where it is compressed; or why it can't be read. */
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

  /** Of a watch: says it if it is another than before. A caller that does not read hears the newest when it does. */
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

  /** The caller has sent more than is taken: it spends what a cancelled call spends. */
  refuse(message: string): void {
    this.end(Status.RESOURCE_EXHAUSTED, message);
    this.stream.connection.waste(this.stream);
  }

  /** As the app has ended its own answer. */
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
