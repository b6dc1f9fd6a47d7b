/**
 * Cuts a byte stream into server-sent events (WHATWG HTML, section 9.2.6), each from its first byte to the end of its
 * blank line. Pure. It decodes nothing and loses no byte, so that the caller receives what came.
 *
 * It hands on an event that arrives in one piece without a copy, and joins one that came in several pieces, up to a bound.
 * It hands on a larger event in parts, as they come.
 */

import { type HeldBytes, heldAlone } from './held-answers.ts';

const LF = 0x0a;
const CR = 0x0d;

const FIRST_TAIL_BYTES = 1_024;

export interface EventSink {
  /** Receives a whole event: `buffer` from `start` to `end`; it may keep the bytes. */
  onEvent(buffer: Buffer, start: number, end: number): void;
  /** Receives a part of an event that is too large to be joined. */
  onPart(buffer: Buffer, start: number, end: number, isLast: boolean): void;
}

/** Cuts a stream into events; server-sent ones here, the elements of an array in `array-scanner.ts`. */
export interface EventScanning {
  /** An event has begun and not ended. */
  readonly isMidEvent: boolean;
  /** The bytes may end here, as far as they show. */
  readonly isClosed: boolean;
  push(chunk: Buffer, sink: EventSink): void;
  /** Returns the bytes of the unfinished event, without those that were handed on. */
  takeUnfinished(): Buffer;
}

export class EventScanner implements EventScanning {
  readonly isClosed = true;
  private readonly maxHeldBytes: number;
  private readonly held: HeldBytes;
  /** The beginning of the unfinished event. */
  private tail: Buffer | undefined = undefined;
  private tailLength = 0;
  /** The unfinished event is handed on in parts. */
  private inParts = false;
  private isMidLine = false;
  private afterCr = false;

  /**
   * @param maxHeldBytes the longest event that is joined
   * @param held counts what is held of an unfinished event; without room, the event is handed on in parts
   */
  constructor(maxHeldBytes: number, held = heldAlone()) {
    this.maxHeldBytes = maxHeldBytes;
    this.held = held;
  }

  /** An event has begun and not ended. */
  get isMidEvent(): boolean {
    return this.tailLength > 0 || this.inParts;
  }

  /** Returns the bytes of the unfinished event, without those that were handed on. */
  takeUnfinished(): Buffer {
    const bytes = this.tail === undefined ? Buffer.alloc(0) : this.tail.subarray(0, this.tailLength);
    this.held.remove(this.tail?.length ?? 0);
    this.tail = undefined;
    this.tailLength = 0;
    return bytes;
  }

  push(chunk: Buffer, sink: EventSink): void {
    if (chunk.length === 0) return;
    let start = 0;
    let lineStart = 0;
    // The second half of a line break that was counted already.
    if (this.afterCr && chunk[0] === LF) lineStart = 1;
    this.afterCr = false;
    let lf = chunk.indexOf(LF, lineStart);
    let cr = chunk.indexOf(CR);
    while (lf >= 0 || cr >= 0) {
      const at = cr < 0 || (lf >= 0 && lf < cr) ? lf : cr;
      const isBlank = at === lineStart && !this.isMidLine;
      let end = at + 1;
      if (at === cr) {
        if (end === chunk.length) this.afterCr = true;
        else if (chunk[end] === LF) end++;
        cr = chunk.indexOf(CR, end);
      }
      if (lf >= 0 && lf < end) lf = chunk.indexOf(LF, end);
      this.isMidLine = false;
      lineStart = end;
      if (!isBlank) continue;
      this.endEvent(chunk, start, end, sink);
      start = end;
    }
    if (lineStart < chunk.length) this.isMidLine = true;
    if (start < chunk.length) this.keep(chunk, start, sink);
  }

  private endEvent(chunk: Buffer, start: number, end: number, sink: EventSink): void {
    if (this.inParts) {
      this.inParts = false;
      sink.onPart(chunk, start, end, true);
      return;
    }
    if (this.tailLength === 0) {
      sink.onEvent(chunk, start, end);
      return;
    }
    const event = Buffer.concat([this.takeUnfinished(), chunk.subarray(start, end)]);
    sink.onEvent(event, 0, event.length);
  }

  private keep(chunk: Buffer, start: number, sink: EventSink): void {
    const length = this.tailLength + chunk.length - start;
    const roomBytes = this.tail?.length ?? 0;
    // The buffer doubles, so that an event that comes byte by byte is not copied for each byte.
    const wantedBytes = length > roomBytes ? Math.max(FIRST_TAIL_BYTES, 2 * length) : roomBytes;
    if (this.inParts || length > this.maxHeldBytes || !this.held.add(wantedBytes - roomBytes)) {
      const held = this.takeUnfinished();
      this.inParts = true;
      if (held.length > 0) sink.onPart(held, 0, held.length, false);
      sink.onPart(chunk, start, chunk.length, false);
      return;
    }
    if (this.tail === undefined || wantedBytes > roomBytes) {
      const larger = Buffer.allocUnsafe(wantedBytes);
      this.tail?.copy(larger, 0, 0, this.tailLength);
      this.tail = larger;
    }
    chunk.copy(this.tail, this.tailLength, start);
    this.tailLength = length;
  }
}
