import { ListNode } from '../collections/linked-list.ts';
import type { HeaderList } from './hpack/header-list.ts';
import { requestBlocks } from './request-blocks.ts';
import { isSharedRead } from './shared-read.ts';

/** A piece of DATA that waits. */
export interface QueuedChunk {
  readonly buffer: Buffer;
  start: number;
  end: number;
}

/** Slices up to this size are gathered: a queue of tokens must not cost an object and a buffer a token. */
const GATHER_MAX_BYTES = 1_024;
const GATHER_BLOCK_BYTES = 4_096;
/** How much more than what waits may be kept alive by it, as parts of larger reads: twice, and one read. */
const RETAINED_FACTOR = 2;
const RETAINED_EXTRA_BYTES = 65_536;

/**
 * DATA, and what comes behind it, that waits for a window or for the socket. Its bytes are bounded by the window of
 * where they come from; what they cost is bounded by how they are kept: small slices are gathered in blocks, larger
 * ones stay in the read they came in unless that is used again, or would keep much alive that is not theirs.
 */
export class SendQueue<S> extends ListNode<SendQueue<S>> {
  readonly stream: S;
  /** The stream's own window is open; only `flow-control.ts` writes it. */
  ready = false;
  endStream = false;
  trailers: HeaderList | undefined = undefined;
  trailersExtra: readonly string[] | undefined = undefined;
  /** Bytes that wait. */
  bytes = 0;
  /** When bytes last went out, or the queue began; in `queued-memory.ts`'s time. */
  movedAt: number;
  private readonly chunks: QueuedChunk[] = [];
  /** The last chunk, while it is a block of ours with room behind `end`. */
  private block: QueuedChunk | undefined = undefined;
  /** Sizes of the reads that chunks lie in. */
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

  /** So much of the first chunk is on its way. */
  sent(first: QueuedChunk, bytes: number): void {
    first.start += bytes;
    this.bytes -= bytes;
    if (first.start < first.end) return;
    this.chunks.shift();
    // The socket may still read from it: nothing is added to it any more.
    if (first === this.block) this.block = undefined;
    const read = first.buffer.buffer;
    if (this.chunks[0]?.buffer.buffer !== read) this.retainedBytes -= read.byteLength;
  }
}
