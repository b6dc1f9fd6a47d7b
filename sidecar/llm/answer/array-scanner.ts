/**
 * Cuts a stream that is one JSON array into its elements, each with the bytes before it: the bracket, the comma, white space.
 * Pure. Like `event-scanner.ts` it decodes nothing and loses no byte.
 */
import type { EventScanning, EventSink } from './event-scanner.ts';
import { type HeldBytes, heldAlone } from './held-answers.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const FIRST_TAIL_BYTES = 1_024;

export class ArrayScanner implements EventScanning {
  private readonly maxHeldBytes: number;
  private readonly held: HeldBytes;
  /** The beginning of the unfinished element. */
  private tail: Buffer | undefined = undefined;
  private tailLength = 0;
  private inParts = false;
  private depth = 0;
  private inString = false;
  private isEscaped = false;
  /** The array has ended. */
  isClosed = false;

  /**
   * @param maxHeldBytes the longest element that is joined
   * @param held counts what is held of an unfinished element; without room, the element is handed on in parts
   */
  constructor(maxHeldBytes: number, held = heldAlone()) {
    this.maxHeldBytes = maxHeldBytes;
    this.held = held;
  }

  get isMidEvent(): boolean {
    return this.tailLength > 0 || this.inParts;
  }

  takeUnfinished(): Buffer {
    const bytes = this.tail === undefined ? Buffer.alloc(0) : this.tail.subarray(0, this.tailLength);
    this.held.remove(this.tail?.length ?? 0);
    this.tail = undefined;
    this.tailLength = 0;
    return bytes;
  }

  push(chunk: Buffer, sink: EventSink): void {
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      if (!this.ends(chunk[at]!)) continue;
      this.endElement(chunk, start, at + 1, sink);
      start = at + 1;
    }
    if (start < chunk.length) this.keep(chunk, start, sink);
  }

  /** Takes one byte; returns whether an element, or the array, ends with it. */
  private ends(byte: number): boolean {
    if (this.inString) {
      if (this.isEscaped) this.isEscaped = false;
      else if (byte === BACKSLASH) this.isEscaped = true;
      else if (byte === QUOTE) this.inString = false;
      return false;
    }
    switch (byte) {
      case QUOTE:
        this.inString = true;
        return false;
      case OPEN_BRACKET:
      case OPEN_BRACE:
        this.depth++;
        return false;
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        this.depth--;
        if (this.depth === 0) this.isClosed = true;
        return this.depth <= 1;
      default:
        // White space after the end belongs to nothing that follows.
        return this.isClosed;
    }
  }

  private endElement(chunk: Buffer, start: number, end: number, sink: EventSink): void {
    if (this.inParts) {
      this.inParts = false;
      sink.onPart(chunk, start, end, true);
    } else if (this.tailLength === 0) {
      sink.onEvent(chunk, start, end);
    } else {
      const element = Buffer.concat([this.takeUnfinished(), chunk.subarray(start, end)]);
      sink.onEvent(element, 0, element.length);
    }
  }

  private keep(chunk: Buffer, start: number, sink: EventSink): void {
    const length = this.tailLength + chunk.length - start;
    const roomBytes = this.tail?.length ?? 0;
    const wantedBytes = length > roomBytes ? Math.max(FIRST_TAIL_BYTES, 2 * length) : roomBytes;
    if (this.inParts || length > this.maxHeldBytes || !this.held.add(wantedBytes - roomBytes)) {
      const before = this.takeUnfinished();
      this.inParts = true;
      if (before.length > 0) sink.onPart(before, 0, before.length, false);
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
