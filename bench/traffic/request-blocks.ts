// The header blocks of one connection's requests (RFC 7541), made as a client makes them: fields that repeat are in the
// dynamic table, and what is new in each call comes as a literal.
import { type UniqueField, uniqueFields, writeUnique } from './unique-values.ts';

const TABLE_BYTES = 4096;
const STATIC_ENTRIES = 61;
const ENTRY_OVERHEAD_BYTES = 32;
/** Longer than any block here. */
const MAX_BLOCK_BYTES = 8192;

interface Field {
  readonly name: string;
  readonly value: string;
  /** Of the name in the static table, 0 for none. */
  readonly nameIndex: number;
  /** How many fields were inserted into the table before it; -1 before it was. */
  inserted: number;
}

export interface BlockOptions {
  path: string;
  extraHeaders: number;
  uniqueHeaders: 'none' | 'literal' | 'indexed';
}

/** Of one process, for all its connections: counts the calls. */
let nextCall = 0;

export class RequestBlocks {
  private readonly repeated: readonly Field[];
  private readonly unique: readonly UniqueField[];
  private readonly indexing: boolean;
  /** By the unique fields' order: when the last one of this name was inserted. */
  private readonly lastInserted: number[];
  private readonly out = Buffer.alloc(MAX_BLOCK_BYTES);
  private end = 0;
  // The dynamic table: how many fields have ever been inserted, how many of them were evicted, and their sizes.
  private inserted = 0;
  private evicted = 0;
  private tableBytes = 0;
  private readonly sizes: number[] = [];
  /** A block that only differs in its unique values from the one before. */
  private stable = false;
  /** Where the unique values are in a stable block. */
  private readonly valuesAt: number[] = [];

  constructor({ path, extraHeaders, uniqueHeaders }: BlockOptions) {
    const field = (name: string, value: string, nameIndex = 0): Field => ({
      name,
      value,
      nameIndex,
      inserted: -1,
    });
    this.repeated = [
      field(':path', path, 4),
      field(':authority', 'agent', 1),
      field('content-type', 'application/grpc', 31),
      field('te', 'trailers'),
      field('user-agent', 'outrigger-bench/1', 58),
      ...Array.from({ length: extraHeaders }, (_, i) => field(`x-extra-${100 + i}`, `value-${1000 + i}`)),
    ];
    this.unique = uniqueHeaders === 'none' ? [] : uniqueFields();
    this.indexing = uniqueHeaders === 'indexed';
    this.lastInserted = this.unique.map(() => -1);
  }

  /** The next call's block is `block[0, end)` until it is asked again. */
  get block(): Buffer {
    return this.out;
  }

  /** Makes the next call's block and returns its length. */
  next(): number {
    const call = nextCall++;
    if (this.stable) {
      for (let i = 0; i < this.unique.length; i++)
        writeUnique(this.out, this.valuesAt[i]! + this.unique[i]!.at, call);
      return this.end;
    }
    const insertedBefore = this.inserted;
    this.out[0] = 0x83; // :method POST
    this.out[1] = 0x86; // :scheme http
    this.end = 2;
    for (const field of this.repeated) this.writeRepeated(field);
    for (let i = 0; i < this.unique.length; i++) this.writeUniqueField(this.unique[i]!, i, call);
    this.stable = this.inserted === insertedBefore;
    return this.end;
  }

  private writeRepeated(field: Field): void {
    if (field.inserted >= this.evicted) {
      this.integer(0x80, 0x7f, this.indexOf(field.inserted));
      return;
    }
    this.integer(0x40, 0x3f, field.nameIndex);
    if (field.nameIndex === 0) this.text(field.name);
    this.text(field.value);
    field.inserted = this.insert(field.name.length + field.value.length);
  }

  private writeUniqueField({ name, value, at }: UniqueField, which: number, call: number): void {
    const last = this.lastInserted[which]!;
    const nameIndex = last >= this.evicted ? this.indexOf(last) : 0;
    if (this.indexing) this.integer(0x40, 0x3f, nameIndex);
    else this.integer(0, 0x0f, 0);
    if (nameIndex === 0) this.text(name);
    this.integer(0x80, 0x7f, value.length);
    this.valuesAt[which] = this.end;
    value.copy(this.out, this.end);
    writeUnique(this.out, this.end + at, call);
    this.end += value.length;
    // A traceparent has 55 characters, a UUID 36.
    if (this.indexing)
      this.lastInserted[which] = this.insert(name.length + (name === 'traceparent' ? 55 : 36));
  }

  private indexOf(inserted: number): number {
    return STATIC_ENTRIES + this.inserted - inserted;
  }

  /** Adds an entry of so many characters and evicts what has no place any more (RFC 7541 §4.4). */
  private insert(characters: number): number {
    const bytes = characters + ENTRY_OVERHEAD_BYTES;
    while (this.tableBytes + bytes > TABLE_BYTES) {
      this.tableBytes -= this.sizes.shift()!;
      this.evicted++;
    }
    this.sizes.push(bytes);
    this.tableBytes += bytes;
    return this.inserted++;
  }

  private integer(pattern: number, mask: number, value: number): void {
    if (value < mask) {
      this.out[this.end++] = pattern | value;
      return;
    }
    this.out[this.end++] = pattern | mask;
    let rest = value - mask;
    for (; rest >= 0x80; rest >>>= 7) this.out[this.end++] = (rest & 0x7f) | 0x80;
    this.out[this.end++] = rest;
  }

  private text(value: string): void {
    this.integer(0, 0x7f, value.length);
    this.end += this.out.write(value, this.end, 'latin1');
  }
}
