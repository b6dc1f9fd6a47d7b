/**
 * Reads the text of a JSON object in pieces, as they come, and keeps only what a policy wants of it: nothing is parsed as a
 * whole and nothing is joined, so that a body of many megabytes costs a few milliseconds and no memory. Pure.
 *
 *     first ──{──▶ key ──"…"──▶ colon ──:──▶ value ──"…", {…}, […], 1──▶ comma ──,──▶ key
 *                                                                          └──} of the whole──▶ end
 *
 * The scan checks the structure as RFC 8259 has it. It does not look into strings and numbers, so a text that only a
 * lenient reader takes counts as an object here, too. Budgets need more: see `isLenient`, `lookalike` and `data`.
 * `json-fields.ts` keeps the values, `json-parts.ts` and `data-parts.ts` count pictures, sounds and files.
 */
import { type DataParts, MAX_PART_DEPTH, NO_LEVELS } from './data-parts.ts';
import {
  BACKSLASH,
  BEGINS_SCALAR,
  BYTE_ORDER_MARK,
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  IS_SCALAR,
  isType,
  isWhiteSpace,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
} from './json-bytes.ts';
import { type JsonField, JsonFields } from './json-fields.ts';
import { unescaped } from './json-key.ts';
import { JsonParts } from './json-parts.ts';
import { isProviderToolKey, isProviderToolType } from './provider-tools.ts';

/** A wanted key is shorter, with every character of it escaped. */
const MAX_KEY = 256;
/** No type of a part is longer. */
const MAX_TYPE = 32;
/** Deeper texts are no requests: most readers give up far earlier. */
const MAX_DEPTH = 65_536;
/** The scan looks at so many bytes of a string one by one, before it searches for the end. */
const STEPPED_BYTES = 24;

/** A tool stands in the list `tools` of the request. */
const TOOL_DEPTH = 3;

