/**
 * The traffic of the last sixty seconds, from counters that exist anyway: rates, and percentiles of the last minute's
 * durations. Pure: its owner calls `sample` about once a second, and a call costs nothing.
 */
import type { CallStats } from './call-stats.ts';
import { DURATION_BUCKETS, type Durations } from './durations.ts';

/** Slots of one series: a minute of seconds, and one slot before them to subtract from. */
const SLOTS = 61;
const BUCKETS = DURATION_BUCKETS.length + 1;
/** The current rate is the mean of this many seconds: single seconds fluctuate. */
const RATE_SECONDS = 5;
/** Clusters beyond this number are counted but not drawn. */
const MAX_SERIES = 64;

/** The counters of one source at one moment. */
export interface TrafficSource {
  readonly name: string;
  /** All calls so far. */
  readonly calls: number;
  readonly ok: number;
  readonly errors: number;
  readonly refused: number;
  /** The sources of their durations. */
  readonly durations: readonly CallStats[];
  /** Durations with other buckets, instead of those: of the requests to models. */
  readonly timed?: { readonly bounds: readonly number[]; readonly durations: Iterable<Durations> };
}

/** Percentiles in milliseconds; null without a call. A value in the highest bucket is its lower bound. */
interface LatencyReport {
  readonly calls: number;
  readonly p50_ms: number | null;
  readonly p90_ms: number | null;
  readonly p95_ms: number | null;
  readonly p99_ms: number | null;
}

export interface TrafficReport {
  readonly calls_per_s: number;
  readonly errors_per_s: number;
  readonly refused_per_s: number;
  /** Of the same seconds as the rates; see {@link successOf}. */
  readonly success: number | null;
  readonly last_minute: LatencyReport & {
    readonly errors: number;
    readonly refused: number;
    readonly success: number | null;
  };
  /** One number a second, oldest first, up to sixty. */
  readonly calls: readonly number[];
  readonly errors: readonly number[];
}

class Series {
  readonly calls = new Float64Array(SLOTS);
  readonly ok = new Float64Array(SLOTS);
  readonly errors = new Float64Array(SLOTS);
  readonly refused = new Float64Array(SLOTS);
  readonly buckets = new Float64Array(SLOTS * BUCKETS);
  /** The upper bounds of its buckets; at most as many as there are bounds of calls. */
  readonly bounds: readonly number[];
  /** The number of filled slots. */
  filled = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
  }
}

export class TrafficHistory {
  private readonly atMs = new Float64Array(SLOTS);
  private readonly series = new Map<string, Series>();
  private slot = -1;

  sample(sources: Iterable<TrafficSource>, nowMs: number): void {
    this.slot = (this.slot + 1) % SLOTS;
    this.atMs[this.slot] = nowMs;
    const unseen = new Set(this.series.keys());
    for (const source of sources) {
      unseen.delete(source.name);
      this.add(source);
    }
    // A reload has removed these clusters.
    for (const name of unseen) this.series.delete(name);
  }

  private add({ name, calls, ok, errors, refused, durations, timed }: TrafficSource): void {
    let series = this.series.get(name);
    const at = this.slot;
    const before = (at + SLOTS - 1) % SLOTS;
    // A smaller count means another cluster of the same name.
    if (series === undefined || calls < series.calls[before]!) {
      if (series === undefined && this.series.size >= MAX_SERIES) return;
      series = new Series(timed?.bounds ?? DURATION_BUCKETS);
      this.series.set(name, series);
    }
    series.calls[at] = calls;
    series.ok[at] = ok;
    series.errors[at] = errors;
    series.refused[at] = refused;
    const into = series.buckets.subarray(at * BUCKETS, (at + 1) * BUCKETS).fill(0);
    for (const one of timed?.durations ?? durationsOf(durations)) addBuckets(one, into);
    series.filled = Math.min(series.filled + 1, SLOTS);
  }

  /** Undefined before the second sample. */
  report(name: string): TrafficReport | undefined {
    const series = this.series.get(name);
    if (series === undefined || series.filled < 2) return undefined;
    const oldest = this.back(series.filled - 1);
    const recent = this.back(Math.min(series.filled - 1, RATE_SECONDS));
    const seconds = Math.max((this.atMs[this.slot]! - this.atMs[recent]!) / 1000, 0.001);
    const per = (counts: Float64Array) => (counts[this.slot]! - counts[recent]!) / seconds;
    const minute = grown(series, this.slot, oldest);
    const latency = percentiles(series, this.slot, oldest);
    return {
      calls_per_s: hundredths(per(series.calls)),
      errors_per_s: hundredths(per(series.errors)),
      refused_per_s: hundredths(per(series.refused)),
      success: successOf(grown(series, this.slot, recent)),
      last_minute: {
        ...latency,
        errors: minute.errors,
        refused: minute.refused,
        success: successOf(minute),
      },
      calls: this.steps(series.calls, series.filled),
      errors: this.steps(series.errors, series.filled),
    };
  }

