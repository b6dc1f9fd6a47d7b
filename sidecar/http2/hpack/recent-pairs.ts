/** The number of remembered pairs, a power of two. */
const RECENT_PAIRS = 128;
/** The largest remembered pair, which bounds the memory of an idle connection. */
const MAX_PAIR_CHARS = 1024;

/**
 * Remembers recent pairs, so that the encoder uses table space only for a pair that it sees again. Then values that are unique
 * to a call never change the table, and cached blocks stay valid. Pairs in one slot displace each other, which costs one more
 * literal.
 */
export class RecentPairs {
  private readonly names: string[] = [];
  private readonly values: string[] = [];

  /** Whether the pair was seen recently. Remembers it. */
  seen(name: string, value: string): boolean {
    if (name.length + value.length > MAX_PAIR_CHARS) return false;
    if (this.names.length === 0) {
      for (let i = 0; i < RECENT_PAIRS; i++) {
        this.names.push('');
        this.values.push('');
      }
    }
    const slot = sampleHash(name, value) & (RECENT_PAIRS - 1);
    if (this.values[slot] === value && this.names[slot] === name) return true;
    this.names[slot] = name;
    this.values[slot] = value;
    return false;
  }
}

/** Hashes some ten characters, which spread pairs well enough, and cost no more for a long value. */
function sampleHash(name: string, value: string): number {
  let hash = name.length * 31 + value.length;
  if (name.length > 0) hash = Math.imul(hash, 31) + name.charCodeAt(name.length - 1);
  const step = (value.length >> 3) + 1;
  for (let i = value.length - 1; i >= 0; i -= step) hash = Math.imul(hash, 31) + value.charCodeAt(i);
  return hash ^ (hash >>> 7) ^ (hash >>> 14);
}
