/**
 * Bounds how long one turn of the event loop reads HTTP/1 and TLS connections. A read of 64 KiB may hold ten thousand
 * chunks, events or interim answers, and all other connections wait while it is processed. Only the time that a read took
 * shows its cost, whatever it holds. Reads that find no time left wait for a later turn.
 */

/** A usual read takes less. A connection whose last read took longer is heavy, and waits behind the light ones. */
export const LIGHT_MS = 1;
/** The time in one turn for reads of heavy connections. */
const HEAVY_TURN_MS = 4;
/** The time in one turn for all reads: usual ones, of hundreds of answers at a time, don't wait for each other. */
const TURN_MS = 50;
/** Shorter reads do not begin a count until there are `UNCOUNTED_READS` of them: a few of them need no bookkeeping. */
const UNCOUNTED_MS = 0.2;
const UNCOUNTED_READS = 16;
/** How many waiting connections continue in one turn; each heavy one gets a slice of time (`parser-feed.ts`). */
const HEAVY_A_TURN = 2;
const LIGHT_A_TURN = 16;

/** An object rather than a function, which V8 would keep until the next major collection (`llm/shared/short-lived.ts`). */
export interface Reader {
  goOn(): void;
}

class ReadTurns {
  private spentMs = 0;
  private heavyMs = 0;
  private reads = 0;
  /** A callback for the next turn is scheduled. */
  private isCounting = false;
  private readonly light = new Set<Reader>();
  private readonly heavy = new Set<Reader>();
  private readonly later: (run: () => void) => void;

  /** @param later runs the given function in another turn */
  constructor(later: (run: () => void) => void = setImmediate) {
    this.later = later;
  }

  /** Whether this turn has time for another read. */
  get hasTime(): boolean {
    return this.heavyMs < HEAVY_TURN_MS && this.spentMs < TURN_MS;
  }

  /**
   * Counts a read that took `ms`.
   *
   * @param isHeavy the connection's read before took long, too: a single long read may be a garbage collection
   */
  spend(ms: number, isHeavy: boolean): void {
    if (!this.isCounting) {
      if (ms < UNCOUNTED_MS && ++this.reads < UNCOUNTED_READS) return;
      this.count();
    }
    this.spentMs += ms;
    if (isHeavy) this.heavyMs += ms;
  }

  /** Calls the reader's `goOn`, once, in another turn. @param isLight its last read took less than {@link LIGHT_MS} */
  wait(reader: Reader, isLight: boolean): void {
    if (isLight) this.light.add(reader);
    else this.heavy.add(reader);
    if (!this.isCounting) this.count();
  }

  private count(): void {
    this.isCounting = true;
    this.reads = 0;
    this.later(this.next);
  }

  private readonly next = (): void => {
    this.spentMs = 0;
    this.heavyMs = 0;
    this.isCounting = false;
    release(this.light, LIGHT_A_TURN);
    release(this.heavy, HEAVY_A_TURN);
    if (this.light.size + this.heavy.size > 0 && !this.isCounting) this.count();
  };
}

function release(waiting: Set<Reader>, count: number): void {
  for (const reader of waiting) {
    if (count-- === 0) return;
    waiting.delete(reader);
    reader.goOn();
  }
}

/** One for the process, which has one event loop. */
export const readTurns = new ReadTurns();
