/**
 * How long the answers of all providers are read in one turn of the event loop. A read of 64 KiB may hold ten thousand
 * chunks, events or interim answers, and everybody else waits while they are worked on. What it costs shows only by the
 * time it took, whatever it holds. Reads that find no time left wait for a later turn.
 */

/** A usual read takes less. A connection whose last read took longer waits behind those whose reads are light. */
export const LIGHT_MS = 1;
/** Of one turn, for the reads of connections that are not light. */
const HEAVY_TURN_MS = 4;
/** Of one turn, for all reads: usual ones, of hundreds of answers at a time, don't wait for each other. */
const TURN_MS = 50;
/** Reads that take less are counted only once a turn is counted at all: so few of them cost nothing beside. */
const UNCOUNTED_MS = 0.2;
const UNCOUNTED_READS = 16;
/** Who goes on in one turn: of the heavy ones as many as find time, each with a slice (`parser-feed.ts`). */
const HEAVY_A_TURN = 2;
const LIGHT_A_TURN = 16;

/** An object and no function, which V8 would keep until the next large collection (`llm/shared/short-lived.ts`). */
export interface Reader {
  goOn(): void;
}

class ReadTurns {
  #spentMs = 0;
  #heavyMs = 0;
  #reads = 0;
  /** The end of the turn is waited for. */
  #isCounting = false;
  readonly #light = new Set<Reader>();
  readonly #heavy = new Set<Reader>();
  readonly #later: (run: () => void) => void;

  /** @param later runs what it is given in another turn */
  constructor(later: (run: () => void) => void = setImmediate) {
    this.#later = later;
  }

  /** This turn has time for another read. */
  get hasTime(): boolean {
    return this.#heavyMs < HEAVY_TURN_MS && this.#spentMs < TURN_MS;
  }

  /** A read took so long. @param isHeavy the one before it on its connection, too: a single one may be a collection's */
  spend(ms: number, isHeavy: boolean): void {
    if (!this.#isCounting) {
      if (ms < UNCOUNTED_MS && ++this.#reads < UNCOUNTED_READS) return;
      this.#count();
    }
    this.#spentMs += ms;
    if (isHeavy) this.#heavyMs += ms;
  }

  /** Calls its `goOn`, once, in another turn. @param isLight its last read took less than {@link LIGHT_MS} */
  wait(reader: Reader, isLight: boolean): void {
    if (isLight) this.#light.add(reader);
    else this.#heavy.add(reader);
    if (!this.#isCounting) this.#count();
  }

  #count(): void {
    this.#isCounting = true;
    this.#reads = 0;
    this.#later(this.#next);
  }

  readonly #next = (): void => {
    this.#spentMs = 0;
    this.#heavyMs = 0;
    this.#isCounting = false;
    release(this.#light, LIGHT_A_TURN);
    release(this.#heavy, HEAVY_A_TURN);
    if (this.#light.size + this.#heavy.size > 0 && !this.#isCounting) this.#count();
  };
}

function release(waiting: Set<Reader>, count: number): void {
  for (const reader of waiting) {
    if (count-- === 0) return;
    waiting.delete(reader);
    reader.goOn();
  }
}

/** Of the process: there is one event loop. */
export const readTurns = new ReadTurns();
