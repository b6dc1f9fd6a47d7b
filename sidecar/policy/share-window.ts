/**
 * How many of the latest events were marked: failures among calls, retries among calls. Pure; the time comes in, in
 * milliseconds that never go back.
 *
 *     bucket   …  41  42  43  44  45  46  47  48  49  50
 *     total        3   2   0   4   3   1   2   3   2   1   ◀── now
 *     marked       0   0   0   1   0   0   2   3   2   1
 *                      └───────── one window ──────────┘
 *         └── with thin traffic: further back, until enough events are in it
 *
 * A window of fixed length holds ten calls at one call a second, and three with slow agents: too few for a meaningful
 * share. So it extends back until it holds `minTotal` events, but never further than {@link MAX_WINDOWS} windows: older
 * events say nothing about now.
 */

/** At worst a window is one bucket too short, when the current bucket has just begun. */
const BUCKETS_PER_WINDOW = 10;
/** With a window of 10 s, a minute. One call every three seconds still gives 20 calls. */
const MAX_WINDOWS = 6;
const BUCKETS = BUCKETS_PER_WINDOW * MAX_WINDOWS;

export class ShareWindow {
  readonly windowMs: number;
  private readonly bucketMs: number;
  private readonly totals = new Uint32Array(BUCKETS);
  private readonly markedByBucket = new Uint32Array(BUCKETS);
  /** The number of the newest bucket since time 0. */
  private newest = 0;
  /** The result of the last `count`. */
  total = 0;
  marked = 0;
  /** How far back the last `count` went, in milliseconds. */
  spanMs = 0;

  constructor(windowMs: number) {
    if (!(windowMs > 0))
      throw new RangeError(`the window is ${windowMs} ms long; give a number of milliseconds above 0`);
    this.windowMs = windowMs;
    this.bucketMs = windowMs / BUCKETS_PER_WINDOW;
  }

  add(nowMs: number): void {
    this.totals[this.slot(nowMs)]!++;
  }

  addMarked(nowMs: number): void {
    const slot = this.slot(nowMs);
    this.totals[slot]!++;
    this.markedByBucket[slot]!++;
  }

  /** Marks an event that was added before. */
  mark(nowMs: number): void {
    this.markedByBucket[this.slot(nowMs)]!++;
  }

  /** Takes back an unmarked event that was added at `atMs`; does nothing when that is too long ago. */
  takeBack(atMs: number, nowMs: number): void {
    this.slot(nowMs);
    const bucket = Math.floor(atMs / this.bucketMs);
    if (bucket <= this.newest - BUCKETS || bucket > this.newest) return;
    const slot = bucket % BUCKETS;
    if (this.totals[slot]! > this.markedByBucket[slot]!) this.totals[slot]!--;
  }

  /** Counts the events of one window, and of further buckets while there are fewer than `minTotal` events. */
  count(nowMs: number, minTotal: number): void {
    this.slot(nowMs);
    this.total = 0;
    this.marked = 0;
    let buckets = 0;
    while (buckets < BUCKETS && (buckets < BUCKETS_PER_WINDOW || this.total < minTotal)) {
      if (buckets > this.newest) break;
      const slot = (this.newest - buckets) % BUCKETS;
      this.total += this.totals[slot]!;
      this.marked += this.markedByBucket[slot]!;
      buckets++;
    }
    this.spanMs = buckets * this.bucketMs;
  }

  /** The number of marked events in the current bucket, a tenth of the window or less. */
  markedNow(nowMs: number): number {
    return this.markedByBucket[this.slot(nowMs)]!;
  }

  clear(): void {
    this.totals.fill(0);
    this.markedByBucket.fill(0);
  }

  /** The current slot; clears the slots of the time since the last event. */
  private slot(nowMs: number): number {
    const bucket = Math.floor(nowMs / this.bucketMs);
    const newest = this.newest;
    if (bucket > newest) {
      const passed = Math.min(bucket - newest, BUCKETS);
      for (let i = 1; i <= passed; i++) {
        const slot = (newest + i) % BUCKETS;
        this.totals[slot] = 0;
        this.markedByBucket[slot] = 0;
      }
      this.newest = bucket;
    }
    return this.newest % BUCKETS;
  }
}
