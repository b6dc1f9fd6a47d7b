/**
 * Bounds how much of large bodies is read in one turn of the event loop, of all of them together: a socket may have megabytes
 * ready at once, and everybody else waits while they are read.
 */

/** At the slowest a millisecond for every 40,000 bytes. */
export const TURN_BYTES = 262_144;

/** What a socket gives at once. */
const PIECE_BYTES = 65_536;

export class TurnShare {
  private left = TURN_BYTES;
  /** A next turn is waited for. */
  private isCounting = false;
  private readonly waiting = new Set<() => void>();
  private readonly later: (run: () => void) => void;
  /** For measurements: the most that was read in one turn. */
  mostBytes = 0;

  /** @param later runs what it is given in another turn */
  constructor(later: (run: () => void) => void = setImmediate) {
    this.later = later;
  }

  /** @returns false when the reader should stop: `goOn` is called in another turn */
  spend(bytes: number, goOn: () => void): boolean {
    if (!this.isCounting) {
      this.isCounting = true;
      this.later(() => this.next());
    }
    this.left -= bytes;
    this.mostBytes = Math.max(this.mostBytes, TURN_BYTES - this.left);
    if (this.left > 0) return true;
    this.waiting.add(goOn);
    return false;
  }

  private next(): void {
    this.left = TURN_BYTES;
    // Each has a piece ready: as many go on as their pieces fit, and the others in later turns.
    let room = TURN_BYTES / PIECE_BYTES;
    for (const goOn of this.waiting) {
      if (room-- <= 0) break;
      this.waiting.delete(goOn);
      goOn();
    }
    this.isCounting = this.waiting.size > 0;
    if (this.isCounting) this.later(() => this.next());
  }
}
