/** Remembers the lists of short blocks that repeat, so that they are not decoded again. */
import { FIELD_OVERHEAD_BYTES, type HeaderList } from './header-list.ts';

/** Longer blocks have much unique content, and a look-up would cost as much as it saves. */
const MAX_BLOCK_BYTES = 128;
/** Bounds the references of a list, because one byte of a block can stand for a field. */
const MAX_PARTS = 64;
/** The number of slots, a power of two. A connection's calls repeat a few blocks; two in one slot displace each other. */
const SLOTS = 256;
/** The memory of an entry beside its block and its fields, including the views of higher layers. */
const ENTRY_BYTES = 1_024;
/** The memory of all connections; above it each may keep {@link ALWAYS_BYTES}, so that one with many entries harms no other. */
const MAX_BYTES = 16_777_216;
const ALWAYS_BYTES = 8_192;

let allBytes = 0;

/** The bits of a 32-bit hash below those of the slot. */
const SLOT_SHIFT = 32 - Math.log2(SLOTS);

interface Entry {
  readonly bytes: Uint8Array;
  readonly list: HeaderList;
  /** In bytes. */
  readonly memory: number;
}

/**
 * Header lists by the bytes of their blocks. The meaning of a block depends on the dynamic table, so all entries belong to one
 * generation of it. The memo keeps a block when it arrives the second time, and only the hash of one that never does.
 *
 *     unknown ──decoded──▶ hash seen ──decoded again──▶ kept ──▶ found (shared)
 *        ▲                                               │
 *        └────────── the table changed ──────────────────┘
 */
export class BlockMemo {
  private generation = -1;
  /** The hash of the latest block that `find` searched for. */
  private hash = 0;
  private readonly entries: (Entry | undefined)[] = [];
  /** The hash of the latest block of each slot. */
  private hashes: Int32Array | undefined;
  /** The slots in use, so that `forget` visits no others. */
  private readonly used: number[] = [];
  private bytes = 0;

  /** Returns the list for bytes[start,end) in this generation of the table, if the memo has it. */
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

  /** Records the list of a block that `find` did not find. */
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

  /** Drops the entries of the generation before, which would keep evicted strings alive. */
  private begin(generation: number): void {
    while (this.entries.length < SLOTS) this.entries.push(undefined);
    this.forget();
    this.generation = generation;
  }

  /** Drops all entries. */
  forget(): void {
    for (const slot of this.used) this.entries[slot] = undefined;
    this.used.length = 0;
    this.count(-this.bytes);
  }
}

/**
 * Multiplies a word of four bytes each round. The high bits of a product depend on all of its input, so they select the slot.
 * A peer that makes blocks collide only makes its own connection decode them again.
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
