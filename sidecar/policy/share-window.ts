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
 * A window of fixed length holds ten calls when one comes each second, and three with slow agents: too few for a
 * share to mean anything. So it reaches back until it holds `minTotal` events, but never further than
 * {@link MAX_WINDOWS} windows: what was longer ago says nothing about now.
 */

/** A window is that much too short at worst: the bucket of now has just begun. */
const BUCKETS_PER_WINDOW = 10;
/** With a window of 10 s: a minute. One call each three seconds still makes 20 in it. */
const MAX_WINDOWS = 6;
const BUCKETS = BUCKETS_PER_WINDOW * MAX_WINDOWS;

export class ShareWindow {
  readonly windowMs: number;
  readonly #bucketMs: number;
  readonly #totals = new Uint32Array(BUCKETS);
  readonly #marked = new Uint32Array(BUCKETS);
  /** The number of the newest bucket since time 0. */
  #newest = 0;
  /** What the last `look` has found. */
  total = 0;
  marked = 0;
  /** How far back that reached, in milliseconds. */
  spanMs = 0;

  constructor(windowMs: number) {
    if (!(windowMs > 0))
      throw new RangeError(`the window is ${windowMs} ms long; give a number of milliseconds above 0`);
    this.windowMs = windowMs;
    this.#bucketMs = windowMs / BUCKETS_PER_WINDOW;
  }

  add(nowMs: number): void {
    this.#totals[this.#slot(nowMs)]!++;
  }

  addMarked(nowMs: number): void {
    const slot = this.#slot(nowMs);
    this.#totals[slot]!++;
    this.#marked[slot]!++;
  }

  /** Marks without adding: for what was added already. */
  mark(nowMs: number): void {
    this.#marked[this.#slot(nowMs)]!++;
  }

  /** Takes back an event that was added, unmarked, at `atMs`; nothing happens when that is too long ago. */
  takeBack(atMs: number, nowMs: number): void {
    this.#slot(nowMs);
    const bucket = Math.floor(atMs / this.#bucketMs);
    if (bucket <= this.#newest - BUCKETS || bucket > this.#newest) return;
    const slot = bucket % BUCKETS;
    if (this.#totals[slot]! > this.#marked[slot]!) this.#totals[slot]!--;
  }

  /** Counts one window back, and further as long as there are fewer than `minTotal` events. */
  look(nowMs: number, minTotal: number): void {
    this.#slot(nowMs);
    this.total = 0;
    this.marked = 0;
    let buckets = 0;
    while (buckets < BUCKETS && (buckets < BUCKETS_PER_WINDOW || this.total < minTotal)) {
      if (buckets > this.#newest) break;
      const slot = (this.#newest - buckets) % BUCKETS;
      this.total += this.#totals[slot]!;
      this.marked += this.#marked[slot]!;
      buckets++;
    }
    this.spanMs = buckets * this.#bucketMs;
  }

  /** What was marked in the bucket of now, a tenth of the window or less. */
  markedNow(nowMs: number): number {
    return this.#marked[this.#slot(nowMs)]!;
  }

  clear(): void {
    this.#totals.fill(0);
    this.#marked.fill(0);
  }

  /** The slot of now; those of the time that has passed since the last event are emptied. */
  #slot(nowMs: number): number {
    const bucket = Math.floor(nowMs / this.#bucketMs);
    const newest = this.#newest;
    if (bucket > newest) {
      const passed = Math.min(bucket - newest, BUCKETS);
      for (let i = 1; i <= passed; i++) {
        const slot = (newest + i) % BUCKETS;
        this.#totals[slot] = 0;
        this.#marked[slot] = 0;
      }
      this.#newest = bucket;
    }
    return this.#newest % BUCKETS;
  }
}
