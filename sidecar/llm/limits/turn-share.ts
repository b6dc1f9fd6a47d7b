/**
 * Bounds how much of all large bodies together is read in one turn of the event loop: a socket may have megabytes ready
 * at once, and every other connection waits while the process reads them.
 */

/** At the slowest, 40,000 bytes take a millisecond. */
export const TURN_BYTES = 262_144;

/** The most bytes of one read from a socket. */
const PIECE_BYTES = 65_536;

export class TurnShare {
  private left = TURN_BYTES;
  /** A callback for the next turn is scheduled. */
  private isCounting = false;
  private readonly waiting = new Set<() => void>();
  private readonly later: (run: () => void) => void;
  /** The most that was read in one turn, for measurements. */
  mostBytes = 0;

  /** @param later runs the given function in another turn */
  constructor(later: (run: () => void) => void = setImmediate) {
    this.later = later;
  }

  /** @returns false when the reader must stop, until another turn calls `goOn` */
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
    // Each reader has a piece ready: so many go on as have room, and the others in later turns.
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
