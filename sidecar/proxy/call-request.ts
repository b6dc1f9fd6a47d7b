import { MessageFraming } from '../grpc/message-framing.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { Attempt } from './attempt.ts';
import { inflateFirst } from './compressed-request.ts';
import type { KeptRequests } from './kept-requests.ts';
import { type FirstMessage, RequestBuffer } from './request-buffer.ts';

/** The first message is waited for up to this size; a larger one is routed by what its first bytes say. */
const FIRST_MESSAGE_MAX_BYTES = 65_536;
/** Where they say nothing yet: a block of zstd's has 128 KiB, and stays below a stream's window. */
const FIRST_BLOCK_MAX_BYTES = 196_608;

/** The request side of a call: what has come of it, what has gone out, and what the caller may send in its place. */
export class CallRequest extends RequestBuffer {
  /** The caller has sent all it will send. */
  ended: boolean;
  trailers: HeaderList | undefined = undefined;
  readonly framing: MessageFraming | undefined;
  /** So much of it is waited for to read its first message. */
  private neededBytes = FIRST_MESSAGE_MAX_BYTES;
  private creditedBytes = 0;
  private readonly kept: KeptRequests | undefined;
  /** What it has of `kept`. */
  private keptBytes = 0;

  /** @param kept undefined where what running calls keep of their requests is bounded by their number */
  constructor(stream: Stream, grpc: boolean, ended: boolean, kept: KeptRequests | undefined) {
    super(stream);
    this.kept = kept;
    this.framing = grpc ? new MessageFraming() : undefined;
    this.ended = ended;
  }

  /** No more of it is waited for to read its first message. */
  get hasEnough(): boolean {
    return this.ended || this.bytes >= this.neededBytes;
  }

  /**
   * What can be read of the first message; undefined while it is not all here, unless `partly`. A compressed one is
   * inflated anew each time: to keep that would cost a caller nothing, and us 64 KiB for each of its calls.
   *
   * @param encoding the call's `grpc-encoding`; '' without one
   */
  readFirst(encoding: string, partly: boolean): FirstMessage | undefined {
    const message = this.firstMessage(partly);
    if (message === undefined || message.flag === 0) return message;
    const inflated = inflateFirst(message, encoding);
    if (inflated.unreadable === 'unfinished') this.neededBytes = FIRST_BLOCK_MAX_BYTES;
    return inflated;
  }

  /** Keeps bytes that are being sent, as long as another attempt could be made with them. */
  keep(buffer: Buffer, start: number, end: number, maxBytes: number): void {
    if (!this.whole) return;
    if (this.bytes + end - start > maxBytes) this.drop();
    else {
      this.add(buffer, start, end);
      this.share();
    }
  }

  /** Keeps what there is of it while the call runs, if all running calls have room for it. */
  private share(): void {
    if (this.kept === undefined) return;
    const moreBytes = this.heldBytes - this.keptBytes;
    if (!this.kept.take(moreBytes)) this.drop();
    else this.keptBytes += moreBytes;
  }

  override drop(): void {
    if (this.keptBytes > 0) {
      this.kept!.give(this.keptBytes);
      this.keptBytes = 0;
    }
    super.drop();
  }

  /** The head is all there is of the request. */
  get headOnly(): boolean {
    return this.ended && this.trailers === undefined && this.parts.length === 0;
  }

  /** Sends what there is behind the head, except trailers, to an attempt whose stream is open. */
  sendTo(attempt: Attempt, maxBytes: number): void {
    const { parts, trailers } = this;
    const last = trailers === undefined && this.ended;
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!;
      attempt.send(part, 0, part.length, last && i === parts.length - 1);
    }
    if (this.bytes > maxBytes) this.drop();
    else this.share();
  }

  /** How many request bytes the caller may send in place of those that have gone out now. */
  credit(attempt: Attempt): number {
    const bytes = attempt.sentBytes - this.creditedBytes;
    if (bytes <= 0) return 0;
    this.creditedBytes = attempt.sentBytes;
    return bytes;
  }
}
