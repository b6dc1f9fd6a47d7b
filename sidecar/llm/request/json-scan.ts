/**
 * Reads the text of a JSON object in pieces, as they come, and keeps only what somebody wants of it: nothing is parsed as
 * a whole and nothing is joined, so that a body of many megabytes costs a few milliseconds and no memory. Pure.
 *
 *     first ──{──▶ key ──"…"──▶ colon ──:──▶ value ──"…", {…}, […], 1──▶ comma ──,──▶ key
 *                                                                          └──} of the whole──▶ end
 *
 * The structure is checked as RFC 8259 has it; strings and numbers are not looked into, so a text that only a lenient
 * reader takes counts as an object here, too. Budgets need more: see `isLenient`, `lookalike` and `data`.
 */
import { type DataParts, MAX_PART_DEPTH, NO_LEVELS } from './data-parts.ts';
import { foldedKey, unescaped, utf8 } from './json-key.ts';

/** From the first byte of a value to after its last, counted from the beginning of the text. */
interface Range {
  readonly start: number;
  readonly end: number;
}

/** What is known of one wanted key at the top level. */
export interface JsonField {
  /** Where its values stand, more than one where the key is there twice. */
  readonly ranges: Range[];
  /** The text of each value; undefined where it is longer than {@link MAX_TEXT}. */
  readonly texts: (string | undefined)[];
  /** Of its values that are arrays: their strings, arrays and objects. */
  elements: number;
}

/** A value at the top level that is longer than this is none that a policy reads. */
const MAX_TEXT = 4_096;
/** A key that is wanted, with every character of it escaped, is shorter. */
const MAX_KEY = 256;
/** A key that is there more often is nobody's mistake. */
const MAX_REPEATS = 100;
/** Deeper texts are no requests: most readers give up far earlier. */
const MAX_DEPTH = 65_536;
/** So many bytes of a string are looked at one by one, until its end is searched for. */
const STEPPED_BYTES = 24;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
/** By byte: 1 for those of numbers and literals. */
const IS_SCALAR = new Uint8Array(256);
for (const character of '0123456789+-.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ')
  IS_SCALAR[character.charCodeAt(0)] = 1;
/** By byte: 1 for those that numbers and literals begin with. */
const BEGINS_SCALAR = new Uint8Array(256);
for (const character of '0123456789-tfn') BEGINS_SCALAR[character.charCodeAt(0)] = 1;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

// Numbers, because they are looked at once a byte.
const FIRST = 0;
const KEY = 1;
const KEY_OR_CLOSE = 2;
const AFTER_KEY = 3;
const VALUE = 4;
const VALUE_OR_CLOSE = 5;
const AFTER_VALUE = 6;
const STRING = 7;
const SCALAR = 8;
const END = 9;
const BROKEN = 10;

export class JsonScan {
  readonly fields = new Map<string, JsonField>();
  /** Parts of one of the wanted types: pictures, sounds, files. */
  parts = 0;
  /** The bytes of their data: of the longest text of each. */
  partBytes = 0;
  /** After the brace that opens the object; -1 before it. */
  openEnd = -1;
  /** It has no key. */
  isEmpty = true;
  /** Only a lenient reader takes it for JSON: for its byte order mark, or a value such as NaN. */
  isLenient = false;
  /** A key at the top level that a reader who ignores case takes for a wanted one; undefined without one. */
  lookalike: string | undefined = undefined;
  /** Bytes that are certainly no text; undefined where nobody asks. */
  readonly data: DataParts | undefined;
  private readonly wanted: ReadonlySet<string>;
  private readonly partTypes: ReadonlySet<string>;
  private state: number = FIRST;
  /** Where the present piece begins. */
  private base = 0;
  private depth = 0;
  /** By depth: 1 for an object, 0 for an array. */
  private readonly kinds = [...NO_LEVELS];

  private isKey = false;
  private isEscaped = false;
  private stringStart = 0;
  /** The part of a kept string or value that has come, as latin1; undefined where none is kept. */
  private text: string | undefined = undefined;
  private textFrom = 0;
  private maxText = 0;

  /** The field whose value is being read. */
  private field: JsonField | undefined = undefined;
  private valueStart = 0;
  private value: string | undefined = undefined;
  private valueFrom = 0;

  /** The next value is that of a key `type`. */
  private isType = false;
  private readonly partCounts = [...NO_LEVELS];
  private readonly partSums = [...NO_LEVELS];
  private readonly longest = [...NO_LEVELS];
  private readonly isPart = [...NO_LEVELS];

  /**
   * @param wanted keys at the top level
   * @param partTypes values of `type` of the objects that are counted
   */
  constructor(wanted: ReadonlySet<string>, partTypes: ReadonlySet<string> = new Set(), data?: DataParts) {
    this.data = data;
    this.wanted = wanted;
    this.partTypes = partTypes;
  }

