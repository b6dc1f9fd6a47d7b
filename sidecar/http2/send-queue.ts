/** The DATA of one stream that waits for flow control or for the socket. */
import { ListNode } from '../collections/linked-list.ts';
import type { HeaderList } from './hpack/header-list.ts';
import { requestBlocks } from './request-blocks.ts';
import { isSharedRead } from './shared-read.ts';

/** A waiting piece of DATA. */
export interface QueuedChunk {
  readonly buffer: Buffer;
  start: number;
  end: number;
}

/** We gather slices up to this size, so that a queue of tokens has no object and buffer for each token. */
const GATHER_MAX_BYTES = 1_024;
const GATHER_BLOCK_BYTES = 4_096;
/** A queue may keep this much memory alive beyond its own bytes, as parts of larger reads: twice as much, and one read. */
const RETAINED_FACTOR = 2;
const RETAINED_EXTRA_BYTES = 65_536;

/**
 * DATA and the stream's end that wait for a window or for the socket. The window of their source bounds the bytes. This class
 * bounds their memory: it gathers small slices in blocks, and leaves larger ones in the read that brought them, unless that
 * buffer is used again or would keep much other memory alive.
 */
export class SendQueue<S> extends ListNode<SendQueue<S>> {
  readonly stream: S;
  /** Whether the stream's own window is open; only `flow-control.ts` writes it. */
  ready = false;
  endStream = false;
  trailers: HeaderList | undefined = undefined;
  trailersExtra: readonly string[] | undefined = undefined;
  /** The waiting bytes. */
  bytes = 0;
  /** When bytes were last sent, or the queue began, as the number of a check of `queued-memory.ts`. */
  movedAt: number;
  private readonly chunks: QueuedChunk[] = [];
  /** The last chunk, if it is a block of ours with room after `end`. */
  private block: QueuedChunk | undefined = undefined;
  /** The sizes of the reads that the chunks keep alive. */
  private retainedBytes = 0;

  constructor(stream: S, movedAt = 0) {
    super();
    this.stream = stream;
    this.movedAt = movedAt;
  }

  get first(): QueuedChunk | undefined {
    return this.chunks[0];
  }

  get length(): number {
    return this.chunks.length;
  }

  /** The waiting pieces, in their order. */
  get pieces(): readonly QueuedChunk[] {
    return this.chunks;
  }

  push(buffer: Buffer, start: number, end: number): void {
    const length = end - start;
    this.bytes += length;
    if (length <= GATHER_MAX_BYTES) {
      this.gather(buffer, start, end);
      return;
    }
    this.block = undefined;
    const read = buffer.buffer;
    const more = this.chunks.at(-1)?.buffer.buffer === read ? 0 : read.byteLength;
    if (
      !isSharedRead(buffer) &&
      !requestBlocks.has(buffer) &&
      this.retainedBytes + more <= RETAINED_FACTOR * this.bytes + RETAINED_EXTRA_BYTES
    ) {
      this.retainedBytes += more;
      this.chunks.push({ buffer, start, end });
    } else {
      const copy = Buffer.allocUnsafeSlow(length);
      buffer.copy(copy, 0, start, end);
      this.retainedBytes += length;
      this.chunks.push({ buffer: copy, start: 0, end: length });
    }
  }

  private gather(buffer: Buffer, start: number, end: number): void {
    let { block } = this;
    if (block === undefined || block.end + end - start > block.buffer.length) {
      block = { buffer: Buffer.allocUnsafeSlow(GATHER_BLOCK_BYTES), start: 0, end: 0 };
      this.retainedBytes += GATHER_BLOCK_BYTES;
      this.block = block;
      this.chunks.push(block);
    }
    buffer.copy(block.buffer, block.end, start, end);
    block.end += end - start;
  }

  /** Removes sent bytes from the first chunk. */
  sent(first: QueuedChunk, bytes: number): void {
    first.start += bytes;
    this.bytes -= bytes;
    if (first.start < first.end) return;
    this.chunks.shift();
    // The socket may still read from the block, so it takes no more bytes.
    if (first === this.block) this.block = undefined;
    const read = first.buffer.buffer;
    if (this.chunks[0]?.buffer.buffer !== read) this.retainedBytes -= read.byteLength;
  }
}
