/**
 * How much of large bodies is read in one turn of the event loop, of all of them together: a socket may have megabytes
 * ready at once, and everybody else waits while they are read.
 */

/** At the slowest a millisecond for every 40,000 bytes. */
export const TURN_BYTES = 262_144;

export class TurnShare {
  #left = TURN_BYTES;
  #isOver = false;
  readonly #waiting: (() => void)[] = [];
  readonly #later: (run: () => void) => void;
  /** For measurements: the most that was read in one turn. */
  mostBytes = 0;

  /** @param later runs what it is given in another turn */
  constructor(later: (run: () => void) => void = setImmediate) {
    this.#later = later;
  }

  /** @returns false when the reader should stop: `goOn` is called in another turn */
  spend(bytes: number, goOn: () => void): boolean {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#later(() => this.#next());
    }
    this.#left -= bytes;
    this.mostBytes = Math.max(this.mostBytes, TURN_BYTES - this.#left);
    if (this.#left > 0) return true;
    this.#waiting.push(goOn);
    return false;
  }

  #next(): void {
    this.#isOver = false;
    this.#left = TURN_BYTES;
    // Each gives a piece at least: those that did not come to their turn are first in the next one.
    for (const goOn of this.#waiting.splice(0)) goOn();
  }
}
