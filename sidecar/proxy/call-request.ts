import { MessageFraming } from '../grpc/message-framing.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { Attempt } from './attempt.ts';
import { RequestBuffer } from './request-buffer.ts';

/** The request side of a call: what has come of it, what has gone out, and what the caller may send in its place. */
export class CallRequest extends RequestBuffer {
  /** The caller has sent all it will send. */
  ended: boolean;
  trailers: HeaderList | undefined = undefined;
  readonly framing: MessageFraming | undefined;
  private creditedBytes = 0;

  constructor(grpc: boolean, ended: boolean) {
    super();
    this.framing = grpc ? new MessageFraming() : undefined;
    this.ended = ended;
  }

  /** Keeps bytes that are being sent, as long as another attempt could be made with them. */
  keep(buffer: Buffer, start: number, end: number, maxBytes: number): void {
    if (!this.whole) return;
    if (this.bytes + end - start > maxBytes) this.drop();
    else this.add(buffer, start, end);
  }

  /** The head is all there is of the request. */
  get headOnly(): boolean {
    return this.ended && this.trailers === undefined && this.parts.length === 0;
  }

  /** Sends what there is behind the head to an attempt whose stream is open. */
  sendTo(attempt: Attempt, stream: Stream, maxBytes: number): void {
    const { parts, trailers } = this;
    const last = trailers === undefined && this.ended;
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!;
      attempt.send(part, 0, part.length, last && i === parts.length - 1);
    }
    if (trailers !== undefined) stream.connection.sendHeaders(stream, trailers, undefined, true);
    if (this.bytes > maxBytes) this.drop();
  }

  /** How many request bytes the caller may send in place of those that have gone out now. */
  credit(attempt: Attempt): number {
    const bytes = attempt.sentBytes - this.creditedBytes;
    if (bytes <= 0) return 0;
    this.creditedBytes = attempt.sentBytes;
    return bytes;
  }
}
