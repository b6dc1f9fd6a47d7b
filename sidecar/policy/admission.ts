/** Who may come in. */

/**
 * At most `max` calls at once. The call that got in must release once; what could not get in is answered
 * RESOURCE_EXHAUSTED `overloaded`, never queued: a queue in front of a full agent only makes its callers time out.
 */
export class ConcurrencyLimit {
  #max: number;
  #active = 0;

  constructor(max: number) {
    this.#max = checked(max);
  }

  get active(): number {
    return this.#active;
  }

  get max(): number {
    return this.#max;
  }

  /** A lower limit (a reload) turns nobody out; it lets no one in until enough have left. */
  set max(max: number) {
    this.#max = checked(max);
  }

  tryAcquire(): boolean {
    if (this.#active >= this.#max) return false;
    this.#active++;
    return true;
  }

  /** Throws when more is released than was acquired, which would quietly lift the limit. */
  release(): void {
    if (this.#active === 0)
      throw new Error('a call was released twice; release once for each tryAcquire() that was true');
    this.#active--;
  }
}

function checked(max: number): number {
  if (max >= 0) return max;
  throw new RangeError(`the limit on concurrent calls is ${max}; give a number, 0 or more`);
}
