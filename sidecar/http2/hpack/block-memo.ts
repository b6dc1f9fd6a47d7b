import { FIELD_OVERHEAD_BYTES, type HeaderList } from './header-list.ts';

/** Longer blocks carry much that is unique, and looking them up would cost what is to be saved. */
const MAX_BLOCK_BYTES = 128;
/** Bounds the pointers a list keeps: one byte of block can stand for a field. */
const MAX_PARTS = 64;
/** Slots, a power of two. A connection's calls repeat a few blocks; two that share a slot merely take turns. */
const SLOTS = 256;
/** What an entry costs beside its block and its fields: the views of the layers above, too. */
const ENTRY_BYTES = 1_024;
/** Of all connections together; above it each may keep a few entries, so that one which makes very many costs the others nothing. */
const MAX_BYTES = 16_777_216;
const ALWAYS_BYTES = 8_192;

let allBytes = 0;

/** What of a 32-bit hash is not the slot. */
const SLOT_SHIFT = 32 - Math.log2(SLOTS);

interface Entry {
  readonly bytes: Uint8Array;
  readonly list: HeaderList;
  /** What it costs. */
  readonly memory: number;
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
  private generation = -1;
  /** Hash of the block that `find` looked for last, if it came to that. */
  private hash = 0;
  private readonly entries: (Entry | undefined)[] = [];
  /** The hash of the block that came last to each slot. */
  private hashes: Int32Array | undefined;
  /** Slots in use, so that forgetting costs what was kept. */
  private readonly used: number[] = [];
  private bytes = 0;

  /** The list that bytes[start,end) stand for in this generation of the table. */
  find(bytes: Uint8Array, start: number, end: number, generation: number): HeaderList | undefined {
    const length = end - start;
    if (generation !== this.generation || length > MAX_BLOCK_BYTES) return undefined;
    this.hash = hashOf(bytes, start, end);
    const entry = this.entries[this.hash >>> SLOT_SHIFT];
    if (entry === undefined) return undefined;
    const kept = entry.bytes;
    if (kept.length !== length) return undefined;
    for (let i = 0; i < length; i++) if (kept[i] !== bytes[start + i]) return undefined;
    const list = entry.list;
    list.shared = true;
    return list;
  }

  /** Tells what a block that `find` did not find was decoded to. */
  decoded(bytes: Uint8Array, start: number, end: number, generation: number, list: HeaderList): void {
    if (end - start > MAX_BLOCK_BYTES || list.fields.length > MAX_PARTS || list.oversize) return;
    const hash = generation === this.generation ? this.hash : hashOf(bytes, start, end);
    const slot = hash >>> SLOT_SHIFT;
    this.hashes ??= new Int32Array(SLOTS);
    if (this.hashes[slot] !== hash) {
      this.hashes[slot] = hash;
      return;
    }
    if (generation !== this.generation) this.begin(generation);
    const before = this.entries[slot];
    const memory =
      ENTRY_BYTES + end - start + list.listBytes + FIELD_OVERHEAD_BYTES * (list.fields.length >> 1);
    const more = memory - (before?.memory ?? 0);
    if (allBytes + more > MAX_BYTES && this.bytes + more > ALWAYS_BYTES) return;
    this.count(more);
    if (before === undefined) this.used.push(slot);
    this.entries[slot] = { bytes: new Uint8Array(bytes.subarray(start, end)), list, memory };
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    allBytes += bytes;
  }

  /** Old entries would keep strings alive that the table has let go. */
  private begin(generation: number): void {
    while (this.entries.length < SLOTS) this.entries.push(undefined);
    this.forget();
    this.generation = generation;
  }

  /** Keeps nothing of what it has seen. */
  forget(): void {
    for (const slot of this.used) this.entries[slot] = undefined;
    this.used.length = 0;
    this.count(-this.bytes);
  }
}

/**
 * Multiplies in a word of four bytes a round. A product's high bits depend on all that went in, so they choose
 * the slot. Whoever makes blocks collide makes their own connection decode them again, and nothing else.
 */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = end - start;
  let i = start;
  for (const last = end - 3; i < last; i += 4) {
    const word = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    hash = Math.imul(hash ^ word, 0x9e3779b1);
  }
  for (; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x9e3779b1);
  return hash;
}
