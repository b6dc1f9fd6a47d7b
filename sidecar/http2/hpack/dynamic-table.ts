import { FIELD_OVERHEAD_BYTES } from './header-list.ts';

/** The size both sides start with, before any SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2). */
export const DEFAULT_TABLE_BYTES = 4096;

/**
 * The dynamic table of RFC 7541 §2.3.2 and §4: first in, first out, in a ring. Entries are known by their
 * serial number (the first one ever inserted is 0), which never changes while the entry lives; the wire's
 * index counts back from the newest.
 */
export class DynamicTable {
  /** Bytes held now, as §4.1 counts them. */
  bytes = 0;
  maxBytes = DEFAULT_TABLE_BYTES;
  /** Serial number the next entry gets; the newest entry's is one less. */
  nextSerial = 0;
  /** Entries held. */
  length = 0;
  /** Moves whenever what an index means may have changed; what was derived under another number is stale. */
  generation = 0;
  // The ring grows by doubling, so a connection that indexes nothing costs nothing; its length is a power of two.
  private names: string[] = [];
  private values: string[] = [];
  private mask = -1;

  /** Name of the nth newest entry (0 = newest). The caller has checked n against `length`. */
  nameAt(n: number): string {
    return this.names[(this.nextSerial - 1 - n) & this.mask]!;
  }

  /** Value of the nth newest entry. */
  valueAt(n: number): string {
    return this.values[(this.nextSerial - 1 - n) & this.mask]!;
  }

  /** Whether the pair can be inserted without evicting. */
  fits(name: string, value: string): boolean {
    return this.bytes + name.length + value.length + FIELD_OVERHEAD_BYTES <= this.maxBytes;
  }

  /** Inserts, evicting what must go (§4.4). An entry larger than the table empties it, and that is no error. */
  insert(name: string, value: string): boolean {
    this.generation++;
    const bytes = name.length + value.length + FIELD_OVERHEAD_BYTES;
    this.evictTo(this.maxBytes - bytes);
    if (bytes > this.maxBytes) return false;
    if (this.length > this.mask) this.grow();
    const slot = this.nextSerial++ & this.mask;
    this.names[slot] = name;
    this.values[slot] = value;
    this.bytes += bytes;
    this.length++;
    return true;
  }

  /** Changes the maximum size, evicting what no longer fits (§4.3). */
  resize(maxBytes: number): void {
    this.generation++;
    this.maxBytes = maxBytes;
    this.evictTo(maxBytes);
  }

  /** Called with each entry that leaves, after it left. */
  protected evicted(_serial: number, _name: string, _value: string): void {}

  private evictTo(bytes: number): void {
    while (this.bytes > bytes && this.length > 0) {
      const serial = this.nextSerial - this.length;
      const slot = serial & this.mask;
      const name = this.names[slot]!;
      const value = this.values[slot]!;
      this.names[slot] = '';
      this.values[slot] = '';
      this.bytes -= name.length + value.length + FIELD_OVERHEAD_BYTES;
      this.length--;
      this.evicted(serial, name, value);
    }
  }

  private grow(): void {
    const slots = Math.max(8, (this.mask + 1) * 2);
    const names = new Array<string>(slots).fill('');
    const values = new Array<string>(slots).fill('');
    for (let serial = this.nextSerial - this.length; serial < this.nextSerial; serial++) {
      names[serial & (slots - 1)] = this.names[serial & this.mask]!;
      values[serial & (slots - 1)] = this.values[serial & this.mask]!;
    }
    this.names = names;
    this.values = values;
    this.mask = slots - 1;
  }
}
