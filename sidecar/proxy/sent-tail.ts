/** Keeps the bytes of a stream that its reader may not have received. */
import { giveMemory, type Room, takeMemory } from './spare-memory.ts';

/** The most that a reader's window can have on the way. */
export const SENT_TAIL_MAX_BYTES = 262_144;
const FIRST_BYTES = 1_024;
/** Up to this size a loop is faster than the native call of Buffer.copy. */
const LOOP_MAX_BYTES = 96;
const NOTHING = Buffer.alloc(0);

/**
 * The last bytes of a stream, in a ring that has the next size above what was ever on the way, and at most that of a window:
 *
 *     given back          on the way
 *     ┌ ─ ─ ─ ─ ─ ─ ┬──────────────────────┐
 *     └ ─ ─ ─ ─ ─ ─ ┴──────────────────────┘
 *                   ▲ start                ▲ length
 *
 * It gets what the log of a connection can't hold any longer (`sent-log.ts`), and all of it when the connection is lost.
 */
export class SentTail {
  /** The bytes of the stream so far. */
  length = 0;
  /** The first byte that is still here. */
  start = 0;
  private ring: Buffer = NOTHING;
  private readonly room: Room;

  constructor(room: Room) {
    this.room = room;
  }

  /** The memory that it takes. */
  get heldBytes(): number {
    return this.ring.length;
  }

  /**
   * Adds the next bytes.
   *
   * @param onTheWay the last bytes that the reader may not have, these included
   * @returns false when they are too many, or no memory is left; the tail then has a gap, and is of no use any more
   */
  add(buffer: Buffer, start: number, end: number, onTheWay: number): boolean {
    const bytes = end - start;
    const needed = Math.max(bytes, onTheWay);
    if (needed > this.ring.length && !this.grow(needed)) return false;
    const { ring, length } = this;
    const at = length & (ring.length - 1);
    if (at + bytes > ring.length) {
      const first = ring.length - at;
      buffer.copy(ring, at, start, start + first);
      buffer.copy(ring, 0, start + first, end);
    } else if (bytes <= LOOP_MAX_BYTES) {
      for (let from = start, to = at; from < end; from++, to++) ring[to] = buffer[from]!;
    } else buffer.copy(ring, at, start, end);
    this.length = length + bytes;
    if (this.length - this.start > ring.length) this.start = this.length - ring.length;
    return true;
  }

  /** The bytes up to this one will not be asked for, and were not added. */
  skipTo(byte: number): void {
    this.start = byte;
    this.length = byte;
  }

  private grow(needed: number): boolean {
    if (needed > SENT_TAIL_MAX_BYTES) return false;
    const before = this.ring;
    let size = Math.max(before.length, FIRST_BYTES);
    while (size < needed) size *= 2;
    if (!this.room.take(size - before.length)) return false;
    const ring = takeMemory(size);
    let at = this.start;
    for (let bytes = this.view(at); bytes !== undefined; bytes = this.view(at)) {
      bytes.copy(ring, at & (size - 1));
      at += bytes.length;
    }
    this.ring = ring;
    giveMemory(before);
    return true;
  }

  /** The bytes from this one on, as far as they lie together; undefined at the end. */
  private view(from: number): Buffer | undefined {
    const { length, ring, start } = this;
    if (from < start || from >= length) return undefined;
    const at = from & (ring.length - 1);
    return ring.subarray(at, Math.min(ring.length, at + length - from));
  }

  /** The same as a copy, because the ring goes on. */
  read(from: number): Buffer | undefined {
    const bytes = this.view(from);
    return bytes === undefined ? undefined : Buffer.from(bytes);
  }

  /** Frees its memory. */
  drop(): void {
    this.room.give(this.ring.length);
    giveMemory(this.ring);
    this.ring = NOTHING;
    this.start = this.length;
  }
}
