/** One call of a service of the sidecar's own: gathers the request, then sends messages at the pace of their reader. */

import type { Refusal } from '../../bus/publisher/refusals.ts';
import { readOnlyMessage } from '../../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';
import { Status } from '../../grpc/status.ts';
import { encodeStatusMessage } from '../../grpc/status-message.ts';
import { parseTimeout } from '../../grpc/timeout.ts';
import { heldRequests } from '../../http2/held-requests.ts';
import { HeaderList } from '../../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../../http2/streams.ts';
import { GrowingBuffer } from '../../proxy/growing-buffer.ts';
import { NO_FIELDS, TRAILERS_ONLY } from '../../proxy/local-reply.ts';
import { REASON_HEADER } from '../../proxy/sidecar-fields.ts';
import { frameMessage } from '../../task/health-message.ts';

const OK_TRAILERS = new HeaderList(['grpc-status', '0']);
/** A reader that takes nothing for so long holds memory for nothing. */
const PATIENCE_MS = 60_000;
const NOT_READ: Refusal = {
  status: Status.RESOURCE_EXHAUSTED,
  message: 'nothing was read for a minute; ask again for what follows the last message',
  reason: 'not_read',
};
const COPIED_BYTES = 16_384;
const SHORT_REQUEST_BYTES = 65_536;
/** The longest time that a timer of Node's can wait. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class LocalCall implements StreamHandler {
  readonly list: HeaderList;
  /** Aborts when the call has ended, whoever ended it. */
  readonly gone: AbortSignal;
  /** True while the request is incomplete, or the answer unread. */
  awaitsCaller = true;
  private deadlineMs = Number.POSITIVE_INFINITY;
  private readonly stream: Stream;
  private readonly maxBytes: number;
  private readonly onRequest: (call: LocalCall) => void;
  private readonly request = new GrowingBuffer();
  /** The bytes of the request that count as held. */
  private counted = 0;
  private readonly end = new AbortController();
  private onRoom: (() => void) | undefined = undefined;
  private timer: NodeJS.Timeout | undefined = undefined;
  private complete = false;
  private started = false;
  private ended = false;

  private readonly patienceMs: number;

  /** @param maxBytes the limit of the request, inflated */
  constructor(
    stream: Stream,
    list: HeaderList,
    maxBytes: number,
    onRequest: (call: LocalCall) => void,
    patienceMs = PATIENCE_MS,
  ) {
    this.patienceMs = patienceMs;
    this.stream = stream;
    this.list = list;
    this.maxBytes = maxBytes;
    this.onRequest = onRequest;
    this.gone = this.end.signal;
    const timeoutMs = parseTimeout(list.getTrimmed('grpc-timeout') ?? '');
    if (timeoutMs > 0) this.deadlineMs = performance.now() + timeoutMs;
    if (timeoutMs <= LONGEST_TIMER_MS) this.timer = setTimeout(() => this.onDeadline(), timeoutMs);
  }

  get connection(): Stream['connection'] {
    return this.stream.connection;
  }

  /** Infinity without a deadline. */
  get timeLeftMs(): number {
    return this.deadlineMs - performance.now();
  }

  private onDeadline(): void {
    const message = "the call's deadline has passed";
    this.fail({ status: Status.DEADLINE_EXCEEDED, message, reason: 'deadline' });
  }

  /** The request is here. Its bytes count as held until the answer is sent. */
  onComplete(): void {
    if (this.ended || this.complete) return;
    this.complete = true;
    this.awaitsCaller = false;
    heldRequests.moved(this.stream);
    this.onRequest(this);
  }

  get requestBytes(): number {
    return this.request.bytes.length;
  }

  /** The message without its prefix, inflated if it is compressed; undefined when the call was refused for it. */
  readMessage(): Buffer | undefined {
    const encoding = this.list.getTrimmed('grpc-encoding') ?? '';
    const message = readOnlyMessage(this.request.bytes, encoding, this.maxBytes);
    if (typeof message !== 'string') return message;
    if (message === 'unsupported')
      this.fail({
        status: Status.UNIMPLEMENTED,
        message: `${encoding} can't be read here; don't compress`,
        reason: 'unreadable_message',
      });
    else if (message === 'too_large') this.refuseSize();
    else
      this.fail({
        status: Status.INVALID_ARGUMENT,
        message: 'send one message of outrigger.v1',
        reason: 'bad_request',
      });
    return undefined;
  }

  onHeaders(): void {
    this.onComplete();
  }

  onData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.ended || this.complete) return end - start;
    if (this.request.bytes.length + end - start > this.maxBytes + PREFIX_BYTES) {
      this.refuseSize();
      return end - start;
    }
    this.request.add(buffer, start, end);
    this.count(stream);
    if (endStream) this.onComplete();
    return end - start;
  }

  /** A message that is no longer short counts as a whole, and has a buffer of its size: its prefix says it. */
  private count(stream: Stream): void {
    const { bytes } = this.request;
    let wanted = bytes.length;
    if (bytes.length > SHORT_REQUEST_BYTES) {
      wanted = Math.max(wanted, Math.min(PREFIX_BYTES + bytes.readUInt32BE(1), this.maxBytes + PREFIX_BYTES));
      this.request.reserve(wanted);
    }
    if (wanted > this.counted) heldRequests.add(stream, wanted - this.counted);
    this.counted = Math.max(this.counted, wanted);
  }

  private refuseSize(): void {
    const message = `a request has at most ${this.maxBytes} bytes`;
    this.fail({ status: Status.RESOURCE_EXHAUSTED, message, reason: 'message_too_large' });
    this.stream.connection.waste(this.stream);
  }

  onNoRoom(stream: Stream): void {
    if (this.ended) stream.connection.giveUp(stream);
    else {
      const message = 'too many requests wait, and most of them are of this caller';
      this.fail({ status: Status.RESOURCE_EXHAUSTED, message, reason: 'overloaded' });
    }
  }

  onDataSent(): void {
    if (this.stream.queue === undefined) this.wake();
  }

  onFailed(): void {
    this.leave();
  }

  /** Sends a message. Resolves when its reader can take the next one, or the call has ended. */
  send(message: Buffer): Promise<void> {
    return this.sendBytes(frameMessage(message));
  }

  /** Sends one message of two parts; a large end is not copied. */
  async sendBoth(start: Buffer, end: Buffer): Promise<void> {
    if (end.length <= COPIED_BYTES) return this.send(Buffer.concat([start, end]));
    await this.sendStart(start, end.length);
    await this.sendBytes(end);
  }

  /** Sends the beginning of a message, of which so many bytes follow. */
  sendStart(start: Buffer, follow: number): Promise<void> {
    const framed = frameMessage(start);
    framed.writeUInt32BE(start.length + follow, 1);
    return this.sendBytes(framed);
  }

  /** Sends a part of a message that {@link sendStart} has begun. Resolves as {@link send} does. */
  async sendBytes(bytes: Buffer): Promise<void> {
    if (this.ended) return;
    const { stream } = this;
    this.start();
    stream.connection.sendData(stream, bytes, 0, bytes.length, false);
    if (this.isEnded || stream.queue === undefined) return;
    const timer = setTimeout(() => this.giveUp(), this.patienceMs);
    await new Promise<void>((resolve) => {
      this.onRoom = resolve;
    });
    clearTimeout(timer);
  }

  /** The messages that wait are dropped: their reader would not read the status behind them. */
  private giveUp(): void {
    this.stream.connection.waiting.discard(this.stream);
    this.fail(NOT_READ);
  }

  /** A getter, because `sendData` may have ended the call. */
  private get isEnded(): boolean {
    return this.ended;
  }

  /** Ends the call with success. */
  finish(): void {
    if (this.ended) return;
    this.start();
    this.endWith(OK_TRAILERS, undefined);
  }

  fail({ status, message, reason, pushbackMs }: Refusal): void {
    const fields = ['grpc-status', String(status), 'grpc-message', encodeStatusMessage(message)];
    fields.push(REASON_HEADER, reason);
    if (pushbackMs !== undefined) fields.push('grpc-retry-pushback-ms', String(pushbackMs));
    this.endWith(this.started ? NO_FIELDS : TRAILERS_ONLY, fields);
  }

  private start(): void {
    const { stream } = this;
    if (!this.started) stream.connection.sendHeaders(stream, TRAILERS_ONLY, undefined, false);
    this.started = true;
  }

  private endWith(list: HeaderList, fields: readonly string[] | undefined): void {
    if (this.ended) return;
    const { stream } = this;
    this.ended = true;
    stream.connection.sendHeaders(stream, list, fields, true);
    stream.connection.stopReceiving(stream);
    this.awaitsCaller = true;
    heldRequests.hold(stream);
    this.leave();
  }

  private leave(): void {
    this.ended = true;
    clearTimeout(this.timer);
    this.wake();
    this.end.abort();
  }

  private wake(): void {
    const { onRoom } = this;
    this.onRoom = undefined;
    onRoom?.();
  }
}
