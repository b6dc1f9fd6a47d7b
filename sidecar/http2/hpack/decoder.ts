import { BlockMemo } from './block-memo.ts';
import { DynamicTable } from './dynamic-table.ts';
import { FIELD_OVERHEAD_BYTES, HeaderList } from './header-list.ts';
import { huffmanDecode, huffmanRoom } from './huffman.ts';
import { latin1, latin1Name } from './latin1.ts';
import { STATIC_ENTRIES, staticNames, staticValues } from './static-table.ts';

/** Larger than any length, index or table size that can be meant; 32 bits stay exact in what follows. */
const MAX_INTEGER = 0x7fffffff;
/** Bytes an integer may go on for after its prefix: what MAX_INTEGER needs. */
const MAX_CONTINUATION_BYTES = 5;

/** Where Huffman strings are decoded to. Shared by all decoders: a string is built before the next one starts. */
const scratch = Buffer.allocUnsafeSlow(8192);

/**
 * Decodes the header blocks of one connection's direction (RFC 7541 §3), strictly: what the RFC calls a
 * decoding error is one. After an error the table is not in step with the peer's any more, and the connection
 * has to end with COMPRESSION_ERROR (RFC 9113 §4.3).
 */
export class HpackDecoder {
  /** What was wrong with the block that `decode` refused. */
  error = '';
  readonly #maxTableBytes: number;
  readonly #maxListBytes: number;
  readonly #table = new DynamicTable();
  readonly #memo = new BlockMemo();
  // The block being decoded.
  #input: Buffer = scratch;
  #position = 0;
  #end = 0;

  /**
   * @param options.maxTableBytes what our SETTINGS_HEADER_TABLE_SIZE advertises: the most a size update may ask for.
   *   The table itself starts at the protocol's 4096 until the peer says otherwise, whatever this is.
   * @param options.maxListBytes the size (RFC 9113 §6.5.2) above which a list is answered as oversize
   */
  constructor(options: { maxTableBytes: number; maxListBytes: number }) {
    this.#maxTableBytes = options.maxTableBytes;
    this.#maxListBytes = options.maxListBytes;
  }

  /** Bytes the dynamic table holds now; never above 4096 or what a size update within maxTableBytes allowed. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** Decodes buffer[start,end). Returns undefined on a COMPRESSION_ERROR; `error` then says why. Never throws. */
  decode(buffer: Buffer, start: number, end: number): HeaderList | undefined {
    const generation = this.#table.generation;
    const known = this.#memo.find(buffer, start, end, generation);
    if (known !== undefined) return known;
    this.#input = buffer;
    this.#position = start;
    this.#end = end;
    const list = this.#decodeBlock();
    this.#input = scratch;
    // A block that changed the table means something else when it comes again.
    if (list !== undefined && this.#table.generation === generation) {
      this.#memo.decoded(buffer, start, end, generation, list);
    }
    return list;
  }

  #decodeBlock(): HeaderList | undefined {
    const input = this.#input;
    const end = this.#end;
    const table = this.#table;
    const maxListBytes = this.#maxListBytes;
    const fields: string[] = [];
    let neverIndexed: number[] | undefined;
    let listBytes = 0;
    if (!this.#readSizeUpdates()) return undefined;
    let at = this.#position;
    while (at < end) {
      const first = input[at++]!;
      let name: string;
      let value: string;
      let secret = false;
      if (first >= 0x80) {
        // Indexed field (§6.1)
        let index = first & 0x7f;
        if (index === 0x7f) {
          this.#position = at;
          index = this.#readInteger(0x7f);
          if (index < 0) return undefined;
          at = this.#position;
        }
        if (index <= STATIC_ENTRIES) {
          if (index === 0) return this.#refuse('index 0 names no field');
          name = staticNames[index]!;
          value = staticValues[index]!;
        } else {
          const nth = index - STATIC_ENTRIES - 1;
          if (nth >= table.length) return this.#refuse(`index ${index} is beyond the tables`);
          name = table.nameAt(nth);
          value = table.valueAt(nth);
        }
      } else {
        // Literals: with incremental indexing (§6.2.1), without indexing (§6.2.2), never indexed (§6.2.3)
        if ((first & 0xe0) === 0x20) return this.#refuse('a table size update may only begin a block');
        this.#position = at;
        const literalName = this.#readName(first);
        if (literalName === undefined) return undefined;
        name = literalName;
        const literalValue = this.#readString(false);
        if (literalValue === undefined) return undefined;
        value = literalValue;
        at = this.#position;
        if (first >= 0x40) table.insert(name, value);
        else secret = first >= 0x10;
      }
      // Past the limit the block is still decoded to its end, for the table's sake.
      listBytes += name.length + value.length + FIELD_OVERHEAD_BYTES;
      if (listBytes > maxListBytes) continue;
      if (secret) (neverIndexed ??= []).push(fields.length >> 1);
      fields.push(name, value);
    }
    return new HeaderList(fields, neverIndexed, listBytes, listBytes > maxListBytes);
  }

