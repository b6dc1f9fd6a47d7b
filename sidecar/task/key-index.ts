/** A hash index from keys to slots, without an object for each key. */
import { hashOf } from '../collections/churn-map.ts';
import { type SharedBlock, SharedBlocks } from '../collections/shared-blocks.ts';

/** Keys share blocks of this size. */
const BLOCK_BYTES = 65_536;
/** Where the oldest keys are deleted as new ones are set, one block gets free about when another is full. */
const SPARE_BLOCKS_MAX = 4;

/**
 * Finds slots by their keys. A `Map` would keep a string for each key, long enough for the collector to move it twice and
 * promote it to the old generation, and V8 would rebuild the map's table every few thousand keys. Here hashes are columns,
 * and the bytes of the keys lie one after the other in blocks, each of which is used again once its last key is deleted.
 *
 * A look-up compares colliding keys one by one: if all of ten thousand collided, it would take some 20 µs.
 */
export class KeyIndex {
  private readonly mask: number;
  /** For each hash the slot that was set last; -1 for none. */
  private readonly newest: Int32Array;
  /** For each slot the one of the same hash that was set before. */
  private readonly older: Int32Array;
  private readonly hashes: Int32Array;
  private readonly starts: Uint16Array;
  /** 0 for a slot without a key. */
  private readonly lengths: Uint16Array;
  private readonly blocks: (SharedBlock | undefined)[];
  private readonly memory: SharedBlocks;

  /** @param capacity the number of slots, a power of two */
  constructor(capacity: number, memory = new SharedBlocks(BLOCK_BYTES, SPARE_BLOCKS_MAX)) {
    this.mask = capacity - 1;
    this.newest = new Int32Array(capacity).fill(-1);
    this.older = new Int32Array(capacity).fill(-1);
    this.hashes = new Int32Array(capacity);
    this.starts = new Uint16Array(capacity);
    this.lengths = new Uint16Array(capacity);
    this.blocks = new Array(capacity).fill(undefined);
    this.memory = memory;
  }

  /** Returns the length of the slot's key; 0 without one. */
  lengthAt(slot: number): number {
    return this.lengths[slot]!;
  }

  /** Returns the slot of a key, or -1. */
  find(key: string, hash = hashOf(key)): number {
    for (let slot = this.newest[hash & this.mask]!; slot >= 0; slot = this.older[slot]!) {
      if (this.hashes[slot] === hash && this.lengths[slot] === key.length && this.keyAt(slot) === key)
        return slot;
    }
    return -1;
  }

  private keyAt(slot: number): string {
    const start = this.starts[slot]!;
    return this.blocks[slot]!.buffer.toString('latin1', start, start + this.lengths[slot]!);
  }

  /** @param key not empty, in Latin-1, shorter than 64 KiB, and not present yet */
  set(slot: number, key: string, hash: number): void {
    const { length } = key;
    const block = this.memory.take(length);
    const start = block.used - length;
    block.buffer.write(key, start, 'latin1');
    this.link(slot, hash, length, block, start);
  }

  private link(slot: number, hash: number, length: number, block: SharedBlock, start: number): void {
    const first = hash & this.mask;
    this.hashes[slot] = hash;
    this.lengths[slot] = length;
    this.blocks[slot] = block;
    this.starts[slot] = start;
    this.older[slot] = this.newest[first]!;
    this.newest[first] = slot;
  }

  delete(slot: number): void {
    const first = this.hashes[slot]! & this.mask;
    const older = this.older[slot]!;
    let newer = this.newest[first]!;
    if (newer === slot) {
      this.newest[first] = older;
    } else {
      while (this.older[newer] !== slot) newer = this.older[newer]!;
      this.older[newer] = older;
    }
    this.lengths[slot] = 0;
    this.memory.give(this.blocks[slot]!);
    this.blocks[slot] = undefined;
  }

  /** Frees memory of deleted keys. */
  trim(): void {
    this.memory.trim();
  }

  /** Makes an index for more keys, without any. It takes over this one's memory with the keys, by {@link take}. */
  larger(capacity: number): KeyIndex {
    return new KeyIndex(capacity, this.memory);
  }

  /** Takes over a key from the index that made this one. Call it in the order in which the keys were set there. */
  take(from: KeyIndex, slot: number, to: number): void {
    this.link(to, from.hashes[slot]!, from.lengths[slot]!, from.blocks[slot]!, from.starts[slot]!);
  }
}
