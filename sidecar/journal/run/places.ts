/**
 * Counts equal requests of one run: which of them a request is. Pure.
 *
 *     take ──▶ taken ──its answer was delivered whole──▶ used: the next equal request is another question
 *      ▲         └── it was not ──▶ free ──┐
 *      └───────────────────────────────────┘  the lowest free number comes first
 *
 * A request whose answer did not arrive asks the same question when it comes again, and an error is no answer. So each run
 * counts the same, whatever was lost or refused in between.
 */

/** A run with more requests than this has no journal for those after them. */
const MAX_REQUESTS = 4_096;

interface Equal {
  next: number;
  readonly free: number[];
  /** Requests with the same `Idempotency-Key` ask the same question, also after its answer was delivered. */
  readonly byKey: Map<string, number>;
}

export class Places {
  private readonly byDigest = new Map<string, Equal>();
  private size = 0;

  /**
   * Returns the number of this request among equal ones, from 0; undefined when there are too many.
   *
   * @param key the request's `Idempotency-Key`; '' without one
   */
  take(digest: string, key: string): number | undefined {
    let equal = this.byDigest.get(digest);
    const known = key === '' ? undefined : equal?.byKey.get(key);
    if (known !== undefined) {
      remove(equal!.free, known);
      return known;
    }
    if (this.size >= MAX_REQUESTS) return undefined;
    if (equal === undefined) {
      equal = { next: 0, free: [], byKey: new Map() };
      this.byDigest.set(digest, equal);
    }
    let place = lowest(equal.free);
    if (place === undefined) {
      place = equal.next++;
      this.size++;
    }
    if (key !== '') equal.byKey.set(key, place);
    return place;
  }

  /** The answer was not delivered whole. */
  giveBack(digest: string, place: number): void {
    const free = this.byDigest.get(digest)?.free;
    if (free !== undefined && !free.includes(place)) free.push(place);
  }
}

function lowest(free: number[]): number | undefined {
  if (free.length === 0) return undefined;
  const place = Math.min(...free);
  remove(free, place);
  return place;
}

function remove(free: number[], place: number): void {
  const at = free.indexOf(place);
  if (at >= 0) free.splice(at, 1);
}
