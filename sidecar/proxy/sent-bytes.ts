/** Counts what an answer has sent over all its connections, and has the last of it that no carrier has. */
import type { Stream } from '../http2/streams.ts';
import { SentTail } from './sent-tail.ts';
import type { Room } from './spare-memory.ts';

/**
 * The bytes of an answer, counted from its first one:
 *
 *     received        the tail                          the log of the carrier
 *     ┌ ─ ─ ─ ─ ─ ─ ┬─────────────────────────────────┬────────────────────────┐
 *     └ ─ ─ ─ ─ ─ ─ ┴─────────────────────────────────┴────────────────────────┘
 *                                     ▲ from here on its present stream has sent ▲ sentBytes
 */
export class SentBytes {
  private stream: Stream;
  private readonly room: Room;
  /** The first byte that the stream has sent. */
  private fromByte = 0;
  private tail: SentTail | undefined = undefined;
  /** The byte that the carrier gives next. */
  private nextByte = 0;
  /** The last bytes that the tail must have. */
  private neededBytes = 0;

  constructor(stream: Stream, room: Room) {
    this.stream = stream;
    this.room = room;
  }

  /** Up to now, by its present stream. */
  private get sentBytes(): number {
    return this.fromByte + this.stream.writtenBytes;
  }

  /** What it has sent before, and its present stream has yet to send again. */
  get againBytes(): number {
    return Math.max(0, (this.tail?.length ?? 0) - this.sentBytes);
  }

  get heldBytes(): number {
    return this.tail?.heldBytes ?? 0;
  }

  // --- What its carrier gives it ---------------------------------------------------------------------------

  /** So many bytes follow, the last that were sent. What is missing before them was received. */
  expect(bytes: number): void {
    const tail = (this.tail ??= new SentTail(this.room));
    this.nextByte = this.sentBytes - bytes;
    if (this.nextByte > tail.length) tail.skipTo(this.nextByte);
    this.neededBytes = Math.min(this.stream.unreturnedBytes, this.sentBytes - tail.start);
  }

  /** @returns false when there is no room for them */
  keep(buffer: Buffer, start: number, end: number): boolean {
    const tail = this.tail!;
    const from = start + Math.max(0, tail.length - this.nextByte);
    this.nextByte += end - start;
    return from >= end || tail.add(buffer, from, end, this.neededBytes);
  }

  /** All that the carrier has given was received. */
  dropReceived(): void {
    // What was not sent again yet is nowhere else.
    if (this.againBytes === 0) this.tail?.drop();
  }

  // --- Another stream --------------------------------------------------------------------------------------

  /** Whether the tail has all bytes from this one on, and this one was sent before or is the next one. */
  has(byte: number): boolean {
    const { tail } = this;
    return tail !== undefined && byte >= tail.start && byte <= tail.length;
  }

  /** This stream sends all from this byte on. */
  moveTo(stream: Stream, byte: number): void {
    this.stream = stream;
    this.fromByte = byte;
  }

  /** The bytes of the tail from this one on. */
  *from(byte: number): Generator<Buffer> {
    let at = byte;
    for (let bytes = this.tail?.read(at); bytes !== undefined; bytes = this.tail?.read(at)) {
      at += bytes.length;
      yield bytes;
    }
  }

  drop(): void {
    this.tail?.drop();
  }
}
