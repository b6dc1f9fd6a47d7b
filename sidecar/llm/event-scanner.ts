/**
 * Cuts a byte stream into server-sent events (WHATWG HTML, section 9.2.6), each from its first byte to the end of its
 * blank line. Pure. Nothing is decoded and no byte is lost, so what is passed on is what came.
 *
 * What arrives in one piece is handed on without a copy; only an event that came in several pieces is put together.
 */

const LF = 0x0a;
const CR = 0x0d;

const FIRST_TAIL_BYTES = 1_024;

/** Gets each event: `buffer` from `start` to `end`; it may keep the bytes. */
export type OnEvent = (buffer: Buffer, start: number, end: number) => void;

export class EventScanner {
  readonly #maxBytes: number;
  /** The beginning of an event that has not ended. */
  #tail: Buffer | undefined = undefined;
  #tailLength = 0;
  #atLineStart = true;
  #afterCr = false;

  /** @param maxBytes the longest event */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of an event that has not ended. */
  get unfinished(): number {
    return this.#tailLength;
  }

  /** The bytes of the event that has not ended. */
  takeUnfinished(): Buffer {
    const bytes = this.#tail === undefined ? Buffer.alloc(0) : this.#tail.subarray(0, this.#tailLength);
    this.#tail = undefined;
    this.#tailLength = 0;
    return bytes;
  }

  /** False when an event is longer than it may be: give up on the stream. */
  push(chunk: Buffer, onEvent: OnEvent): boolean {
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === LF && this.#afterCr) {
        // The second half of a line's end that has been counted.
        this.#afterCr = false;
        continue;
      }
      this.#afterCr = byte === CR;
      if (byte !== LF && byte !== CR) {
        this.#atLineStart = false;
        continue;
      }
      if (!this.#atLineStart) {
        this.#atLineStart = true;
        continue;
      }
      let end = at + 1;
      if (byte === CR && chunk[end] === LF) {
        this.#afterCr = false;
        end++;
        at++;
      }
      this.#emit(chunk, start, end, onEvent);
      start = end;
    }
    return start === chunk.length || this.#keep(chunk, start);
  }

  #emit(chunk: Buffer, start: number, end: number, onEvent: OnEvent): void {
    if (this.#tailLength === 0) {
      onEvent(chunk, start, end);
      return;
    }
    const event = Buffer.concat([this.#tail!.subarray(0, this.#tailLength), chunk.subarray(start, end)]);
    this.#tail = undefined;
    this.#tailLength = 0;
    onEvent(event, 0, event.length);
  }

  #keep(chunk: Buffer, start: number): boolean {
    const length = this.#tailLength + chunk.length - start;
    if (length > this.#maxBytes) return false;
    if (this.#tail === undefined || this.#tail.length < length) {
      // Doubled, so that an event that comes byte by byte is not copied for each of them.
      const larger = Buffer.allocUnsafe(Math.max(FIRST_TAIL_BYTES, 2 * length));
      this.#tail?.copy(larger, 0, 0, this.#tailLength);
      this.#tail = larger;
    }
    chunk.copy(this.#tail, this.#tailLength, start);
    this.#tailLength = length;
    return true;
  }
}

export interface EventFields {
  /** '' when it names none. */
  readonly event: string;
  /** The data lines joined; undefined for one that only keeps the connection alive. */
  readonly data: string | undefined;
}

const NO_FIELDS: EventFields = { event: '', data: undefined };

/** Reads the fields that matter of one event. */
export function fieldsOf(buffer: Buffer, start: number, end: number): EventFields {
  let event = '';
  let data: string | undefined;
  for (const line of buffer.toString('utf8', start, end).split(/\r\n|\r|\n/)) {
    const value = fieldOf(line, 'data');
    if (value !== undefined) data = data === undefined ? value : `${data}\n${value}`;
    else event = fieldOf(line, 'event') ?? event;
  }
  return data === undefined && event === '' ? NO_FIELDS : { event, data };
}

function fieldOf(line: string, name: string): string | undefined {
  if (!line.startsWith(name))
    return line.startsWith(`\uFEFF${name}`) ? fieldOf(line.slice(1), name) : undefined;
  if (line.length === name.length) return '';
  if (line[name.length] !== ':') return undefined;
  return line[name.length + 1] === ' ' ? line.slice(name.length + 2) : line.slice(name.length + 1);
}
