/** The ring of consistent hashing: many places for each owner on a circle of 2^32, and the look-up clockwise. */

const MAX_KEY_CHARACTERS = 256;
const FNV_BASIS = 0x811c9dc5;

/**
 * The places in ascending order. Hashes are evenly spread, so distributing them into about as many buckets as there are
 * places sorts them in one pass, and gives the bucket where a look-up starts.
 */
export class Ring {
  private readonly places: Uint32Array;
  /** The owner of each place, as an index into the constructor's list. */
  readonly owners: Uint32Array;
  /** Index of each bucket's first place, and at the end the number of places. */
  private readonly starts: Uint32Array;
  private readonly shift: number;

  /** Takes an address and its number of places for each owner. The same list gives the same ring everywhere. */
  constructor(shares: readonly (readonly [address: string, places: number])[]) {
    let total = 0;
    for (const [, places] of shares) total += places;
    this.shift = Math.min(Math.clz32(total), 31);
    this.places = new Uint32Array(total);
    this.owners = new Uint32Array(total);
    this.starts = new Uint32Array(2 ** (32 - this.shift) + 1);
    const hashes = new Uint32Array(total);
    let next = 0;
    for (const [address, places] of shares) {
      // Use two hashes of the address: with one, two colliding addresses would share all of their places.
      const first = fnv1a(address, FNV_BASIS);
      const stride = mix(fnv1a(address, 1)) | 1;
      for (let i = 0; i < places; i++) {
        const hash = mix(first + Math.imul(i, stride));
        hashes[next++] = hash;
        this.starts[(hash >>> this.shift) + 1]!++;
      }
    }
    for (let bucket = 1; bucket < this.starts.length; bucket++) {
      this.starts[bucket]! += this.starts[bucket - 1]!;
    }
    const filled = new Uint32Array(this.starts.length);
    next = 0;
    for (let owner = 0; owner < shares.length; owner++) {
      for (let i = 0; i < shares[owner]![1]; i++) {
        const hash = hashes[next++]!;
        const bucket = hash >>> this.shift;
        this.insert(hash, owner, this.starts[bucket]!, filled[bucket]!++);
      }
    }
  }

  /** Returns the index of the first place at or after `hash`; 0 past the end of the circle. */
  placeAfter(hash: number): number {
    let place = this.starts[hash >>> this.shift]!;
    while (place < this.places.length && this.places[place]! < hash) place++;
    return place < this.places.length ? place : 0;
  }

  /** Inserts into a bucket that begins at `start` with `filled` sorted places. Equal places stay in the order of owners. */
  private insert(hash: number, owner: number, start: number, filled: number): void {
    let place = start + filled;
    for (; place > start && this.places[place - 1]! > hash; place--) {
      this.places[place] = this.places[place - 1]!;
      this.owners[place] = this.owners[place - 1]!;
    }
    this.places[place] = hash;
    this.owners[place] = owner;
  }
}

/** Hashes the `key` of a call for ring_hash to 32 bits, never 0. Only the first 256 characters count. */
export function hashKey(key: string): number {
  return mix(fnv1a(key, FNV_BASIS)) || 1;
}

/** FNV-1a over UTF-16 code units. */
function fnv1a(text: string, seed: number): number {
  let hash = seed | 0;
  const length = Math.min(text.length, MAX_KEY_CHARACTERS);
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}

/** Spreads every bit of `value` over all 32 (the finalizer of MurmurHash3). */
export function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
