/**
 * Cuts a stream that is one JSON array into its elements, each with the bytes before it: the bracket, the comma, white space.
 * Pure. Like `event-scanner.ts` it decodes nothing and loses no byte.
 */
import type { EventScanning } from './event-scanner.ts';
import { heldAlone } from './held-answers.ts';
import { type EventSink, UnfinishedEvent } from './unfinished-event.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

export class ArrayScanner implements EventScanning {
  private readonly unfinished: UnfinishedEvent;
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
    this.unfinished = new UnfinishedEvent(maxHeldBytes, held);
  }

  get isMidEvent(): boolean {
    return this.unfinished.hasBegun;
  }

  takeUnfinished(): Buffer {
    return this.unfinished.take();
  }

  push(chunk: Buffer, sink: EventSink): void {
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      if (!this.ends(chunk[at]!)) continue;
      this.unfinished.end(chunk, start, at + 1, sink);
      start = at + 1;
    }
    if (start < chunk.length) this.unfinished.add(chunk, start, sink);
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
}