  /** The text so far is a whole object. */
  get isWhole(): boolean {
    return this.state === END;
  }

  /** No text that goes on like this is an object. */
  get isBroken(): boolean {
    return this.state === BROKEN;
  }

  /** Bytes so far. */
  get bytes(): number {
    return this.base;
  }

  /** Takes the next piece; it is not kept. */
  push(piece: Buffer): void {
    this.textFrom = 0;
    this.valueFrom = 0;
    this.data?.goOn(piece);
    let at = 0;
    while (at < piece.length && this.state !== BROKEN) {
      if (this.state === STRING) at = this.string(piece, at);
      else if (this.state === SCALAR) at = this.scalar(piece, at);
      else at = this.structure(piece, at);
    }
    if (this.text !== undefined) this.keepText(piece, piece.length);
    if (this.value !== undefined) this.keepValue(piece, piece.length);
    this.base += piece.length;
  }

  /** One byte that is in no string and no number. */
  private structure(piece: Buffer, at: number): number {
    const byte = piece[at]!;
    if (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) return at + 1;
    switch (this.state) {
      case FIRST:
        if (byte === OPEN_OBJECT) {
          this.openEnd = this.base + at + 1;
          this.open(1);
        } else if (this.base + at > 2 || byte !== BYTE_ORDER_MARK[this.base + at]) {
          this.state = BROKEN;
        } else {
          this.isLenient = true;
        }
        return at + 1;
      case KEY_OR_CLOSE:
      case KEY:
        if (byte === QUOTE) this.beginString(piece, at, true);
        else if (byte === CLOSE_OBJECT && this.state === KEY_OR_CLOSE) this.close(piece, at, 1);
        else this.state = BROKEN;
        return at + 1;
      case AFTER_KEY:
        this.state = byte === COLON ? VALUE : BROKEN;
        return at + 1;
      case AFTER_VALUE:
        if (byte === COMMA) this.state = this.kinds[this.depth] === 1 ? KEY : VALUE;
        else this.close(piece, at, byte === CLOSE_OBJECT ? 1 : byte === CLOSE_ARRAY ? 0 : 2);
        return at + 1;
      case VALUE:
      case VALUE_OR_CLOSE:
        return this.begin(byte, piece, at);
      default:
        this.state = BROKEN;
        return at + 1;
    }
  }

  private begin(byte: number, piece: Buffer, at: number): number {
    if (byte === CLOSE_ARRAY && this.state === VALUE_OR_CLOSE) {
      this.close(piece, at, 0);
      return at + 1;
    }
    if (this.field !== undefined) this.beginField(byte, at);
    if (byte === QUOTE) {
      this.beginString(piece, at, false);
      return at + 1;
    }
    this.isType = false;
    if (byte === OPEN_OBJECT) this.open(1);
    else if (byte === OPEN_ARRAY) this.open(0);
    else if (IS_SCALAR[byte] === 1) {
      this.state = SCALAR;
      if (BEGINS_SCALAR[byte] === 0) this.isLenient = true;
    } else this.state = BROKEN;
    return at + 1;
  }

  private beginField(byte: number, at: number): void {
    if (this.depth === 1) {
      this.valueStart = this.base + at;
      this.value = '';
      this.valueFrom = at;
    } else if (this.depth === 2 && this.kinds[2] === 0 && IS_SCALAR[byte] === 0) {
      this.field!.elements++;
    }
  }

  private open(kind: 0 | 1): void {
    const depth = ++this.depth;
    if (depth >= MAX_DEPTH) {
      this.state = BROKEN;
      return;
    }
    this.kinds[depth] = kind;
    this.state = kind === 1 ? KEY_OR_CLOSE : VALUE_OR_CLOSE;
    this.data?.open(depth);
    if (depth > MAX_PART_DEPTH) return;
    this.partCounts[depth] = 0;
    this.partSums[depth] = 0;
    this.longest[depth] = 0;
    this.isPart[depth] = 0;
  }

  private close(piece: Buffer, at: number, kind: number): void {
    const depth = this.depth;
    if (this.kinds[depth] !== kind) {
      this.state = BROKEN;
      return;
    }
    this.depth--;
    this.data?.close(depth);
    if (depth === 1) {
      this.parts = this.partCounts[1]!;
      this.partBytes = this.partSums[1]!;
      this.state = END;
      return;
    }
    if (depth <= MAX_PART_DEPTH) {
      const outer = depth - 1;
      const isPart = this.isPart[depth] === 1;
      this.partCounts[outer]! += isPart ? 1 : this.partCounts[depth]!;
      this.partSums[outer]! += isPart ? this.longest[depth]! : this.partSums[depth]!;
      this.longest[outer] = Math.max(this.longest[outer]!, this.longest[depth]!);
    }
    this.endValue(piece, at + 1);
  }

