/**
 * The duration histograms of one page, checked: a histogram whose bounds or counts can't be those of a sidecar makes the whole
 * page wrong, because a quantile of it would be any number. Pure.
 */
import { hash } from 'node:crypto';
import { PageError } from './page-error.ts';
import { numberOf } from './page-series.ts';

/** A cumulative histogram: the counts of calls up to each bound. Bounds rise, to infinity, and counts never fall with them. */
export type Buckets = ReadonlyMap<number, number>;

/** Of the agent's durations these are none: they say how long somebody looked. */
const NO_WORK = /^(grpc\.health\.v1\.Health|grpc\.reflection\.[\w.]+|outrigger\.v1\.Tasks)\/|\/HealthCheck$/;
/** A page names methods that callers have invented; so many series are read, of so many buckets in all. */
export const MAX_SERIES = 512;
export const MAX_BUCKETS = 8_192;
/** A longer name is kept as its hash. */
export const MAX_NAME_CHARS = 256;
/** A sidecar has 25. */
const MAX_BOUNDS = 256;
/** A year: no call takes longer. */
const MAX_BOUND_SECONDS = 31_536_000;

export class PageDurations {
  private readonly series = new Map<string, Map<number, number>>();
  private bucketCount = 0;

  /** The histogram that a line with these labels belongs to; undefined when it is not read. */
  of(labels: ReadonlyMap<string, string>): Map<number, number> | undefined {
    const method = labels.get('rpc_method') ?? '';
    if (NO_WORK.test(method)) return undefined;
    // Series that differ in other labels only are one.
    const name = `${method}\n${labels.get('rpc_status_code') ?? ''}`;
    const key = name.length > MAX_NAME_CHARS ? hash('sha256', name) : name;
    const known = this.series.get(key);
    if (known !== undefined) return known;
    // One that is begun is read to its end.
    if (this.series.size >= MAX_SERIES || this.bucketCount > MAX_BUCKETS - MAX_BOUNDS) return undefined;
    const buckets = new Map<number, number>();
    // Copied, because a part of a string keeps the whole of it.
    this.series.set(Buffer.from(key).toString(), buckets);
    return buckets;
  }

  /** @throws PageError */
  add(buckets: Map<number, number>, le: string, count: number): void {
    const bound = numberOf(le);
    if (!(bound > 0 && (bound <= MAX_BOUND_SECONDS || bound === Number.POSITIVE_INFINITY)))
      throw new PageError('a bound of a histogram is no number of seconds above 0');
    const before = buckets.get(bound);
    buckets.set(bound, (before ?? 0) + count);
    if (before !== undefined) return;
    if (buckets.size > MAX_BOUNDS) throw new PageError(`a histogram has more than ${MAX_BOUNDS} bounds`);
    if (++this.bucketCount > MAX_BUCKETS)
      throw new PageError(`its histograms have more than ${MAX_BUCKETS} buckets`);
  }

  /**
   * The histograms, their bounds in rising order.
   *
   * @throws PageError
   */
  checked(): ReadonlyMap<string, Buckets> {
    const all = new Map<string, Buckets>();
    let bounds = '';
    for (const [key, unordered] of this.series) {
      const buckets = new Map([...unordered].sort(([one], [other]) => one - other));
      const own = [...buckets.keys()].join();
      if (bounds === '') bounds = own;
      if (own !== bounds) throw new PageError('its histograms have different bounds');
      checkCounts(buckets);
      all.set(key, buckets);
    }
    return all;
  }
}

function checkCounts(buckets: Buckets): void {
  if (!buckets.has(Number.POSITIVE_INFINITY)) throw new PageError('a histogram lacks the bound +Inf');
  if (buckets.size < 2) throw new PageError('a histogram has no bound but +Inf');
  let below = 0;
  for (const count of buckets.values()) {
    if (count < below)
      throw new PageError('a histogram counts fewer calls up to a bound than up to a lower one');
    below = count;
  }
}
