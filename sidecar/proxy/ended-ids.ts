/** The number of ids that are remembered, less hash collisions: minutes of an agent's calls. */
const SLOTS = 8_192;

/**
 * Remembers the latest ids of calls that are over, by their hashes. A collision counts an id that never ended; with 32
 * bits that happens once in some millions.
 */
export class EndedIds {
  /** 0 means none. */
  private readonly hashes = new Int32Array(SLOTS);

  add(hash: number): void {
    this.hashes[hash & (SLOTS - 1)] = hash;
  }

  has(hash: number): boolean {
    return hash !== 0 && this.hashes[hash & (SLOTS - 1)] === hash;
  }
}
