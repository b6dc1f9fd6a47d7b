import type { Unreadable } from '../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../grpc/message-framing.ts';
import { isSharedRead } from '../http2/shared-read.ts';
import { SHORT_COPY_MAX_BYTES, shortCopy } from '../http2/short-copy.ts';

/** Slices up to a quarter of what they are cut from are copied, so that a call never keeps others' bytes alive. */
const COPY_BELOW = 4;
/** Further small slices are gathered in blocks that double up to this size: a byte a frame must cost a byte. */
const BLOCK_MAX_BYTES = 16_384;

/** A request's first message without its prefix: `buffer[start, end)`. */
export interface FirstMessage {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
  /** That is all of it, from its first byte to its last. */
  readonly whole: boolean;
  /** How it came: 1 is compressed, and more than that nothing that gRPC knows. */
  readonly flag: number;
  /** Size of the message in the request, as far as it has come. */
  readonly wireBytes: number;
  /** Why the message can't be read. */
  readonly unreadable: Unreadable | undefined;
}

/**
 * The request as far as it has come: what an attempt that has no stream yet will send, and what another attempt
 * would send again. Once something was dropped it can't be sent again; then it only holds what was not sent at all.
 */
export class RequestBuffer {
  private readonly chunks: Buffer[] = [];
  /** Bytes used of the last chunk, while it is a block with room; 0 when it is not. */
  private blockBytes = 0;
  bytes = 0;
  /** Nothing was dropped: a new attempt can send the request from its beginning. */
  whole = true;

  add(buffer: Buffer, start: number, end: number): void {
    const length = end - start;
    if (length === 0) return;
    this.bytes += length;
    if (isSharedRead(buffer) || length * COPY_BELOW < buffer.buffer.byteLength) {
      this.copy(buffer, start, end);
    } else {
      this.sealBlock();
      this.chunks.push(buffer.subarray(start, end));
    }
  }

  private copy(buffer: Buffer, start: number, end: number): void {
    const { chunks } = this;
    const length = end - start;
    if (this.blockBytes > 0) {
      const block = chunks[chunks.length - 1]!;
      if (this.blockBytes + length <= block.length) {
        buffer.copy(block, this.blockBytes, start, end);
        this.blockBytes += length;
        return;
      }
      this.sealBlock();
    }
    // Most requests come in one piece, and get just the room they need.
    if (chunks.length === 0 && length <= SHORT_COPY_MAX_BYTES) {
      chunks.push(shortCopy(buffer, start, end));
      return;
    }
    const size = chunks.length === 0 ? length : Math.max(length, Math.min(this.bytes, BLOCK_MAX_BYTES));
    const block = Buffer.allocUnsafeSlow(size);
    buffer.copy(block, 0, start, end);
    chunks.push(block);
    if (size > length) this.blockBytes = length;
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

  /** Takes the bytes of a request that is the same, in place of those that were dropped. */
  adopt(parts: readonly Buffer[]): void {
    this.drop();
    this.whole = true;
    for (const part of parts) {
      this.chunks.push(part);
      this.bytes += part.length;
    }
  }

  /** What is here, or was not added, has been sent and will not be sent again. */
  drop(): void {
    this.whole = false;
    this.chunks.length = 0;
    this.blockBytes = 0;
    this.bytes = 0;
  }

  /** The first message as it came; undefined while it is not whole, unless `partly`: then it is what there is of it. */
  firstMessage(partly: boolean): FirstMessage | undefined {
    if (this.bytes < PREFIX_BYTES) return undefined;
    // Read through the chunks: a message that comes byte by byte must not be joined anew for each of them.
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