  private beginString(piece: Buffer, at: number, isKey: boolean): void {
    this.state = STRING;
    this.isKey = isKey;
    this.isEscaped = false;
    this.stringStart = this.base + at + 1;
    const depth = this.depth;
    // Keys at the top, and the key `type` and its value in what may be a part.
    this.maxText = isKey && depth === 1 ? MAX_KEY : 32;
    const kept = isKey ? depth <= MAX_PART_DEPTH : this.isType;
    this.text = kept ? '' : undefined;
    this.textFrom = at + 1;
    if (!isKey) this.data?.beginString(piece, at + 1);
  }

  /** On to the end of a string, or of the piece. */
  private string(piece: Buffer, from: number): number {
    let at = from;
    const end = piece.length;
    if (this.isEscaped) {
      this.isEscaped = false;
      at++;
    }
    while (at < end) {
      const stepped = Math.min(end, at + STEPPED_BYTES);
      for (; at < stepped; at++) {
        const byte = piece[at];
        if (byte === QUOTE) {
          this.endString(piece, at);
          return at + 1;
        }
        if (byte === BACKSLASH) at++;
      }
      if (at >= end) break;
      const quote = piece.indexOf(QUOTE, at);
      const stop = quote < 0 ? end : quote;
      let backslashes = 0;
      while (stop - backslashes > at && piece[stop - backslashes - 1] === BACKSLASH) backslashes++;
      // An odd number of them takes the quote, or what comes first in the next piece, for a character.
      at = stop + (backslashes & 1);
    }
    this.isEscaped = at > end;
    return end;
  }

  private endString(piece: Buffer, at: number): void {
    const depth = this.depth;
    if (this.isKey && depth > 1 && this.text === '') {
      // The most frequent case: nothing of it has to be made a string.
      this.text = undefined;
      this.state = AFTER_KEY;
      this.isType = isType(piece, this.textFrom, at);
      this.data?.key(depth, piece, this.textFrom, at);
      return;
    }
    let text: string | undefined;
    if (this.text !== undefined) {
      this.keepText(piece, at);
      text = this.text;
      this.text = undefined;
    }
    if (this.isKey) {
      this.state = AFTER_KEY;
      this.isType = text === 'type' && depth > 1;
      if (depth === 1) this.nameField(text);
      else if (text !== undefined) this.data?.key(depth, Buffer.from(text, 'latin1'), 0, text.length);
      return;
    }
    if (this.isType && text !== undefined && this.partTypes.has(text) && depth <= MAX_PART_DEPTH) {
      this.isPart[depth] = 1;
      this.data?.type(depth, text);
    }
    this.isType = false;
    const holder = Math.min(depth, MAX_PART_DEPTH);
    this.data?.endString(depth, this.base + at - this.stringStart);
    this.longest[holder] = Math.max(this.longest[holder]!, this.base + at - this.stringStart);
    this.endValue(piece, at + 1);
  }

  private nameField(text: string | undefined): void {
    this.isEmpty = false;
    const key = text?.includes('\\') ? unescaped(text) : text;
    if (key === undefined || !this.wanted.has(key)) {
      this.field = undefined;
      if (this.data !== undefined && (text === undefined || this.wanted.has(foldedKey(text))))
        this.lookalike = key ?? 'a key of more than 256 bytes';
      return;
    }
    let field = this.fields.get(key);
    if (field === undefined) {
      field = { ranges: [], texts: [], elements: 0 };
      this.fields.set(key, field);
    }
    this.field = field;
    if (field.ranges.length >= MAX_REPEATS) this.state = BROKEN;
  }

  /** On to the end of a number or a literal, or of the piece. */
  private scalar(piece: Buffer, from: number): number {
    let at = from;
    while (at < piece.length && IS_SCALAR[piece[at]!] === 1) at++;
    if (at < piece.length) this.endValue(piece, at);
    return at;
  }

  private endValue(piece: Buffer, end: number): void {
    this.state = AFTER_VALUE;
    if (this.depth !== 1 || this.field === undefined) return;
    if (this.value !== undefined) this.keepValue(piece, end);
    this.field.ranges.push({ start: this.valueStart, end: this.base + end });
    this.field.texts.push(this.value === undefined ? undefined : utf8(this.value));
    this.field = undefined;
    this.value = undefined;
  }

  private keepText(piece: Buffer, end: number): void {
    const length = this.text!.length + end - this.textFrom;
    this.text = length > this.maxText ? undefined : this.text + piece.toString('latin1', this.textFrom, end);
  }

  private keepValue(piece: Buffer, end: number): void {
    const length = this.value!.length + end - this.valueFrom;
    this.value = length > MAX_TEXT ? undefined : this.value + piece.toString('latin1', this.valueFrom, end);
  }
}

function isType(piece: Buffer, start: number, end: number): boolean {
  return (
    end - start === 4 &&
    piece[start] === 0x74 &&
    piece[start + 1] === 0x79 &&
    piece[start + 2] === 0x70 &&
    piece[start + 3] === 0x65
  );
}
