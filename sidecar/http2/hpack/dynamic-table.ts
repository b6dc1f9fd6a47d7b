/** The dynamic table of HPACK (RFC 7541 §2.3.2). */
import { FIELD_OVERHEAD_BYTES } from './header-list.ts';

/** The initial size on both sides, before any SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2). */
export const DEFAULT_TABLE_BYTES = 4096;

/**
 * The dynamic table of RFC 7541 §2.3.2 and §4: first in, first out, in a ring. A serial number identifies an entry: the first
 * entry ever inserted has 0. The index on the wire counts back from the newest entry.
 */
export class DynamicTable {
  /** The present size, as §4.1 counts it. */
  bytes = 0;
  maxBytes = DEFAULT_TABLE_BYTES;
  /** The serial number of the next entry; the newest entry's is one less. */
  nextSerial = 0;
  /** The number of entries. */
  length = 0;
  /** Changes when the meaning of an index may have changed; results derived from another generation are stale. */
  generation = 0;
  // The ring doubles its length, a power of two, so that a connection without entries has none.
  private names: string[] = [];
  private values: string[] = [];
  private mask = -1;

  /** The name of the nth newest entry (0 = newest). The caller has checked n against `length`. */
  nameAt(n: number): string {
    return this.names[(this.nextSerial - 1 - n) & this.mask]!;
  }

  /** The value of the nth newest entry. */
  valueAt(n: number): string {
    return this.values[(this.nextSerial - 1 - n) & this.mask]!;
  }

  /** Whether the pair fits without evicting others. */
  fits(name: string, value: string): boolean {
    return this.bytes + name.length + value.length + FIELD_OVERHEAD_BYTES <= this.maxBytes;
  }

  /** Inserts a pair, and evicts entries for it (§4.4). A pair larger than the table empties it, which is no error. */
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

  /** Changes the maximum size, and evicts entries that no longer fit (§4.3). */
  resize(maxBytes: number): void {
    this.generation++;
    this.maxBytes = maxBytes;
    this.evictTo(maxBytes);
  }

  /** Called after each eviction. */
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
