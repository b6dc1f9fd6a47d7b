/** Reads the fields of a server-sent event (WHATWG HTML, section 9.2.6), at once or, for a large event, in parts. Pure. */
import { type HeldBytes, heldAlone } from './held-answers.ts';
import { JsonDigest } from './json-digest.ts';

export interface EventFields {
  /** The event's name; '' without one. */
  readonly event: string;
  /** The data lines joined; undefined without any, so that a client dispatches nothing. */
  readonly data: string | undefined;
}

const NO_FIELDS: EventFields = { event: '', data: undefined };
const BYTE_ORDER_MARK = '\uFEFF';

/**
 * Reads the relevant fields of one event.
 *
 * @param isFirst the event is the first of its stream: a byte order mark may stand before it
 */
export function fieldsOf(buffer: Buffer, start: number, end: number, isFirst = false): EventFields {
  return soleData(buffer, start, end) ?? allFields(buffer, start, end, isFirst);
}

/** Reads the most common event, one line `data: …` and a blank line; returns undefined for any other. */
function soleData(buffer: Buffer, start: number, end: number): EventFields | undefined {
  for (let at = 0; at < DATA.length; at++) if (buffer[start + at] !== DATA[at]) return undefined;
  let from = start + DATA.length;
  if (buffer[from] !== COLON) return undefined;
  from++;
  if (buffer[from] === SPACE) from++;
  const lineEnd = buffer.indexOf(LF, from);
  if (lineEnd < 0 || lineEnd + 2 !== end) return undefined;
  const data = buffer.toString('utf8', from, lineEnd);
  return data.includes('\r') ? undefined : { event: '', data };
}

function allFields(buffer: Buffer, start: number, end: number, isFirst: boolean): EventFields {
  let event = '';
  let data: string | undefined;
  let text = buffer.toString('utf8', start, end);
  if (isFirst && text.startsWith(BYTE_ORDER_MARK)) text = text.slice(1);
  for (const line of text.split(/\r\n|\r|\n/)) {
    const value = fieldOf(line, 'data');
    if (value !== undefined) data = data === undefined ? value : `${data}\n${value}`;
    else event = fieldOf(line, 'event') ?? event;
  }
  return data === undefined && event === '' ? NO_FIELDS : { event, data };
}

/** Returns the value of a line with this field, without one leading space; '' for a line without a colon. */
function fieldOf(line: string, name: string): string | undefined {
  if (!line.startsWith(name)) return undefined;
  if (line.length === name.length) return '';
  if (line[name.length] !== ':') return undefined;
  return line[name.length + 1] === ' ' ? line.slice(name.length + 2) : line.slice(name.length + 1);
}

/** Reads an element of a stream that is one JSON array, with the bracket or the comma before it; the end has no data. */
export function elementFields(buffer: Buffer, start: number, end: number): EventFields {
  const data = buffer.toString('utf8', start, end).replace(BEFORE_ELEMENT, '');
  return data === '' || data === ']' ? NO_FIELDS : { event: '', data };
}

const BEFORE_ELEMENT = /^(?:\uFEFF)?\s*[[,]?\s*/;

/** Reads a large element in parts, as {@link LargeEvent} does a large event. */
export class LargeElement {
  private readonly digest: JsonDigest;

  constructor(memory: HeldBytes = heldAlone()) {
    this.digest = new JsonDigest(memory);
  }

  push(buffer: Buffer, start: number, end: number): void {
    this.digest.push(buffer.subarray(start, end));
  }

  release(): void {
    this.digest.release();
  }

  fields(): EventFields & { readonly isUnread: boolean } {
    const text = this.digest.text();
    return { event: '', data: text?.replace(BEFORE_ELEMENT, ''), isUnread: text === undefined };
  }
}

const LF = 0x0a;
const CR = 0x0d;
const COLON = 0x3a;
const SPACE = 0x20;
const MARK = Buffer.from(BYTE_ORDER_MARK);
const DATA = Buffer.from('data');
const EVENT = Buffer.from('event');
const LINE_END = Buffer.of(LF);
/** Longer names of fields and events are cut: no client knows them. */
const MAX_NAME_BYTES = 256;

/** Reads an event that comes in parts and is not held: its name, and its data with long strings shortened. */
export class LargeEvent {
  private readonly digest: JsonDigest;
  /** The name of the line's field while it is read, then the value of `event`. */
  private text = Buffer.alloc(0);
  private field: 'unread' | 'data' | 'event' | 'other' = 'unread';
  private event = '';
  private hasData = false;
  private isFirstLine: boolean;
  /** A space may follow that is no part of the value. */
  private isAfterColon = false;

  /**
   * @param isFirst the event is the first of its stream: a byte order mark may stand before it
   * @param memory counts what is kept of the event
   */
  constructor(isFirst: boolean, memory: HeldBytes = heldAlone()) {
    this.isFirstLine = isFirst;
    this.digest = new JsonDigest(memory);
  }

  push(buffer: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.field === 'unread') {
        const stop = indexOfAny(buffer, at, end, COLON, LF, CR);
        this.collect(buffer, at, stop);
        at = stop;
        if (stop === end) return;
        this.beginValue();
        this.isAfterColon = buffer[stop] === COLON;
        if (this.isAfterColon) at++;
        continue;
      }
      if (this.isAfterColon) {
        this.isAfterColon = false;
        if (buffer[at] === SPACE && ++at === end) return;
      }
      const stop = indexOfAny(buffer, at, end, LF, CR, CR);
      if (this.field === 'data') this.digest.push(buffer.subarray(at, stop));
      else if (this.field === 'event') this.collect(buffer, at, stop);
      at = stop + 1;
      if (stop < end) this.endLine();
    }
  }

  /** Frees what is kept. */
  release(): void {
    this.digest.release();
  }

  /** Call it at the event's end. */
  fields(): EventFields & { readonly isUnread: boolean } {
    if (this.field !== 'unread') this.endLine();
    const data = this.hasData ? this.digest.text() : undefined;
    return { event: this.event, data, isUnread: this.hasData && data === undefined };
  }

  private beginValue(): void {
    const hasMark = this.isFirstLine && this.text.subarray(0, MARK.length).equals(MARK);
    const name = hasMark ? this.text.subarray(MARK.length) : this.text;
    this.isFirstLine = false;
    this.text = Buffer.alloc(0);
    if (name.equals(DATA)) {
      this.field = 'data';
      // A line break is white space between tokens, and can't stand in a string.
      if (this.hasData) this.digest.push(LINE_END);
      this.hasData = true;
    } else {
      this.field = name.equals(EVENT) ? 'event' : 'other';
    }
  }

  private endLine(): void {
    if (this.field === 'event') this.event = this.text.toString('utf8');
    this.field = 'unread';
    this.text = Buffer.alloc(0);
  }

  private collect(buffer: Buffer, start: number, end: number): void {
    const room = MAX_NAME_BYTES - this.text.length;
    if (room > 0 && end > start)
      this.text = Buffer.concat([this.text, buffer.subarray(start, Math.min(end, start + room))]);
  }
}

/** Returns the index of the first of three bytes; `end` without one. */
function indexOfAny(buffer: Buffer, start: number, end: number, a: number, b: number, c: number): number {
  for (let at = start; at < end; at++) {
    const byte = buffer[at];
    if (byte === a || byte === b || byte === c) return at;
  }
  return end;
}
