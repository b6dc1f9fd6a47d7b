/** Holds the beginning of an event until its end has come. */
import type { HeldBytes } from './held-answers.ts';

const FIRST_BYTES = 1_024;

export interface EventSink {
  /** Receives a whole event: `buffer` from `start` to `end`; it may keep the bytes. */
  onEvent(buffer: Buffer, start: number, end: number): void;
  /** Receives a part of an event that is too large to be joined. */
  onPart(buffer: Buffer, start: number, end: number, isLast: boolean): void;
}

/**
 * The unfinished event of a stream. One that arrives in one piece is handed on without a copy, one that came in several pieces
 * is joined, up to a bound, and a larger one is handed on in parts, as they come.
 */
export class UnfinishedEvent {
  private readonly maxHeldBytes: number;
  private readonly held: HeldBytes;
  private buffer: Buffer | undefined = undefined;
  private length = 0;
  /** It is handed on in parts. */
  private inParts = false;

  /**
   * @param maxHeldBytes the longest event that is joined
   * @param held counts what is held; without room, the event is handed on in parts
   */
  constructor(maxHeldBytes: number, held: HeldBytes) {
    this.maxHeldBytes = maxHeldBytes;
    this.held = held;
  }

  /** An event has begun and not ended. */
  get hasBegun(): boolean {
    return this.length > 0 || this.inParts;
  }

  /** Returns its bytes, without those that were handed on, and forgets them. */
  take(): Buffer {
    const { buffer } = this;
    if (buffer === undefined) return Buffer.alloc(0);
    const bytes = buffer.subarray(0, this.length);
    this.held.remove(buffer.length);
    this.buffer = undefined;
    this.length = 0;
    return bytes;
  }

  /** Hands on an event that ends with these bytes. */
  end(chunk: Buffer, start: number, end: number, sink: EventSink): void {
    if (this.inParts) {
      this.inParts = false;
      sink.onPart(chunk, start, end, true);
    } else if (this.length === 0) {
      sink.onEvent(chunk, start, end);
    } else {
      const event = Buffer.concat([this.take(), chunk.subarray(start, end)]);
      sink.onEvent(event, 0, event.length);
    }
  }

  /** The chunk's bytes from `start` on belong to it, and it has not ended. */
  add(chunk: Buffer, start: number, sink: EventSink): void {
    const length = this.length + chunk.length - start;
    const roomBytes = this.buffer?.length ?? 0;
    // The buffer doubles, so that an event that comes byte by byte is not copied for each byte.
    const wantedBytes = length > roomBytes ? Math.max(FIRST_BYTES, 2 * length) : roomBytes;
    if (this.inParts || length > this.maxHeldBytes || !this.held.add(wantedBytes - roomBytes)) {
      const before = this.take();
      this.inParts = true;
      if (before.length > 0) sink.onPart(before, 0, before.length, false);
      sink.onPart(chunk, start, chunk.length, false);
      return;
    }
    if (this.buffer === undefined || wantedBytes > roomBytes) {
      const larger = Buffer.allocUnsafe(wantedBytes);
      this.buffer?.copy(larger, 0, 0, this.length);
      this.buffer = larger;
    }
    chunk.copy(this.buffer, this.length, start);
    this.length = length;
  }
}
