/**
 * Percentiles of a method's recent latencies in bounded memory. A histogram whose buckets grow by 9 % gives figures
 * that are at most that much too high, from a quarter of a millisecond to over an hour in 1.5 kB. Pure.
 *
 *     previous minute ─┐
 *                      ├──▶ percentile
 *     this minute ─────┘
 *
 * When a minute is over and has enough answers of its own, it becomes the previous one. Until then the older figures
 * stay: an agent's usual latency does not change because no call arrives.
 */

const BUCKETS_PER_OCTAVE = 8;
const SHORTEST_MS = 0.25;
const OCTAVES = 24;
const BUCKETS = BUCKETS_PER_OCTAVE * OCTAVES;
const PERIOD_MS = 60_000;
/** With fewer answers the 95th percentile is the slowest one, which may have any value. */
const MIN_ANSWERS = 20;

export class LatencyPercentiles {
  private current = new Uint32Array(BUCKETS);
  private previous = new Uint32Array(BUCKETS);
  private currentCount = 0;
  private previousCount = 0;
  private startedAtMs = Number.NEGATIVE_INFINITY;

  /** The number of answers that the percentiles are computed from. */
  get count(): number {
    return this.currentCount + this.previousCount;
  }

  /**
   * Counts an answer: milliseconds from the attempt's start to its first message, for attempts with a verdict of
   * success. Don't count immediate failures and time-outs.
   */
  record(latencyMs: number, nowMs: number): void {
    if (nowMs - this.startedAtMs >= PERIOD_MS && (this.currentCount >= MIN_ANSWERS || this.count === 0))
      this.turnOver(nowMs);
    this.current[bucketOf(latencyMs)]!++;
    this.currentCount++;
  }

  private turnOver(nowMs: number): void {
    const emptied = this.previous;
    emptied.fill(0);
    this.previous = this.current;
    this.previousCount = this.currentCount;
    this.current = emptied;
    this.currentCount = 0;
    this.startedAtMs = nowMs;
  }

  /**
   * The time that `percent` of the answers stayed within, in milliseconds, up to 9 % too high; 0 when there are too few
   * answers.
   *
   * @param percent above 0, up to 100
   */
  at(percent: number): number {
    const { count } = this;
    if (count < MIN_ANSWERS) return 0;
    let left = Math.ceil((count * percent) / 100);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.current[bucket]! + this.previous[bucket]!;
      if (left <= 0) return upperEdgeMs(bucket);
    }
    return upperEdgeMs(BUCKETS - 1);
  }
}

function bucketOf(latencyMs: number): number {
  if (!(latencyMs > SHORTEST_MS)) return 0;
  const bucket = Math.floor(Math.log2(latencyMs / SHORTEST_MS) * BUCKETS_PER_OCTAVE);
  return Math.min(bucket, BUCKETS - 1);
}

function upperEdgeMs(bucket: number): number {
  return SHORTEST_MS * 2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE);
}
