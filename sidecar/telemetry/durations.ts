/**
 * Durations as plain numbers: recording one costs a few additions. At each scrape, `admin/metrics/` turns them
 * into a Prometheus histogram with fixed bounds (classic) and exponential bounds (native).
 */

/**
 * Upper bounds in seconds. Up to 10 s they follow OpenTelemetry's RPC conventions for `rpc.*.call.duration`; they go
 * further for tasks of agents, which take minutes, and for streams, which may stay open for an hour.
 */
export const DURATION_BUCKETS: readonly number[] = [
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300,
  600, 1_800, 3_600,
];

/**
 * Up to 81.92 s these follow OpenTelemetry's conventions for generative AI; they go further because reasoning models
 * take minutes.
 */
export const LLM_BUCKETS: readonly number[] = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68,
  655.36, 1_310.72, 2_621.44, 5_242.88,
];

/**
 * Prometheus' schema of native histograms: 2^3 buckets for each power of two, so each bucket is 9 % wider than the one
 * before.
 */
export const NATIVE_SCHEMA = 3;
const STEPS = 2 ** NATIVE_SCHEMA;
/** Durations up to this number of seconds, about a microsecond, count as 0. */
export const NATIVE_ZERO_SECONDS = 2 ** -20;
/**
 * The bucket of index i holds durations above 2^((i - 1) / 8) s, up to 2^(i / 8) s. These are the first and the last
 * index.
 */
export const NATIVE_FIRST = -20 * STEPS + 1;
/** Up to 36 hours; the last bucket also holds longer durations. */
export const NATIVE_LAST = 17 * STEPS;

/** The latest traced call of a bucket. */
export interface Exemplar {
  traceId: string;
  seconds: number;
  /** Seconds since 1970. */
  atSeconds: number;
}

/** One histogram: counts per bucket, not cumulative; the last bucket holds everything above the bounds. */
export class Durations {
  readonly bounds: readonly number[];
  readonly buckets: Float64Array;
  sumSeconds = 0;
  count = 0;
  /** The durations that count as 0 in a native histogram. */
  zeros = 0;
  /** Counts of the native buckets from index `nativeFrom` on; the array grows as needed. */
  native: Float64Array = NOTHING;
  nativeFrom = 0;
  /** By the index of the bucket. Undefined until a traced call arrives. */
  exemplars: (Exemplar | undefined)[] | undefined = undefined;

  constructor(bounds = DURATION_BUCKETS) {
    this.bounds = bounds;
    this.buckets = new Float64Array(bounds.length + 1);
  }

  /** @param traceId 32 hexadecimal digits for a call whose spans are exported; '' for all others */
  record(seconds: number, traceId = ''): void {
    const { bounds } = this;
    let at = 0;
    while (at < bounds.length && seconds > bounds[at]!) at++;
    this.buckets[at]!++;
    this.sumSeconds += seconds;
    this.count++;
    if (seconds > NATIVE_ZERO_SECONDS) {
      let slot = Math.ceil(Math.log2(seconds) * STEPS) - this.nativeFrom;
      if (!(slot >= 0 && slot < this.native.length)) slot = this.reach(slot + this.nativeFrom);
      this.native[slot]!++;
    } else this.zeros++;
    if (traceId !== '') this.keepExemplar(at, seconds, traceId);
  }

  /**
   * Makes room for the bucket of this index. The array grows by a power of two at a time, because durations of one
   * method are similar.
   */
  private reach(index: number): number {
    const wanted = Math.min(Math.max(index, NATIVE_FIRST), NATIVE_LAST);
    const { native, nativeFrom } = this;
    const octave = Math.floor(wanted / STEPS) * STEPS;
    const from = native.length === 0 ? octave : Math.min(nativeFrom, octave);
    const to = native.length === 0 ? octave : Math.max(nativeFrom + native.length - STEPS, octave);
    if (native.length < to + STEPS - from) {
      this.native = new Float64Array(to + STEPS - from);
      this.native.set(native, native.length === 0 ? 0 : nativeFrom - from);
      this.nativeFrom = from;
    }
    return wanted - this.nativeFrom;
  }

  private keepExemplar(at: number, seconds: number, traceId: string): void {
    this.exemplars ??= new Array(this.buckets.length).fill(undefined);
    const exemplar = (this.exemplars[at] ??= { traceId, seconds, atSeconds: 0 });
    exemplar.traceId = traceId;
    exemplar.seconds = seconds;
    exemplar.atSeconds = Date.now() / 1000;
  }
}

const NOTHING = new Float64Array(0);