  /** What a series counted in the latest samples; undefined before it has as many. */
  lately(
    name: string,
    samples: number,
  ): { calls: number; errors: number; success: number | null; p95_ms: number | null } | undefined {
    const series = this.series.get(name);
    if (series === undefined || series.filled <= samples) return undefined;
    const before = this.back(samples);
    return {
      calls: series.calls[this.slot]! - series.calls[before]!,
      errors: series.errors[this.slot]! - series.errors[before]!,
      success: successOf(grown(series, this.slot, before)),
      p95_ms: percentiles(series, this.slot, before).p95_ms,
    };
  }

  /** The slot this many samples ago. */
  private back(samples: number): number {
    return (this.slot + SLOTS - samples) % SLOTS;
  }

  /** The rate per second between each two samples; a late sample covers more than a second. */
  private steps(counts: Float64Array, filled: number): number[] {
    const steps: number[] = [];
    for (let ago = filled - 2; ago >= 0; ago--) {
      const [to, from] = [this.back(ago), this.back(ago + 1)];
      const seconds = Math.max((this.atMs[to]! - this.atMs[from]!) / 1000, 0.1);
      steps.push(tenths((counts[to]! - counts[from]!) / seconds));
    }
    return steps;
  }
}

function* durationsOf(sources: readonly CallStats[]): Generator<Durations> {
  for (const { methods } of sources)
    for (const { byStatus } of methods.values()) for (const one of byStatus) if (one !== undefined) yield one;
}

function addBuckets({ buckets }: Durations, into: Float64Array): void {
  for (let i = 0; i < buckets.length; i++) into[i]! += buckets[i]!;
}

/** How calls ended; those that their caller spoiled or left are in none of these. */
interface Ends {
  readonly ok: number;
  readonly errors: number;
  readonly refused: number;
}

/** The share of OK among the calls that ended with OK, failed or were refused, not rounded up to 1; null without one. */
function successOf({ ok, errors, refused }: Ends): number | null {
  const judged = ok + errors + refused;
  return judged <= 0 ? null : Math.floor((ok / judged) * 10_000) / 10_000;
}

/** How the calls between two slots ended. */
function grown({ ok, errors, refused }: Series, newest: number, oldest: number): Ends {
  return {
    ok: ok[newest]! - ok[oldest]!,
    errors: errors[newest]! - errors[oldest]!,
    refused: refused[newest]! - refused[oldest]!,
  };
}

/** Counts calls, and how they ended, over all methods. */
export function countCalls(
  stats: CallStats,
  endOf: (status: number) => 'ok' | 'failed' | 'refused' | 'by_caller',
) {
  const counts = { ok: 0, failed: 0, refused: 0, by_caller: 0 };
  for (const { byStatus } of stats.methods.values()) {
    byStatus.forEach((durations, status) => {
      if (durations !== undefined) counts[endOf(status)] += durations.count;
    });
  }
  const { ok, failed: errors, refused, by_caller: others } = counts;
  return { calls: ok + errors + refused + others, ok, errors, refused };
}

/** Percentiles of the calls between two slots; calls count as evenly spread within each bucket. */
function percentiles({ buckets, bounds }: Series, newestSlot: number, oldestSlot: number): LatencyReport {
  const [newest, oldest] = [newestSlot * BUCKETS, oldestSlot * BUCKETS];
  let calls = 0;
  for (let i = 0; i < BUCKETS; i++) calls += buckets[newest + i]! - buckets[oldest + i]!;
  const at = (share: number): number | null => {
    if (calls <= 0) return null;
    let left = calls * share;
    for (let i = 0; i < BUCKETS; i++) {
      const inBucket = buckets[newest + i]! - buckets[oldest + i]!;
      if (inBucket <= 0 || left > inBucket) {
        left -= inBucket;
        continue;
      }
      const low = i === 0 ? 0 : bounds[i - 1]!;
      const high = bounds[i] ?? low;
      return tenths((low + (high - low) * (left / inBucket)) * 1000);
    }
    return tenths(bounds.at(-1)! * 1000);
  };
  return { calls, p50_ms: at(0.5), p90_ms: at(0.9), p95_ms: at(0.95), p99_ms: at(0.99) };
}

function tenths(value: number): number {
  return Math.round(value * 10) / 10;
}

function hundredths(value: number): number {
  return Math.round(value * 100) / 100;
}
