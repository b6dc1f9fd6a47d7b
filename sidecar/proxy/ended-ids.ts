/** So many ids are remembered, less those that fall together: minutes of an agent's calls. */
const SLOTS = 8_192;

/**
 * Ids of calls that are over: the latest ones, by their hashes. A hash that falls together with another one's is one id too many,
 * and in 32 bits that happens once in some millions.
 */
export class EndedIds {
  /** 0 for none. */
  private readonly hashes = new Int32Array(SLOTS);

  add(hash: number): void {
    this.hashes[hash & (SLOTS - 1)] = hash;
  }

  has(hash: number): boolean {
    return hash !== 0 && this.hashes[hash & (SLOTS - 1)] === hash;
  }
}
