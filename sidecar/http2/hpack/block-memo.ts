import type { HeaderList } from './header-list.ts';

/** Longer blocks carry much that is unique, and looking them up would cost what is to be saved. */
const MAX_BLOCK_BYTES = 128;
/** Bounds the pointers a list keeps: one byte of block can stand for a field. */
const MAX_PARTS = 64;
/** Slots, a power of two. A connection's calls repeat a few blocks; two that share a slot merely take turns. */
const SLOTS = 256;

interface Entry {
  readonly bytes: Uint8Array;
  readonly list: HeaderList;
}

/**
 * Header lists by the bytes of their blocks. What a block means depends on the dynamic table, so all entries
 * belong to one generation of it. A block is kept when it comes the second time: one that never comes again
 * leaves only its hash.
 *
 *     unknown ──decoded──▶ hash seen ──decoded again──▶ kept ──▶ found (shared)
 *        ▲                                               │
 *        └────────── the table changed ──────────────────┘
 */
export class BlockMemo {
  #generation = -1;
  #hash = 0;
  #entries: (Entry | undefined)[] = [];
  #hashes: Int32Array | undefined;
  /** Slots in use, so that forgetting costs what was kept. */
  #used: number[] = [];

  /** The list that bytes[start,end) stand for in this generation of the table. */
  find(bytes: Uint8Array, start: number, end: number, generation: number): HeaderList | undefined {
    const length = end - start;
    if (length > MAX_BLOCK_BYTES) return undefined;
    const hash = (this.#hash = hashOf(bytes, start, end));
    if (generation !== this.#generation) return undefined;
    const entry = this.#entries[hash & (SLOTS - 1)];
    if (entry === undefined) return undefined;
    const kept = entry.bytes;
    if (kept.length !== length) return undefined;
    for (let i = 0; i < length; i++) if (kept[i] !== bytes[start + i]) return undefined;
    const list = entry.list;
    list.shared = true;
    return list;
  }

  /** Tells what the block that `find` has just not found decoded to. */
  decoded(bytes: Uint8Array, start: number, end: number, generation: number, list: HeaderList): void {
    if (end - start > MAX_BLOCK_BYTES || list.fields.length > MAX_PARTS || list.oversize) return;
    const hash = this.#hash;
    const slot = hash & (SLOTS - 1);
    this.#hashes ??= new Int32Array(SLOTS);
    if (this.#hashes[slot] !== hash) {
      this.#hashes[slot] = hash;
      return;
    }
    if (generation !== this.#generation) this.#forget(generation);
    this.#entries[slot] ?? this.#used.push(slot);
    this.#entries[slot] = { bytes: new Uint8Array(bytes.subarray(start, end)), list };
  }

  /** Old entries would keep strings alive that the table has let go. */
  #forget(generation: number): void {
    if (this.#entries.length === 0) this.#entries = new Array<Entry | undefined>(SLOTS).fill(undefined);
    for (const slot of this.#used) this.#entries[slot] = undefined;
    this.#used.length = 0;
    this.#generation = generation;
  }
}

/** FNV-1a's mixing, four bytes a round. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = end - start;
  let i = start;
  for (const last = end - 3; i < last; i += 4) {
    const word = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    hash = Math.imul(hash ^ word, 0x01000193);
    hash ^= hash >>> 15;
  }
  for (; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash ^ (hash >>> 13);
}
