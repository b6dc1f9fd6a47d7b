/**
 * A token bucket for each caller. Pure; the time comes in, in milliseconds that never go back.
 *
 * A bucket is one number, the time at which it will be full again (the "theoretical arrival time" of the generic cell
 * rate algorithm, ITU-T I.371): a time in the past means that it is full now. No bucket needs refilling, and a caller
 * that was quiet for long enough needs no entry.
 *
 *     full at     now                     now + burst × interval
 *      ──┼─────────┼──────────────────────────┼────▶ time
 *        │ full    │ so much of it is used    │ empty: refused until a token is there
 *
 * The limiter remembers at most `maxCallers`, those that called last. It forgets a caller only when its bucket is full,
 * or a caller could have its own bucket forgotten by inventing names; when none can be forgotten, new callers share one
 * bucket.
 */
import type { RateLimitSettings } from './admission-settings.ts';

/** `callsPerSecond` is above 0: a listener without the limit has no limiter. */
export interface RateLimits extends RateLimitSettings {
  /** 10,000 callers take about a megabyte and a half. */
  readonly maxCallers: number;
}

/** Longer names are compared by their first characters: they come from certificates or addresses. */
const MAX_NAME_LENGTH = 256;
const MAX_PUSHBACK_MS = 60_000;

class Bucket {
  readonly caller: string;
  fullAtMs = Number.NEGATIVE_INFINITY;
  older: Bucket | undefined = undefined;
  newer: Bucket | undefined = undefined;

  constructor(caller: string) {
    this.caller = caller;
  }
}

export class RateLimiter {
  private currentSettings: RateLimits;
  private readonly buckets = new Map<string, Bucket>();
  /** The bucket of callers for which there is no room. */
  private readonly shared = new Bucket('');
  private oldest: Bucket | undefined = undefined;
  private newest: Bucket | undefined = undefined;

  constructor(settings: RateLimits) {
    this.currentSettings = checked(settings);
  }

  get callers(): number {
    return this.buckets.size;
  }

  get settings(): RateLimits {
    return this.currentSettings;
  }

  /** New limits apply at once; what was used stays used. */
  set settings(settings: RateLimits) {
    this.currentSettings = checked(settings);
  }

  /**
   * Takes `cost` tokens for a call of `caller` and returns 0; or takes none and returns in how many milliseconds, at
   * most a minute, there will be enough. A cost above the burst needs a full bucket.
   */
  take(caller: string, nowMs: number, cost = 1): number {
    const { callsPerSecond, burst } = this.currentSettings;
    const intervalMs = 1000 / callsPerSecond;
    const bucket = this.bucketOf(caller, nowMs);
    const fullAtMs = Math.max(bucket.fullAtMs, nowMs) + cost * intervalMs;
    const excessMs = fullAtMs - nowMs - Math.max(burst, cost) * intervalMs;
    // The sums of intervals may be off by a thousandth of a millisecond.
    if (excessMs > 1e-3) return Math.min(Math.ceil(excessMs), MAX_PUSHBACK_MS);
    bucket.fullAtMs = fullAtMs;
    return 0;
  }

  private bucketOf(name: string, nowMs: number): Bucket {
    const caller = name.length > MAX_NAME_LENGTH ? name.slice(0, MAX_NAME_LENGTH) : name;
    let bucket = this.buckets.get(caller);
    if (bucket !== undefined) {
      if (bucket !== this.newest) {
        this.unlink(bucket);
        this.append(bucket);
      }
      return bucket;
    }
    while (this.buckets.size >= this.currentSettings.maxCallers) {
      const oldest = this.oldest;
      if (oldest === undefined || oldest.fullAtMs > nowMs) return this.shared;
      this.buckets.delete(oldest.caller);
      this.unlink(oldest);
    }
    bucket = new Bucket(caller);
    this.buckets.set(caller, bucket);
    this.append(bucket);
    return bucket;
  }

  private append(bucket: Bucket): void {
    bucket.older = this.newest;
    if (this.newest === undefined) this.oldest = bucket;
    else this.newest.newer = bucket;
    this.newest = bucket;
  }

  private unlink(bucket: Bucket): void {
    const { older, newer } = bucket;
    if (older === undefined) this.oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.newest = older;
    else newer.older = older;
    bucket.older = undefined;
    bucket.newer = undefined;
  }
}

function checked(settings: RateLimits): RateLimits {
  const { callsPerSecond, burst, maxCallers } = settings;
  if (!(callsPerSecond > 0))
    throw new RangeError(`callsPerSecond is ${callsPerSecond}; give a number above 0`);
  if (!(burst >= 1)) throw new RangeError(`burst is ${burst}; give 1 or more`);
  if (!(maxCallers >= 0)) throw new RangeError(`maxCallers is ${maxCallers}; give 0 or more`);
  return settings;
}
