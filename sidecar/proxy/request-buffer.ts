/** Keeps the bytes of a request that an attempt may still have to send. */
import type { Unreadable } from '../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../grpc/message-framing.ts';
import { heldRequests } from '../http2/held-requests.ts';
import { requestBlocks } from '../http2/request-blocks.ts';
import { isSharedRead } from '../http2/shared-read.ts';
import { SHORT_COPY_MAX_BYTES, type ShortCopy, shortCopies } from '../http2/short-copy.ts';
import type { Stream } from '../http2/streams.ts';

/** Slices up to a quarter of their buffer are copied, so that a call never keeps others' bytes alive. */
const COPY_BELOW = 4;
/** Further small slices share blocks that double up to this size: a frame of one byte must cost one byte. */
const OWN_BLOCK_MAX_BYTES = 4_096;

/** The chunks of an empty buffer; never written to. */
const NO_CHUNKS: Buffer[] = [];

/** A request's first message without its prefix: `buffer[start, end)`. */
export interface FirstMessage {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
  /** The message is complete. */
  readonly whole: boolean;
  /** The flag of gRPC's prefix: 1 means compressed, and gRPC knows no higher value. */
  readonly flag: number;
  /** Size of the message in the request, as far as it has arrived. */
  readonly wireBytes: number;
  /** Why the message is unreadable. */
  readonly unreadable: Unreadable | undefined;
}

/**
 * The request as far as it has arrived: the bytes that an attempt without a stream will send, and those that another
 * attempt would send again. Once a part was dropped, the request can't be sent again; then the buffer holds only bytes that
 * no attempt has sent.
 */
export class RequestBuffer {
  private chunks: Buffer[] = NO_CHUNKS;
  /** Bytes used of the last chunk, while it is a block with room; 0 when it is not. */
  private blockBytes = 0;
  /** The memory of the first chunk, if that is a short copy. */
  private short: ShortCopy | undefined = undefined;
  bytes = 0;
  /** The memory that the bytes occupy: the size of their blocks. */
  heldBytes = 0;
  private readonly stream: Stream | undefined;
  /** Nothing was dropped: a new attempt can send the request from its beginning. */
  whole = true;

  /** @param stream counts the bytes as held; undefined where they are not counted */
  constructor(stream?: Stream) {
    this.stream = stream;
  }

  add(buffer: Buffer, start: number, end: number): void {
    const length = end - start;
    if (length === 0) return;
    this.bytes += length;
    if (isSharedRead(buffer) || length * COPY_BELOW < buffer.buffer.byteLength) {
      this.copy(buffer, start, end);
    } else {
      this.sealBlock();
      this.addChunk(buffer.subarray(start, end));
      this.hold(length);
    }
  }

  private addChunk(chunk: Buffer): void {
    // Most requests have one; an array that grows has room for more.
    if (this.chunks.length === 0) this.chunks = [chunk];
    else this.chunks.push(chunk);
  }

  private hold(bytes: number): void {
    this.heldBytes += bytes;
    if (this.stream !== undefined) heldRequests.add(this.stream, bytes);
  }

  private copy(buffer: Buffer, start: number, end: number): void {
    const length = end - start;
    if (this.blockBytes === 0) {
      // Most requests arrive in one piece, and get exactly the room they need.
      if (this.chunks.length === 0 && length <= SHORT_COPY_MAX_BYTES) {
        const { buffer: memory, used } = this.copyShort(buffer, start, end);
        this.addChunk(memory.subarray(used - length, used));
        this.hold(length);
        return;
      }
      const size = Math.max(length, this.bytes - length);
      const block = size > OWN_BLOCK_MAX_BYTES ? requestBlocks.take() : Buffer.allocUnsafeSlow(size);
      this.addChunk(block);
      this.hold(block.length);
    }
    const block = this.chunks[this.chunks.length - 1]!;
    const bytes = Math.min(length, block.length - this.blockBytes);
    buffer.copy(block, this.blockBytes, start, start + bytes);
    this.blockBytes += bytes;
    if (this.blockBytes === block.length) this.blockBytes = 0;
    if (bytes < length) this.copy(buffer, start + bytes, end);
  }

  private copyShort(buffer: Buffer, start: number, end: number): ShortCopy {
    const copy = shortCopies.copy(buffer, start, end);
    this.short = copy;
    return copy;
  }

  private sealBlock(): void {
    if (this.blockBytes === 0) return;
    const last = this.chunks.length - 1;
    this.chunks[last] = this.chunks[last]!.subarray(0, this.blockBytes);
    this.blockBytes = 0;
  }

  get parts(): readonly Buffer[] {
    this.sealBlock();
    return this.chunks;
  }

  /** Copies the bytes of an identical request, in place of those that were dropped. */
  adopt(parts: readonly Buffer[]): void {
    this.drop();
    this.whole = true;
    for (const part of parts) this.add(part, 0, part.length);
  }

  /** Everything so far was sent, and will not be sent again. */
  drop(): void {
    this.whole = false;
    // Small chunks do not come from those blocks.
    if (this.heldBytes > OWN_BLOCK_MAX_BYTES) for (const chunk of this.chunks) requestBlocks.give(chunk);
    if (this.short !== undefined) {
      shortCopies.give(this.short);
      this.short = undefined;
    }
    this.chunks = NO_CHUNKS;
    this.blockBytes = 0;
    this.bytes = 0;
    if (this.heldBytes > 0) this.hold(-this.heldBytes);
  }

  /** The first message as received; undefined while it is incomplete, unless `partly`: then the part that has arrived. */
  firstMessage(partly: boolean): FirstMessage | undefined {
    if (this.bytes < PREFIX_BYTES) return undefined;
    // Read across the chunks: joining them for each byte of a slow message would cost too much.
    const flag = this.byteAt(0);
    let length = 0;
    for (let i = 1; i < PREFIX_BYTES; i++) length = length * 256 + this.byteAt(i);
    const whole = this.bytes >= PREFIX_BYTES + length;
    if (!partly && !whole) return undefined;
    const { parts } = this;
    const buffer = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    const end = Math.min(PREFIX_BYTES + length, buffer.length);
    const wireBytes = end - PREFIX_BYTES;
    return { buffer, start: PREFIX_BYTES, end, whole, flag, wireBytes, unreadable: undefined };
  }

  private byteAt(index: number): number {
    let left = index;
    for (const chunk of this.chunks) {
      if (left < chunk.length) return chunk[left]!;
      left -= chunk.length;
    }
    return 0;
  }
}
