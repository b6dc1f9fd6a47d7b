/** Decodes header blocks (RFC 7541 §3). */
import { BlockMemo } from './block-memo.ts';
import { DEFAULT_TABLE_BYTES, DynamicTable } from './dynamic-table.ts';
import { FIELD_OVERHEAD_BYTES, HeaderList } from './header-list.ts';
import { huffmanDecode, huffmanRoom } from './huffman.ts';
import { latin1, latin1Name } from './latin1.ts';
import { STATIC_ENTRIES, staticNames, staticValues } from './static-table.ts';

/** Larger than any useful length, index or table size; sums of it stay exact. */
const MAX_INTEGER = 0x7fffffff;
/** The bytes of an integer after its prefix that MAX_INTEGER needs. */
const MAX_CONTINUATION_BYTES = 5;

const NOTHING: ReadonlySet<string> = new Set();
const NO_FIELDS: string[] = [];
/** A growing array reserves up to half its size; we copy arrays with more parts than this to their exact size. */
const SLACK_MAX_PARTS = 512;
/** The limits of the fields that we keep of an oversize list: of each value, and of all together. */
const KEPT_VALUE_MAX_BYTES = 4_096;
const KEPT_MAX_BYTES = 3 * KEPT_VALUE_MAX_BYTES;

/** The output of Huffman decoding, shared by all decoders, because each string is complete before the next one starts. */
const scratch = Buffer.allocUnsafeSlow(8192);

/**
 * Decodes the header blocks of one connection's direction (RFC 7541 §3), strictly: it reports every decoding error of the RFC.
 * After an error the table no longer agrees with the peer's, and the connection must end with COMPRESSION_ERROR (RFC 9113
 * §4.3).
 */
export class HpackDecoder {
  /** Why the latest block was refused. */
  error = '';
  private readonly maxTableBytes: number;
  /** The size (RFC 9113 §6.5.2) above which later lists are oversize. */
  maxListBytes: number;
  private readonly table = new DynamicTable();
  private readonly memo = new BlockMemo();
  private readonly kept: ReadonlySet<string>;
  /** A longer string fits neither a list nor the table, so we need not gather it. */
  private readonly longestBytes: number;
  // The bytes being decoded.
  private input: Buffer = scratch;
  private position = 0;
  private end = 0;
  // The block being decoded.
  private fields = NO_FIELDS;
  private neverIndexed: number[] | undefined = undefined;
  private listBytes = 0;
  /** The bytes of strings that we have not read, because their beginning sufficed. */
  private unreadBytes = 0;
  private keptRoom = 0;
  /** More parts of the block will follow. */
  private open = false;
  /** Size updates may still follow. */
  private atBegin = true;
  /** The part ends within a field. */
  private short = false;
  /** The expected bytes of a string whose beginning sufficed. */
  private skip = 0;

  /**
   * @param options.maxTableBytes our SETTINGS_HEADER_TABLE_SIZE, the limit of size updates. The table begins with the protocol's
   *   4,096 bytes until the peer changes it.
   * @param options.maxListBytes the size (RFC 9113 §6.5.2) above which a list is oversize
   * @param options.kept the names of fields that we keep of an oversize list wherever they stand, with long values cut
   */
  constructor(options: { maxTableBytes: number; maxListBytes: number; kept?: ReadonlySet<string> }) {
    this.maxTableBytes = options.maxTableBytes;
    this.maxListBytes = options.maxListBytes;
    this.kept = options.kept ?? NOTHING;
    this.longestBytes = Math.max(options.maxListBytes, options.maxTableBytes, DEFAULT_TABLE_BYTES);
  }

  /** The present size of the dynamic table; never above 4,096, or above a size update within maxTableBytes. */
  get tableBytes(): number {
    return this.table.bytes;
  }

  /** The memory held for a block that arrives in parts: see `held-requests.ts`. */
  get openBytes(): number {
    return Math.min(this.listBytes, this.maxListBytes) + FIELD_OVERHEAD_BYTES * (this.fields.length >> 1);
  }

  /** Drops the memo of a connection that has ended. */
  forget(): void {
    this.memo.forget();
  }

  /** Decodes buffer[start,end). Never throws. @returns undefined on a COMPRESSION_ERROR, with the reason in `error` */
  decode(buffer: Buffer, start: number, end: number): HeaderList | undefined {
    const generation = this.table.generation;
    const known = this.memo.find(buffer, start, end, generation);
    if (known !== undefined) return known;
    this.beginBlock();
    const list = this.read(buffer, start, end) ? this.made() : undefined;
    // A block that changed the table means something else when it arrives again.
    if (list !== undefined && this.table.generation === generation) {
      this.memo.decoded(buffer, start, end, generation, list);
    }
    return list;
  }

