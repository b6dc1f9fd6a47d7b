/** Pairs remembered, a power of two. */
const RECENT_PAIRS = 128;
/** Larger pairs are not remembered: it bounds what an idle connection holds on to. */
const MAX_PAIR_CHARS = 1024;

/**
 * Remembers the pairs seen lately, so that the encoder can wait for a pair's second sight before it spends
 * table space on it. Values that are unique to a call then never churn the table, and what was encoded with
 * it stays valid. Pairs that fall into one slot forget each other: the cost is a literal more.
 */
export class RecentPairs {
  private readonly names: string[] = [];
  private readonly values: string[] = [];

  /** Whether the pair was seen lately; it now was. */
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

/** Some ten characters tell pairs apart well enough to spread them, and don't cost more for a long value. */
function sampleHash(name: string, value: string): number {
  let hash = name.length * 31 + value.length;
  if (name.length > 0) hash = Math.imul(hash, 31) + name.charCodeAt(name.length - 1);
  const step = (value.length >> 3) + 1;
  for (let i = value.length - 1; i >= 0; i -= step) hash = Math.imul(hash, 31) + value.charCodeAt(i);
  return hash ^ (hash >>> 7) ^ (hash >>> 14);
}
