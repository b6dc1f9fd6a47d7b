/**
 * Places that callers share: calls in flight, connections, watches. Pure.
 *
 * A caller may take another place while it holds fewer than 7 for each free place:
 *
 *     one caller alone that wants all     7/8 of them: an eighth stays free for a newcomer
 *     two that want all                   7/15 each
 *     n that want all                     7/(7n + 1) each
 *     one that wants few                  what it wants, and the others share the rest
 *
 * A caller never loses a place that it holds. When another caller arrives, a caller above its share takes no more
 * places until enough of its own are free: it gives way as its calls end. Some places always stay free, so that a
 * newcomer need not wait for that. Of fewer than eight places, a caller alone may have all.
 *
 * The rule is "dynamic thresholds" (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998), made for the
 * buffers of switches: it needs no list of callers, no clock, and no forecast of their demand.
 */

const PLACES_PER_FREE_ONE = 7;

/** The places of one kind that one caller holds. */
export class Holder {
  /** Only {@link FairPlaces} writes it. */
  held = 0;
}

export class FairPlaces {
  private currentLimit: number;
  /** The number of taken places. */
  used = 0;

  /** @param limit number of places; Infinity for no limit. Throws RangeError. */
  constructor(limit: number) {
    this.currentLimit = checked(limit);
  }

  get limit(): number {
    return this.currentLimit;
  }

  /** A lower limit takes no place away. Throws RangeError. */
  set limit(limit: number) {
    this.currentLimit = checked(limit);
  }

  /** Whether a caller may take another place now. */
  hasRoomFor(holder: Holder): boolean {
    const free = this.currentLimit - this.used;
    return free > 0 && holder.held < PLACES_PER_FREE_ONE * free;
  }

  /** If it returns true, pair it with `release`. */
  take(holder: Holder): boolean {
    if (!this.hasRoomFor(holder)) return false;
    holder.held++;
    this.used++;
    return true;
  }

  /** Moves a place from one caller to another. */
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