  /**
   * Begins a block that arrives in parts. Its memory is bounded, however long it is: the list up to its limit, and an incomplete
   * field.
   */
  begin(): void {
    this.beginBlock();
    this.open = true;
  }

  /**
   * Decodes the complete fields in buffer[start,end).
   *
   * @returns the number of decoded bytes; pass the others again, with the bytes that follow them. -1 on a COMPRESSION_ERROR.
   */
  more(buffer: Buffer, start: number, end: number): number {
    const skipped = Math.min(this.skip, end - start);
    this.skip -= skipped;
    return this.read(buffer, start + skipped, end) || this.short ? this.position - start : -1;
  }

  /** Ends a block. @param restBytes the bytes that were not decoded @returns the list; undefined on an error */
  finish(restBytes: number): HeaderList | undefined {
    this.open = false;
    if (restBytes > 0 || this.skip > 0) return this.refuse('the block ends within a field');
    return this.made();
  }

  private beginBlock(): void {
    this.fields = [];
    this.neverIndexed = undefined;
    this.listBytes = 0;
    this.unreadBytes = 0;
    this.keptRoom = KEPT_MAX_BYTES;
    this.open = false;
    this.atBegin = true;
    this.skip = 0;
  }

  private made(): HeaderList {
    const listBytes = this.listBytes + this.unreadBytes;
    const fields = this.fields.length > SLACK_MAX_PARTS ? this.fields.slice() : this.fields;
    // So that an idle connection does not keep its last list alive.
    this.fields = NO_FIELDS;
    return new HeaderList(fields, this.neverIndexed, listBytes, listBytes > this.maxListBytes);
  }

  /** @returns false if the bytes end within a field, or on an error; `position` is then after the last complete field */
  private read(buffer: Buffer, start: number, end: number): boolean {
    this.input = buffer;
    this.position = start;
    this.end = end;
    this.short = false;
    const whole = (!this.atBegin || this.readSizeUpdates()) && this.readFields();
    this.input = scratch;
    return whole;
  }

  private readFields(): boolean {
    const input = this.input;
    const end = this.end;
    const table = this.table;
    const { maxListBytes } = this;
    const fields = this.fields;
    let listBytes = this.listBytes;
    let at = this.position;
    let fieldAt = at;
    for (; at < end; fieldAt = at) {
      const first = input[at++]!;
      let name: string;
      let value: string;
      let secret = false;
      if (first >= 0x80) {
        // Indexed field (§6.1)
        let index = first & 0x7f;
        if (index === 0x7f) {
          this.position = at;
          index = this.readInteger(0x7f);
          if (index < 0) return this.stop(fieldAt, listBytes);
          at = this.position;
        }
        if (index <= STATIC_ENTRIES) {
          if (index === 0) return this.fault('index 0 names no field');
          name = staticNames[index]!;
          value = staticValues[index]!;
        } else {
          const nth = index - STATIC_ENTRIES - 1;
          if (nth >= table.length) return this.fault(`index ${index} is beyond the tables`);
          name = table.nameAt(nth);
          value = table.valueAt(nth);
        }
      } else {
        // Literals: with incremental indexing (§6.2.1), without indexing (§6.2.2), never indexed (§6.2.3)
        if ((first & 0xe0) === 0x20) return this.fault('a table size update may only begin a block');
        this.position = at;
        const literalName = this.readName(first);
        if (literalName === undefined) return this.stop(fieldAt, listBytes);
        name = literalName;
        const literalValue = this.readString(false);
        if (literalValue === undefined) return this.stop(fieldAt, listBytes);
        value = literalValue;
        at = this.position;
        if (first >= 0x40) table.insert(name, value);
        else secret = first >= 0x10;
      }
      // Above the limit we still decode the block to its end, because it may change the table.
      listBytes += name.length + value.length + FIELD_OVERHEAD_BYTES;
      if (listBytes > maxListBytes) {
        if (this.kept.has(name)) this.keep(name, value);
        continue;
      }
      if (secret) (this.neverIndexed ??= []).push(fields.length >> 1);
      fields.push(name, value);
    }
    this.position = at;
    this.listBytes = listBytes;
    return true;
  }

  /** Keeps a field of an oversize list, once or twice, and not its whole value, which may be what is too large. */
  private keep(name: string, value: string): void {
    const cut = value.length > KEPT_VALUE_MAX_BYTES ? value.slice(0, KEPT_VALUE_MAX_BYTES) : value;
    this.keptRoom -= name.length + cut.length + FIELD_OVERHEAD_BYTES;
    if (this.keptRoom >= 0) this.fields.push(name, cut);
  }