// States as numbers, because the scan compares them once a byte.
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
  /** After the brace that opens the object; -1 before it. */
  openEnd = -1;
  /** Only a lenient reader takes the text for JSON: it has a byte order mark, or a value such as NaN. */
  isLenient = false;
  /** An object inside the request, such as one of its tools, names a model of its own. Found where `data` is there. */
  hasInnerModel = false;
  /** A tool that the provider runs itself, at a price of its own; undefined without one. */
  providerTool: string | undefined = undefined;
  /** Counts the bytes that are certainly no text; undefined where no budget needs them. */
  readonly data: DataParts | undefined;
  private readonly partTypes: ReadonlySet<string>;
  private readonly kept: JsonFields;
  private readonly partCounts = new JsonParts();
  private state: number = FIRST;
  /** Where the present piece begins in the text. */
  private base = 0;
  private depth = 0;
  /** By depth: 1 for an object, 0 for an array. */
  private readonly kinds = [...NO_LEVELS];

  private isKey = false;
  private isEscaped = false;
  private stringStart = 0;
  /** The part of a kept string that has come, as latin1; undefined where none is kept. */
  private text: string | undefined = undefined;
  private textFrom = 0;
  private maxText = 0;
  /** The next value is that of a key `type`. */
  private isType = false;

  /**
   * @param wanted keys at the top level
   * @param partTypes values of `type` of the objects to count
   */
  constructor(wanted: ReadonlySet<string>, partTypes: ReadonlySet<string> = new Set(), data?: DataParts) {
    this.data = data;
    this.kept = new JsonFields(wanted, data !== undefined);
    this.partTypes = partTypes;
  }

  get fields(): ReadonlyMap<string, JsonField> {
    return this.kept.byKey;
  }

  /** The object has no key. */
  get isEmpty(): boolean {
    return this.kept.isEmpty;
  }

  /** A key at the top level that a server takes for a wanted one when it ignores case; undefined without one. */
  get lookalike(): string | undefined {
    return this.kept.lookalike;
  }

  /** The number of objects with one of the wanted types: pictures, sounds, files. */
  get parts(): number {
    return this.partCounts.count;
  }

  /** The bytes of their data: of the longest string of each. */
  get partBytes(): number {
    return this.partCounts.bytes;
  }

  /** The text so far is a whole object. */
  get isWhole(): boolean {
    return this.state === END;
  }

  /** The text can't become an object, however it goes on. */
  get isBroken(): boolean {
    return this.state === BROKEN;
  }

  /** The number of bytes so far. */
  get bytes(): number {
    return this.base;
  }

  /** Takes the next piece, and keeps no reference to it. */
  push(piece: Buffer): void {
    this.textFrom = 0;
    this.kept.beginPiece();
    this.data?.goOn(piece);
    let at = 0;
    while (at < piece.length && this.state !== BROKEN) {
      if (this.state === STRING) at = this.string(piece, at);
      else if (this.state === SCALAR) at = this.scalar(piece, at);
      else at = this.structure(piece, at);
    }
    if (this.text !== undefined) this.keepText(piece, piece.length);
    this.kept.endPiece(piece);
    this.base += piece.length;
  }

  /** Takes one byte outside strings and numbers. */
  private structure(piece: Buffer, at: number): number {
    const byte = piece[at]!;
    if (isWhiteSpace(byte)) return at + 1;
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
    if (this.kept.isWanted) this.beginField(byte, at);
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
    if (this.depth === 1) this.kept.begin(this.base, at);
    else if (this.depth === 2 && this.kinds[2] === 0 && IS_SCALAR[byte] === 0) this.kept.countElement();
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
    this.partCounts.open(depth);
  }

  private close(piece: Buffer, at: number, kind: number): void {
    const depth = this.depth;
    if (this.kinds[depth] !== kind) {
      this.state = BROKEN;
      return;
    }
    this.depth--;
    this.data?.close(depth);
    this.partCounts.close(depth);
    if (depth === 1) this.state = END;
    else this.endValue(piece, at + 1);
  }

  private beginString(piece: Buffer, at: number, isKey: boolean): void {
    this.state = STRING;
    this.isKey = isKey;
    this.isEscaped = false;
    this.stringStart = this.base + at + 1;
    const depth = this.depth;
    // It keeps keys at the top, and the key `type` and its value in an object that may be a part.
    this.maxText = isKey && depth === 1 ? MAX_KEY : MAX_TYPE;
    const kept = isKey ? depth <= MAX_PART_DEPTH : this.isType;
    this.text = kept ? '' : undefined;
    this.textFrom = at + 1;
    if (!isKey) this.data?.beginString(piece, at + 1);
  }

  /** Goes on to the end of a string, or of the piece. */
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
      // After an odd number of them the quote, or the first byte of the next piece, is a character of the string.
      at = stop + (backslashes & 1);
    }
    this.isEscaped = at > end;
    return end;
  }

  private endString(piece: Buffer, at: number): void {
    const depth = this.depth;
    if (this.isKey && depth > 1 && this.text === '') {
      // The most frequent case, without a JavaScript string.
      this.text = undefined;
      this.state = AFTER_KEY;
      this.isType = isType(piece, this.textFrom, at);
      this.data?.key(depth, piece, this.textFrom, at);
      if (this.data !== undefined && depth <= TOOL_DEPTH)
        this.lookAtKey(depth, piece.toString('latin1', this.textFrom, at));
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
      if (depth === 1) {
        if (!this.kept.name(text)) this.state = BROKEN;
      } else if (text !== undefined) {
        this.data?.key(depth, Buffer.from(text, 'latin1'), 0, text.length);
        this.lookAtKey(depth, text);
      }
      return;
    }
    if (this.isType && text !== undefined && this.partTypes.has(text) && depth <= MAX_PART_DEPTH) {
      this.partCounts.mark(depth);
      this.data?.type(depth, text);
    }
    if (this.isType && text !== undefined && depth === TOOL_DEPTH && isProviderToolType(plain(text)))
      this.providerTool ??= text;
    this.isType = false;
    const bytes = this.base + at - this.stringStart;
    this.data?.endString(depth, bytes);
    this.partCounts.string(depth, bytes);
    this.endValue(piece, at + 1);
  }

  /** Notes what a key inside the request says of models and tools. Only requests of limited callers are looked at. */
  private lookAtKey(depth: number, text: string): void {
    if (depth > TOOL_DEPTH) return;
    const key = plain(text);
    if (key === 'model') this.hasInnerModel = true;
    if (depth === TOOL_DEPTH && isProviderToolKey(key)) this.providerTool ??= key;
  }

  /** Goes on to the end of a number or a literal, or of the piece. */
  private scalar(piece: Buffer, from: number): number {
    let at = from;
    while (at < piece.length && IS_SCALAR[piece[at]!] === 1) at++;
    if (at < piece.length) this.endValue(piece, at);
    return at;
  }

  private endValue(piece: Buffer, end: number): void {
    this.state = AFTER_VALUE;
    if (this.depth === 1) this.kept.end(piece, this.base, end);
  }

  private keepText(piece: Buffer, end: number): void {
    const length = this.text!.length + end - this.textFrom;
    this.text = length > this.maxText ? undefined : this.text + piece.toString('latin1', this.textFrom, end);
  }
}

/** The text of a key or a string; as it is written, where that is no text. */
function plain(latin1: string): string {
  return latin1.includes('\\') ? (unescaped(latin1) ?? latin1) : latin1;
}
