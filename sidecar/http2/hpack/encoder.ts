/** Encodes header lists (RFC 7541 §6). */
import { DEFAULT_TABLE_BYTES } from './dynamic-table.ts';
import { isWorthAnEntry, type KnownName } from './field-treatment.ts';
import type { HeaderList } from './header-list.ts';
import { IndexedTable } from './indexed-table.ts';
import { NEVER_INDEXED, WITHOUT_INDEXING, writeLiteralField } from './literal.ts';
import { MAX_INTEGER_BYTES, writeInteger } from './primitives.ts';
import { RecentPairs } from './recent-pairs.ts';

export { literalSize, writeLiteral } from './literal.ts';

/** The encoded blocks that we keep; a relay's connection repeats a few. */
const MAX_CACHED_BLOCKS = 256;
/** The largest block that we keep, which bounds the cache in bytes. */
const MAX_CACHED_BLOCK_BYTES = 1024;
/** The largest scratch buffer that an encoder keeps. */
const MAX_KEPT_SCRATCH_BYTES = 16 * 1024;
/** All encoders share one buffer for larger blocks, up to this size, which spares the garbage collector. */
const SHARED_SCRATCH_BYTES = 256 * 1024;
/**
 * An insertion that evicts makes every cached block stale, so it needs the credit of this many blocks. Then a working set
 * larger than the table costs a few literals, and not the cache.
 */
const BLOCKS_PER_EVICTION = 256;
/** The most credit: enough for the few pairs of a new caller at once. */
const MAX_EVICTION_CREDIT = 8 * BLOCKS_PER_EVICTION;

const INDEXED = 0x80;
const WITH_INDEXING = 0x40;
const SIZE_UPDATE = 0x20;

let sharedScratch: Buffer | undefined;

/** Encodes the header blocks of one connection's direction (RFC 7541). */
export class HpackEncoder {
  /** After `encode` the block is block[0, blockEnd), until any encoder encodes again. Do not write to it. */
  block: Buffer = Buffer.alloc(0);
  blockEnd = 0;
  private readonly maxTableBytes: number;
  private readonly table: IndexedTable;
  private readonly recent = new RecentPairs();
  private readonly cache = new Map<HeaderList, Buffer>();
  private cacheGeneration = 0;
  private scratch: Buffer = Buffer.allocUnsafeSlow(512);
  /** The smallest table size since the last block, -1 without one, and the size to use next. */
  private smallestTableBytes = -1;
  private nextTableBytes = DEFAULT_TABLE_BYTES;
  private evictionCredit = MAX_EVICTION_CREDIT;
  /** Whether the cache may hold blocks with a pair that lacked credit. */
  private refused = false;

  /**
   * @param options.maxTableBytes the largest table to use, whatever the peer allows; 4,096 by default
   * @param options.knownNames how to treat fields, by those names for which we know it beforehand
   */
  constructor(options?: { maxTableBytes?: number; knownNames?: ReadonlyMap<string, KnownName> | undefined }) {
    this.table = new IndexedTable(options?.knownNames);
    this.maxTableBytes = options?.maxTableBytes ?? DEFAULT_TABLE_BYTES;
    this.setPeerTableBytes(DEFAULT_TABLE_BYTES);
  }

  /** The present size of the dynamic table. */
  get tableBytes(): number {
    return this.table.bytes;
  }

  /**
   * Applies the peer's SETTINGS_HEADER_TABLE_SIZE. The next block begins with the size updates for all changes since the last
   * block: the smallest size, if the table must shrink meanwhile, and the final one (§4.2).
   */
  setPeerTableBytes(bytes: number): void {
    const next = Math.min(bytes, this.maxTableBytes);
    this.nextTableBytes = next;
    const smallest = this.smallestTableBytes;
    this.smallestTableBytes = smallest < 0 ? next : Math.min(smallest, next);
  }

  /** Encodes a list; the block is then this.block[0, this.blockEnd). */
  encode(list: HeaderList): void {
    if (this.evictionCredit < MAX_EVICTION_CREDIT) this.evictionCredit++;
    if (!list.shared || this.smallestTableBytes >= 0) {
      this.encodeList(list);
      return;
    }
    if (
      this.cacheGeneration !== this.table.generation ||
      (this.refused && this.evictionCredit >= BLOCKS_PER_EVICTION)
    ) {
      this.cacheGeneration = this.table.generation;
      this.refused = false;
      this.cache.clear();
    }
    const known = this.cache.get(list);
    if (known !== undefined) {
      this.block = known;
      this.blockEnd = known.length;
      return;
    }
    this.encodeList(list);
    // A block that inserts can't be sent twice; the next block of the list will insert nothing.
    if (this.cacheGeneration !== this.table.generation || this.blockEnd > MAX_CACHED_BLOCK_BYTES) return;
    // A full cache means that lists change often; those in use soon return.
    if (this.cache.size >= MAX_CACHED_BLOCKS) this.cache.clear();
    // Not from Buffer's pool, of which a small slice would keep a whole page alive.
    const kept = Buffer.allocUnsafeSlow(this.blockEnd);
    this.block.copy(kept, 0, 0, this.blockEnd);
    this.cache.set(list, kept);
  }