  /** Stops at a field that is incomplete or wrong. */
  private stop(fieldAt: number, listBytes: number): false {
    this.position = fieldAt;
    this.listBytes = listBytes;
    return false;
  }

  private fault(error: string): false {
    this.error = error;
    return false;
  }

  /** Applies the size updates with which a block may begin (§4.2, §6.3). */
  private readSizeUpdates(): boolean {
    while (this.position < this.end && (this.input[this.position]! & 0xe0) === 0x20) {
      const updateAt = this.position;
      const bits = this.input[this.position++]! & 0x1f;
      const bytes = bits === 0x1f ? this.readInteger(0x1f) : bits;
      if (bytes < 0) return this.stop(updateAt, 0);
      if (bytes > this.maxTableBytes) {
        this.refuse(`table size update to ${bytes} is above the ${this.maxTableBytes} of SETTINGS`);
        return false;
      }
      this.table.resize(bytes);
    }
    this.atBegin = this.position === this.end;
    return true;
  }

  /** Reads the rest of an integer (§5.1) whose prefix is all ones. @returns -1 if it is incomplete or too large */
  private readInteger(prefix: number): number {
    let value = prefix;
    let scale = 1;
    for (let nth = 0; nth < MAX_CONTINUATION_BYTES; nth++) {
      if (this.position >= this.end) {
        this.cutShort('the block ends within an integer');
        return -1;
      }
      const byte = this.input[this.position++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value <= MAX_INTEGER) return value;
        break;
      }
      scale *= 128;
    }
    this.refuse('an integer is too large');
    return -1;
  }

  /** Reads the name of a literal field that begins with `first`: from a table, or as a string. */
  private readName(first: number): string | undefined {
    const prefix = first >= 0x40 ? 0x3f : 0x0f;
    const index = (first & prefix) === prefix ? this.readInteger(prefix) : first & prefix;
    if (index < 0) return undefined;
    if (index === 0) return this.readString(true);
    if (index <= STATIC_ENTRIES) return staticNames[index];
    const nth = index - STATIC_ENTRIES - 1;
    if (nth < this.table.length) return this.table.nameAt(nth);
    return this.refuse(`name index ${index} is beyond the tables`);
  }

  /** Reads a string literal (§5.2). */
  private readString(isName: boolean): string | undefined {
    if (this.position >= this.end) return this.cutShort('the block ends before a string');
    const first = this.input[this.position++]!;
    const length = (first & 0x7f) === 0x7f ? this.readInteger(0x7f) : first & 0x7f;
    if (length < 0) return undefined;
    const start = this.position;
    if (length > this.end - start) return this.readBeginning(first >= 0x80, isName, start, length);
    this.position = start + length;
    if (first < 0x80) {
      return isName
        ? latin1Name(this.input, start, start + length)
        : latin1(this.input, start, start + length);
    }
    const room = huffmanRoom(length);
    // A longer string has a buffer of its own, so that no large header stays allocated.
    const out = room <= scratch.length ? scratch : Buffer.allocUnsafeSlow(room);
    const bytes = huffmanDecode(this.input, start, start + length, out);
    if (bytes < 0) return this.refuse('a string is not valid Huffman coding');
    return isName ? latin1Name(out, 0, bytes) : latin1(out, 0, bytes);
  }

  /**
   * Reads the beginning of an incomplete string, if that suffices. Huffman coding makes at most 30 bits of 8, so an encoded
   * string stands for at least a quarter of its length.
   */
  private readBeginning(
    huffman: boolean,
    isName: boolean,
    start: number,
    length: number,
  ): string | undefined {
    const wanted = huffman ? 4 * this.longestBytes : this.longestBytes;
    if (isName && length > wanted) return this.refuse('a field name is too long');
    if (length <= wanted || this.end - start < wanted) return this.cutShort('the block ends within a string');
    this.skip = length - (this.end - start);
    this.unreadBytes += length - wanted;
    this.position = this.end;
    if (!huffman) return latin1(this.input, start, start + wanted);
    const out = Buffer.allocUnsafeSlow(huffmanRoom(wanted));
    const bytes = huffmanDecode(this.input, start, start + wanted, out, false);
    return bytes < 0 ? this.refuse('a string is not valid Huffman coding') : latin1(out, 0, bytes);
  }

  /** The bytes end too soon, which is an error unless more will follow. */
  private cutShort(error: string): undefined {
    if (this.open) this.short = true;
    else this.refuse(error);
    return undefined;
  }

  private refuse(error: string): undefined {
    this.error = error;
    return undefined;
  }
}
