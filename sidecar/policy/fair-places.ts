/**
 * Places that callers share: calls in flight, connections, watches. Pure.
 *
 * A caller may take another place while it holds fewer than 7 for each place that is free:
 *
 *     one caller alone that wants all     7/8 of them: an eighth stays free for whoever comes
 *     two that want all                   7/15 each
 *     n that want all                     7/(7n + 1) each
 *     one that wants few                  what it wants, and the others share the rest
 *
 * Nobody is turned out. When another caller comes, whoever holds more than its share takes no more places until enough of its
 * own have become free: it gives way as its calls end. What is left always keeps some free places, so that a newcomer need
 * not wait for that. Of fewer than eight places a caller alone may have all.
 *
 * This is "dynamic thresholds" (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998), made for the buffers of
 * switches: it needs no list of callers, no clock, and no guess of what they will ask for.
 */

const PLACES_PER_FREE_ONE = 7;

/** What one caller holds of one kind of places. */
export class Holder {
  /** Only {@link FairPlaces} writes it. */
  held = 0;
}

export class FairPlaces {
  #limit: number;
  /** Places that are taken. */
  used = 0;

  /** @param limit places in all; Infinity for no limit. Throws RangeError. */
  constructor(limit: number) {
    this.#limit = checked(limit);
  }

  get limit(): number {
    return this.#limit;
  }

  /** A lower limit turns nobody out. Throws RangeError. */
  set limit(limit: number) {
    this.#limit = checked(limit);
  }

  /** Whether a caller may take another place now. */
  hasRoomFor(holder: Holder): boolean {
    const free = this.#limit - this.used;
    return free > 0 && holder.held < PLACES_PER_FREE_ONE * free;
  }

  /** Must be paired with `release` if it answers true. */
  take(holder: Holder): boolean {
    if (!this.hasRoomFor(holder)) return false;
    holder.held++;
    this.used++;
    return true;
  }

  /** Another caller gets a place that one holds. */
  move(from: Holder, to: Holder): void {
    this.release(from);
    to.held++;
    this.used++;
  }

  /** Throws Error when the caller holds none. */
  release(holder: Holder): void {
    if (holder.held === 0)
      throw new Error('a place was given back twice; release once for each that was taken');
    holder.held--;
    this.used--;
  }
}

function checked(limit: number): number {
  if (!(limit >= 0)) throw new RangeError(`the limit is ${limit}; give a number, 0 or more`);
  return limit;
}
