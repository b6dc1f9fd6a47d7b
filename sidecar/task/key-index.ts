import { hashOf } from '../collections/churn-map.ts';

/** Keys share blocks of this size. */
const BLOCK_BYTES = 65_536;

/**
 * Finds slots by their keys. A `Map` would hold on to a string for each key, for long enough to be moved by the collector
 * twice and be left to it in the old generation, and would itself be made anew every some thousand keys. Here hashes are
 * columns, and the bytes of the keys lie one behind the other in blocks, each of which goes with its last key.
 *
 * Keys that fall together are walked through: with all of ten thousand that would take some 20 µs.
 */
export class KeyIndex {
  readonly #mask: number;
  /** Of each hash the slot that was set last; -1 for none. */
  readonly #newest: Int32Array;
  /** The slot of the same hash that was set before. */
  readonly #older: Int32Array;
  readonly #hashes: Int32Array;
  readonly #starts: Uint16Array;
  /** 0 where there is no key. */
  readonly #lengths: Uint16Array;
  readonly #blocks: (Buffer | undefined)[];
  #block: Buffer | undefined = undefined;
  #used = 0;

  /** @param capacity how many slots there are, a power of two */
  constructor(capacity: number) {
    this.#mask = capacity - 1;
    this.#newest = new Int32Array(capacity).fill(-1);
    this.#older = new Int32Array(capacity).fill(-1);
    this.#hashes = new Int32Array(capacity);
    this.#starts = new Uint16Array(capacity);
    this.#lengths = new Uint16Array(capacity);
    this.#blocks = new Array(capacity).fill(undefined);
  }

  /** Of its key; 0 where there is none. */
  lengthAt(slot: number): number {
    return this.#lengths[slot]!;
  }

  /** The slot of a key, or -1. */
  find(key: string, hash = hashOf(key)): number {
    for (let slot = this.#newest[hash & this.#mask]!; slot >= 0; slot = this.#older[slot]!) {
      if (this.#hashes[slot] === hash && this.#lengths[slot] === key.length && this.#keyAt(slot) === key)
        return slot;
    }
    return -1;
  }

  #keyAt(slot: number): string {
    const start = this.#starts[slot]!;
    return this.#blocks[slot]!.toString('latin1', start, start + this.#lengths[slot]!);
  }

  /** @param key not empty, in Latin-1, of less than 64 KiB, and not here yet */
  set(slot: number, key: string, hash: number): void {
    const { length } = key;
    if (this.#block === undefined || this.#used + length > BLOCK_BYTES) {
      this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
      this.#used = 0;
    }
    this.#block.write(key, this.#used, 'latin1');
    this.#link(slot, hash, length, this.#block, this.#used);
    this.#used += length;
  }

  #link(slot: number, hash: number, length: number, block: Buffer, start: number): void {
    const first = hash & this.#mask;
    this.#hashes[slot] = hash;
    this.#lengths[slot] = length;
    this.#blocks[slot] = block;
    this.#starts[slot] = start;
    this.#older[slot] = this.#newest[first]!;
    this.#newest[first] = slot;
  }

  delete(slot: number): void {
    const first = this.#hashes[slot]! & this.#mask;
    const older = this.#older[slot]!;
    let newer = this.#newest[first]!;
    if (newer === slot) {
      this.#newest[first] = older;
    } else {
      while (this.#older[newer] !== slot) newer = this.#older[newer]!;
      this.#older[newer] = older;
    }
    this.#lengths[slot] = 0;
    this.#blocks[slot] = undefined;
  }

  /** The same key at a slot of this one, which must be set in the order in which they were there. */
  take(from: KeyIndex, slot: number, to: number): void {
    this.#link(to, from.#hashes[slot]!, from.#lengths[slot]!, from.#blocks[slot]!, from.#starts[slot]!);
    this.#block = from.#block;
    this.#used = from.#used;
  }
}
