/**
 * Merges the duration histograms of many pods over a window. Counters that begin anew, pods that come and pods that vanish
 * are no matter: what counts is the growth of each pod's counters from one page to the next. Pure.
 */
import { type Buckets, isCumulative, type PodPage } from './pod-page.ts';

/** What the counters of all pods grew by between two rounds of reading. */
interface Growth {
  readonly atMs: number;
  calls: Buckets;
}

export class MergedDurations {
  private readonly keptMs: number;
  private growths: Growth[] = [];

  constructor(keptMs: number) {
    this.keptMs = keptMs;
  }

  /**
   * @param atMs the same for all pages of one round
   * @param before the page before this one, of the same pod; undefined for one that has counted from 0 since the last round
   */
  add(atMs: number, page: PodPage, before: PodPage | undefined): void {
    const isNew = before === undefined || page.startedAtSeconds !== before.startedAtSeconds;
    const grown: Buckets[] = [];
    for (const [series, buckets] of page.durations)
      grown.push(growthOf(buckets, isNew ? undefined : before.durations.get(series)) ?? NONE);
    const calls = merged(grown.filter(({ size }) => size > 0));
    if (calls.size === 0) return;
    const last = this.growths.at(-1);
    if (last?.atMs === atMs) last.calls = merged([last.calls, calls]);
    else
      this.growths = [...this.growths.filter((growth) => growth.atMs > atMs - this.keptMs), { atMs, calls }];
  }

  /** The calls that ended within the window. */
  within(windowMs: number, nowMs: number): Buckets {
    return merged(this.growths.filter(({ atMs }) => atMs > nowMs - windowMs).map(({ calls }) => calls));
  }
}

const NONE: Buckets = new Map();

/** Undefined when nothing was counted, or what no calls can have counted. A bound whose count fell shows that the counters have begun anew. */
function growthOf(now: Buckets, before: Buckets | undefined): Buckets | undefined {
  const base = before !== undefined && isGrown(now, before) ? before : undefined;
  const grown = new Map<number, number>();
  let most = 0;
  for (const [bound, count] of now) {
    const growth = count - (base?.get(bound) ?? 0);
    grown.set(bound, growth);
    most = Math.max(most, growth);
  }
  return most > 0 && isCumulative(grown, boundsOf(grown)) ? grown : undefined;
}

function isGrown(now: Buckets, before: Buckets): boolean {
  for (const [bound, count] of before) if ((now.get(bound) ?? -1) < count) return false;
  return true;
}

/**
 * Sums counts. Sidecars of other versions may have other bounds: the sum has all of them, and where one has no count for a
 * bound of another, its calls are spread evenly over the bucket around it. So no pod takes bounds from the others.
 */
export function merged(all: readonly Buckets[]): Buckets {
  const [first, ...others] = all;
  if (first === undefined) return NONE;
  if (others.every((other) => hasSameBounds(first, other))) {
    const sums = new Map(first);
    for (const buckets of others)
      for (const [bound, count] of buckets) sums.set(bound, sums.get(bound)! + count);
    return sums;
  }
  const bounds = [...new Set(all.flatMap((buckets) => [...buckets.keys()]))].sort(ascending);
  const sums = new Map(bounds.map((bound) => [bound, 0]));
  for (const buckets of all) addSpread(buckets, bounds, sums);
  return sums;
}

function hasSameBounds(one: Buckets, other: Buckets): boolean {
  if (one.size !== other.size) return false;
  for (const bound of one.keys()) if (!other.has(bound)) return false;
  return true;
}

/** Calls beyond the last finite bound are beyond all bounds: nobody knows how long they took. */
function addSpread(buckets: Buckets, bounds: readonly number[], sums: Map<number, number>): void {
  const own = boundsOf(buckets);
  let at = 0;
  let lower = 0;
  let below = 0;
  for (const bound of bounds) {
    while (at < own.length && own[at]! <= bound) {
      lower = own[at]!;
      below = buckets.get(lower)!;
      at++;
    }
    const upper = own[at] ?? Number.POSITIVE_INFINITY;
    const inside = (buckets.get(upper) ?? below) - below;
    const share = upper === Number.POSITIVE_INFINITY ? 0 : (bound - lower) / (upper - lower);
    sums.set(bound, sums.get(bound)! + below + inside * share);
  }
}

const ascending = (one: number, other: number): number => one - other;
const boundsOf = (buckets: Buckets): number[] => [...buckets.keys()].sort(ascending);

/**
 * The quantile, as Prometheus' histogram_quantile computes it: a value of the bucket that has it, or the last finite bound.
 * Undefined when there was no call, NaN when no bound tells.
 */
export function quantileOf(buckets: Buckets, quantile: number): number | undefined {
  const bounds = boundsOf(buckets);
  const total = buckets.get(Number.POSITIVE_INFINITY) ?? 0;
  if (total <= 0) return undefined;
  if (bounds.length === 1) return Number.NaN;
  const rank = quantile * total;
  let lower = 0;
  let below = 0;
  for (const bound of bounds) {
    const count = buckets.get(bound)!;
    if (count >= rank && count > below) {
      if (bound === Number.POSITIVE_INFINITY) return lower;
      return lower + ((bound - lower) * (rank - below)) / (count - below);
    }
    if (bound !== Number.POSITIVE_INFINITY) lower = bound;
    below = count;
  }
  return lower;
}
