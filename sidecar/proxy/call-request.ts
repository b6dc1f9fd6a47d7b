/** The request side of a call: what has arrived, what went upstream, what is kept for another attempt. */
import { MessageFraming } from '../grpc/message-framing.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { Attempt } from './attempt.ts';
import { inflateFirst } from './compressed-request.ts';
import type { KeptRequests } from './kept-requests.ts';
import { type FirstMessage, RequestBuffer } from './request-buffer.ts';

/** A first message is awaited up to this size; a larger one is routed by its first bytes. */
const FIRST_MESSAGE_MAX_BYTES = 65_536;
/**
 * The limit where the first bytes are not readable yet: a zstd block has 128 KiB, and this stays below a stream's
 * window.
 */
const FIRST_BLOCK_MAX_BYTES = 196_608;

/** A kept request that also computes the credit which its caller gets for the bytes that went out. */
export class CallRequest extends RequestBuffer {
  /** The caller has ended its request. */
  ended: boolean;
  trailers: HeaderList | undefined = undefined;
  readonly framing: MessageFraming | undefined;
  /** How many bytes to wait for before the first message is read. */
  private neededBytes = FIRST_MESSAGE_MAX_BYTES;
  private creditedBytes = 0;
  private readonly kept: KeptRequests | undefined;
  /** The call's share of `kept`. */
  private keptBytes = 0;

  /** @param kept undefined where the number of running calls alone bounds what they keep of their requests */
  constructor(stream: Stream, grpc: boolean, ended: boolean, kept: KeptRequests | undefined) {
    super(stream);
    this.kept = kept;
    this.framing = grpc ? new MessageFraming() : undefined;
    this.ended = ended;
  }

  /** Whether enough bytes have arrived to read the first message. */
  get hasEnough(): boolean {
    return this.ended || this.bytes >= this.neededBytes;
  }

  /**
   * Reads the first message; undefined while it is incomplete, unless `partly`. A compressed message is inflated on
   * each call: keeping the result would cost the caller nothing and us 64 KiB for each of its calls.
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

  /** Keeps bytes that are being sent, as long as another attempt could use them. */
  keep(buffer: Buffer, start: number, end: number, maxBytes: number): void {
    if (!this.whole) return;
    if (this.bytes + end - start > maxBytes) this.drop();
    else {
      this.add(buffer, start, end);
      this.share();
    }
  }

  /** Keeps the bytes while the call runs, if the memory that all running calls share has room for them. */
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

  /** The request consists of its head alone. */
  get headOnly(): boolean {
    return this.ended && this.trailers === undefined && this.parts.length === 0;
  }

  /** Sends what follows the head, except trailers, to an attempt whose stream is open. */
  sendTo(attempt: Attempt, maxBytes: number): void {
    const last = this.trailers === undefined && this.ended;
    // Read the parts anew: an attempt that fails as it sends one drops them.
    for (let i = 0; i < this.parts.length; i++) {
      const part = this.parts[i]!;
      attempt.send(part, 0, part.length, last && i === this.parts.length - 1);
    }
    if (this.bytes > maxBytes) this.drop();
    else this.share();
  }

  /** The number of request bytes that the caller may send because as many went out. */
  credit(attempt: Attempt): number {
    const bytes = attempt.sentBytes - this.creditedBytes;
    if (bytes <= 0) return 0;
    this.creditedBytes = attempt.sentBytes;
    return bytes;
  }
}