  private encodeList(list: HeaderList): void {
    const { fields, neverIndexed } = list;
    const out = this.room(fields);
    let at = this.smallestTableBytes >= 0 ? this.writeSizeUpdates(out) : 0;
    let nextNever = 0;
    for (let i = 0; i < fields.length; i += 2) {
      let never = false;
      if (neverIndexed !== undefined && neverIndexed[nextNever] === i >> 1) {
        never = true;
        nextNever++;
      }
      at = this.writeField(out, at, fields[i]!, fields[i + 1]!, never, list.shared);
    }
    this.block = out;
    this.blockEnd = at;
  }

  private writeField(
    out: Buffer,
    at: number,
    name: string,
    value: string,
    never: boolean,
    shared: boolean,
  ): number {
    const table = this.table;
    const known = table.find(name);
    const treatment = known === undefined ? 'repeats' : known.treatment;
    if (never || treatment !== 'repeats') {
      const nameIndex = known === undefined ? 0 : table.indexOfName(known);
      const flags = never || treatment === 'secret' ? NEVER_INDEXED : WITHOUT_INDEXING;
      return writeLiteralField(out, at, flags, 0x0f, nameIndex, name, value);
    }
    let nameIndex = 0;
    if (known !== undefined) {
      const index = table.indexOfPair(known, value);
      if (index !== 0) return writeInteger(out, at, INDEXED, 0x7f, index);
      nameIndex = table.indexOfName(known);
    }
    if (!this.admits(name, value, shared)) {
      return writeLiteralField(out, at, WITHOUT_INDEXING, 0x0f, nameIndex, name, value);
    }
    table.insert(name, value);
    return writeLiteralField(out, at, WITH_INDEXING, 0x3f, nameIndex, name, value);
  }

  /**
   * Whether the pair enters the table now, which needs a second sight. All pairs of a shared list have been seen before.
   */
  private admits(name: string, value: string, shared: boolean): boolean {
    const table = this.table;
    if (!isWorthAnEntry(name, value, table.maxBytes)) return false;
    if (!shared && !this.recent.seen(name, value)) return false;
    if (!table.fits(name, value)) {
      if (this.evictionCredit < BLOCKS_PER_EVICTION) {
        this.refused = true;
        return false;
      }
      this.evictionCredit -= BLOCKS_PER_EVICTION;
    }
    return true;
  }

  private writeSizeUpdates(out: Buffer): number {
    const smallest = this.smallestTableBytes;
    const next = this.nextTableBytes;
    let at = 0;
    if (smallest < next && smallest < this.table.maxBytes) {
      at = writeInteger(out, at, SIZE_UPDATE, 0x1f, smallest);
      this.table.resize(smallest);
    }
    if (next !== this.table.maxBytes) {
      at = writeInteger(out, at, SIZE_UPDATE, 0x1f, next);
      this.table.resize(next);
    }
    this.smallestTableBytes = -1;
    return at;
  }

  /** Returns a buffer with room for any encoding of the fields: three integers a field, and two for size updates. */
  private room(fields: readonly string[]): Buffer {
    let bytes = 2 * MAX_INTEGER_BYTES + (fields.length >> 1) * 3 * MAX_INTEGER_BYTES;
    for (let i = 0; i < fields.length; i++) bytes += fields[i]!.length;
    const scratch = this.scratch;
    if (bytes <= scratch.length) return scratch;
    if (bytes > SHARED_SCRATCH_BYTES) return Buffer.allocUnsafeSlow(bytes);
    if (bytes > MAX_KEPT_SCRATCH_BYTES) {
      sharedScratch ??= Buffer.allocUnsafeSlow(SHARED_SCRATCH_BYTES);
      return sharedScratch;
    }
    const larger = Buffer.allocUnsafeSlow(
      Math.min(MAX_KEPT_SCRATCH_BYTES, Math.max(bytes, scratch.length * 2)),
    );
    this.scratch = larger;
    return larger;
  }
}
