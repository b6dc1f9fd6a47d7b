/** Keeps what a connection has written lately, until its peer has received it. */
import { giveMemory, type Room, takeMemory } from './spare-memory.ts';

const FIRST_BLOCK_BYTES = 4_096;
/** From here on blocks grow by this much, and not to twice the size. */
const STEP_BYTES = 16_384;
const FINE_FROM_BYTES = 65_536;
/** A write that is larger is not kept here. */
const BLOCK_MAX_BYTES = 262_144;

/** Whole frames: the beginning of its memory, up to `end`. */
export interface Written {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

interface Block extends Written {
  end: number;
  /** The bytes of DATA that the connection had written at its end. */
  writtenBytes: number;
}

/**
 * The frames of a connection's latest writes, all streams together, as they went to the socket:
 *
 *     received by the peer      on the way, perhaps
 *     ┌ ─ ─ ─ ─ ┬ ─ ─ ─ ─ ┬─────────┬─────────┬────┐
 *     └ ─ ─ ─ ─ ┴ ─ ─ ─ ─ ┴─────────┴─────────┴────┘
 *                         ▲ the oldest block       ▲ the next write
 *
 * A write is one copy, however many frames of however many streams it has: a copy of each frame for its stream took 30 % of
 * the time of streams of tokens. The peer's window says what it has received (`http2/send-credit.ts`), and blocks of that are
 * used again.
 */
export class SentLog {
  heldBytes = 0;
  private readonly blocks: Block[] = [];
  private readonly room: Room;

  constructor(room: Room) {
    this.room = room;
  }

  /**
   * Adds a write, as `WriteTap` gets it, of at most `limitBytes` with all that is here.
   *
   * @param writtenBytes the bytes of DATA that the connection has written by now
   * @returns false when there is no memory for it; nothing was added then
   */
  add(
    segments: readonly Buffer[],
    slab: Buffer,
    start: number,
    end: number,
    writtenBytes: number,
    limitBytes: number,
  ): boolean {
    let bytes = end - start;
    for (const segment of segments) bytes += segment.length;
    let block = this.blocks.at(-1);
    if (block === undefined || block.end + bytes > block.buffer.length) {
      block = this.newBlock(bytes, limitBytes);
      if (block === undefined) return false;
    }
    for (const segment of segments) block.end += segment.copy(block.buffer, block.end);
    block.end += slab.copy(block.buffer, block.end, start, end);
    block.writtenBytes = writtenBytes;
    return true;
  }

  private newBlock(bytes: number, limitBytes: number): Block | undefined {
    const wanted = Math.max(bytes, Math.min(this.heldBytes, FINE_FROM_BYTES), FIRST_BLOCK_BYTES);
    const size = wanted > FINE_FROM_BYTES ? Math.ceil(wanted / STEP_BYTES) * STEP_BYTES : powerOfTwo(wanted);
    if (size > BLOCK_MAX_BYTES || this.heldBytes + size > limitBytes || !this.room.take(size))
      return undefined;
    this.heldBytes += size;
    const block = { buffer: takeMemory(size), start: 0, end: 0, writtenBytes: 0 };
    this.blocks.push(block);
    return block;
  }

  /** The peer has received so many bytes of DATA: the first ones that the connection has written. */
  forget(receivedBytes: number): void {
    const { blocks } = this;
    while (blocks.length > 0 && blocks[0]!.writtenBytes <= receivedBytes) {
      if (blocks.length === 1) {
        blocks[0]!.end = 0;
        return;
      }
      const { buffer } = blocks.shift()!;
      this.count(-buffer.length);
      giveMemory(buffer);
    }
  }

  /** Takes all of it out. Give it back by {@link release} once it was read. */
  takeAll(): Written[] {
    this.count(-this.heldBytes);
    return this.blocks.splice(0);
  }

  clear(): void {
    release(this.takeAll());
  }

  private count(bytes: number): void {
    this.heldBytes += bytes;
    this.room.give(-bytes);
  }
}

/** Frees the memory of what {@link SentLog.takeAll} has returned. */
export function release(blocks: readonly Written[]): void {
  for (const { buffer } of blocks) giveMemory(buffer);
}

function powerOfTwo(bytes: number): number {
  return 2 ** (32 - Math.clz32(bytes - 1));
}
