// Counts durations in a fixed amount of memory, however many there are and however long they take.
//
// Log-linear buckets: each power of two of microseconds is cut into 128 equal parts, so that a value is known to
// within 0.8 %. Whole microseconds up to 256 have a bucket each.

const PARTS_BITS = 7;
const PARTS = 1 << PARTS_BITS;
/** Longer ones count as this, a little over an hour. */
const MOST_MICROSECONDS = 2 ** 32 - 1;
const BUCKETS = (32 - PARTS_BITS + 1) * PARTS;

function bucketOf(microseconds: number): number {
  const shift = Math.max(0, 31 - Math.clz32(microseconds) - PARTS_BITS);
  return shift * PARTS + (microseconds >>> shift);
}

/** The greatest value that the bucket holds. */
function upperEdge(bucket: number): number {
  const shift = Math.max(0, (bucket >> PARTS_BITS) - 1);
  return (bucket - shift * PARTS + 1) * 2 ** shift - 1;
}

/** Milliseconds; every field is undefined when nothing was counted. */
export interface Percentiles {
  count: number;
  mean?: number;
  min?: number;
  p50?: number;
  p75?: number;
  p90?: number;
  p95?: number;
  p99?: number;
  'p99.9'?: number;
  max?: number;
}

export class Histogram {
  count = 0;
  private readonly counts = new Uint32Array(BUCKETS);
  private sumMs = 0;
  private leastMs = Number.POSITIVE_INFINITY;
  private mostMs = 0;

  /** What is below zero (clocks are read in some order) counts as zero. */
  record(ms: number): void {
    const positive = ms > 0 ? ms : 0;
    this.counts[bucketOf(Math.min(MOST_MICROSECONDS, Math.round(positive * 1000)))]!++;
    this.count++;
    this.sumMs += positive;
    if (positive < this.leastMs) this.leastMs = positive;
    if (positive > this.mostMs) this.mostMs = positive;
  }

  /**
   * The least value that this share of all values does not exceed, in milliseconds: never less than the true one,
   * and at most 0.8 % more. Undefined when nothing was counted.
   *
   * @param percent 0 to 100
   */
  percentile(percent: number): number | undefined {
    if (this.count === 0) return undefined;
    const rank = Math.max(1, Math.ceil((percent / 100) * this.count - 1e-9));
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.counts[bucket]!;
      if (seen >= rank) return Math.min(this.mostMs, upperEdge(bucket) / 1000);
    }
    return this.mostMs;
  }

  get maxMs(): number | undefined {
    return this.count === 0 ? undefined : this.mostMs;
  }

  summary(): Percentiles {
    if (this.count === 0) return { count: 0 };
    const at = (percent: number): number => rounded(this.percentile(percent)!);
    return {
      count: this.count,
      mean: rounded(this.sumMs / this.count),
      min: rounded(this.leastMs),
      p50: at(50),
      p75: at(75),
      p90: at(90),
      p95: at(95),
      p99: at(99),
      'p99.9': at(99.9),
      max: rounded(this.mostMs),
    };
  }

  /** Points of the percentile curve: ever closer to 100 %, as far as there are values to tell. */
  curve(): [percent: number, ms: number][] {
    const points: [number, number][] = [];
    for (let nines = 0; nines <= 6; nines++) {
      for (const part of [0, 0.25, 0.5, 0.65, 0.8]) {
        const beyond = 10 ** -nines * (1 - part);
        if (beyond * this.count < 1) break;
        points.push([100 * (1 - beyond), rounded(this.percentile(100 * (1 - beyond))!)]);
      }
    }
    return points;
  }
}

/** To whole microseconds. */
export function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
