/** Keeps the wanted top-level keys of a JSON object that is scanned: where their values stand, and short values. Pure. */
import { foldedKey, unescaped, utf8 } from './json-key.ts';

/** From the first byte of a value to after its last, counted from the beginning of the text. */
interface Range {
  readonly start: number;
  readonly end: number;
}

/** What the scan knows of one wanted key at the top level. */
export interface JsonField {
  /** Where its values stand; a key that is there twice has two. */
  readonly ranges: Range[];
  /** The text of each value; undefined for one that is longer than any policy reads. */
  readonly texts: (string | undefined)[];
  /** The strings, arrays and objects in its values that are arrays. */
  elements: number;
}

/** No policy reads a longer value at the top level. */
const MAX_TEXT = 4_096;
/** Keys whose value is an object with the schema of the answer in it. */
const LONGER: ReadonlySet<string> = new Set(['generationConfig', 'generation_config']);
const MAX_LONGER_TEXT = 65_536;
/** The most values of one key: nobody repeats it more often by mistake. */
const MAX_REPEATS = 100;

export class JsonFields {
  readonly byKey = new Map<string, JsonField>();
  /** The object has no key. */
  isEmpty = true;
  /** A key that a server takes for a wanted one when it ignores case; undefined without one. */
  lookalike: string | undefined = undefined;
  private readonly wanted: ReadonlySet<string>;
  private readonly findsLookalikes: boolean;
  /** The field whose value comes next, or is being read. */
  private field: JsonField | undefined = undefined;
  private valueStart = 0;
  /** The part of the value that has come, as latin1; undefined where it is too long, or outside a value. */
  private value: string | undefined = undefined;
  private valueFrom = 0;
  private maxText = MAX_TEXT;

  constructor(wanted: ReadonlySet<string>, findsLookalikes: boolean) {
    this.wanted = wanted;
    this.findsLookalikes = findsLookalikes;
  }

  /** A value of a wanted key comes next, or is being read. */
  get isWanted(): boolean {
    return this.field !== undefined;
  }

  /**
   * Takes a key.
   *
   * @param text as latin1; undefined for a key that is too long to be wanted
   * @returns false when the key is there too often
   */
  name(text: string | undefined): boolean {
    this.isEmpty = false;
    const key = text?.includes('\\') ? unescaped(text) : text;
    if (key === undefined || !this.wanted.has(key)) {
      this.field = undefined;
      if (this.findsLookalikes && (text === undefined || this.wanted.has(foldedKey(text))))
        this.lookalike = key ?? 'a key of more than 256 bytes';
      return true;
    }
    let field = this.byKey.get(key);
    if (field === undefined) {
      field = { ranges: [], texts: [], elements: 0 };
      this.byKey.set(key, field);
    }
    this.field = field;
    this.maxText = LONGER.has(key) ? MAX_LONGER_TEXT : MAX_TEXT;
    return field.ranges.length < MAX_REPEATS;
  }

  /** The value begins in the present piece. @param base where the piece begins in the text */
  begin(base: number, at: number): void {
    this.valueStart = base + at;
    this.value = '';
    this.valueFrom = at;
  }

  countElement(): void {
    this.field!.elements++;
  }

  /** Another piece of the text comes. */
  beginPiece(): void {
    this.valueFrom = 0;
  }

  endPiece(piece: Buffer): void {
    if (this.value !== undefined) this.keep(piece, piece.length);
  }

  /** The value has ended. */
  end(piece: Buffer, base: number, end: number): void {
    if (this.field === undefined) return;
    if (this.value !== undefined) this.keep(piece, end);
    this.field.ranges.push({ start: this.valueStart, end: base + end });
    this.field.texts.push(this.value === undefined ? undefined : utf8(this.value));
    this.field = undefined;
    this.value = undefined;
  }

  private keep(piece: Buffer, end: number): void {
    const length = this.value!.length + end - this.valueFrom;
    this.value =
      length > this.maxText ? undefined : this.value + piece.toString('latin1', this.valueFrom, end);
  }
}
