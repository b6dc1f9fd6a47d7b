/**
 * Cuts a byte stream into server-sent events (WHATWG HTML, section 9.2.6), each from its first byte to the end of its
 * blank line. Pure. It decodes nothing and loses no byte, so that the caller receives what came.
 *
 * `unfinished-event.ts` holds the event that has not ended.
 */

import { heldAlone } from './held-answers.ts';
import { type EventSink, UnfinishedEvent } from './unfinished-event.ts';

const LF = 0x0a;
const CR = 0x0d;

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
  private readonly unfinished: UnfinishedEvent;
  private isMidLine = false;
  private afterCr = false;

  /**
   * @param maxHeldBytes the longest event that is joined
   * @param held counts what is held of an unfinished event; without room, the event is handed on in parts
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
      this.unfinished.end(chunk, start, end, sink);
      start = end;
    }
    if (lineStart < chunk.length) this.isMidLine = true;
    if (start < chunk.length) this.unfinished.add(chunk, start, sink);
  }
}