  /** Takes the size updates a block may begin with (§4.2, §6.3). */
  #readSizeUpdates(): boolean {
    while (this.#position < this.#end && (this.#input[this.#position]! & 0xe0) === 0x20) {
      const bits = this.#input[this.#position++]! & 0x1f;
      const bytes = bits === 0x1f ? this.#readInteger(0x1f) : bits;
      if (bytes < 0) return false;
      if (bytes > this.#maxTableBytes) {
        this.#refuse(`table size update to ${bytes} is above the ${this.#maxTableBytes} of SETTINGS`);
        return false;
      }
      this.#table.resize(bytes);
    }
    return true;
  }

  /** The rest of an integer (§5.1) whose prefix was all ones; -1 when it is cut short or too large. */
  #readInteger(prefix: number): number {
    let value = prefix;
    let scale = 1;
    for (let nth = 0; nth < MAX_CONTINUATION_BYTES; nth++) {
      if (this.#position >= this.#end) {
        this.#refuse('the block ends within an integer');
        return -1;
      }
      const byte = this.#input[this.#position++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value <= MAX_INTEGER) return value;
        break;
      }
      scale *= 128;
    }
    this.#refuse('an integer is too large');
    return -1;
  }

  /** The name of a literal field that begins with `first`: from a table, or spelled out. */
  #readName(first: number): string | undefined {
    const prefix = first >= 0x40 ? 0x3f : 0x0f;
    const index = (first & prefix) === prefix ? this.#readInteger(prefix) : first & prefix;
    if (index < 0) return undefined;
    if (index === 0) return this.#readString(true);
    if (index <= STATIC_ENTRIES) return staticNames[index];
    const nth = index - STATIC_ENTRIES - 1;
    if (nth < this.#table.length) return this.#table.nameAt(nth);
    return this.#refuse(`name index ${index} is beyond the tables`);
  }

  /** A string literal (§5.2). */
  #readString(isName: boolean): string | undefined {
    if (this.#position >= this.#end) return this.#refuse('the block ends before a string');
    const first = this.#input[this.#position++]!;
    const length = (first & 0x7f) === 0x7f ? this.#readInteger(0x7f) : first & 0x7f;
    if (length < 0) return undefined;
    const start = this.#position;
    if (length > this.#end - start) return this.#refuse('the block ends within a string');
    this.#position = start + length;
    if (first < 0x80) {
      return isName
        ? latin1Name(this.#input, start, start + length)
        : latin1(this.#input, start, start + length);
    }
    const room = huffmanRoom(length);
    // A longer string gets a place of its own, so that one large header never stays allocated.
    const out = room <= scratch.length ? scratch : Buffer.allocUnsafeSlow(room);
    const bytes = huffmanDecode(this.#input, start, start + length, out);
    if (bytes < 0) return this.#refuse('a string is not valid Huffman coding');
    return isName ? latin1Name(out, 0, bytes) : latin1(out, 0, bytes);
  }

  #refuse(error: string): undefined {
    this.error = error;
    return undefined;
  }
}
