import { type Durations, NATIVE_FIRST, NATIVE_LAST } from './durations.ts';

/** Where the numbers of a histogram stand in an array: counts by bucket, their sum in seconds, and the native counts. */
export class HistogramLayout {
  readonly bounds: readonly number[];
  /** With a point, as OpenMetrics wants it, in all formats: a series is the same one whatever format it came in. */
  readonly le: readonly string[];
  readonly sum: number;
  readonly zeros: number;
  /** Of the native bucket with index 0. */
  readonly native: number;
  readonly width: number;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.le = [...bounds.map(decimal), '+Inf'];
    this.sum = this.le.length;
    this.zeros = this.sum + 1;
    this.native = this.zeros + 1 - NATIVE_FIRST;
    this.width = this.native + NATIVE_LAST + 1;
  }

  add(durations: Durations, totals: Float64Array): void {
    const { buckets, native, nativeFrom, sumSeconds, zeros } = durations;
    for (let i = 0; i < buckets.length; i++) totals[i]! += buckets[i]!;
    totals[this.sum]! += sumSeconds;
    totals[this.zeros]! += zeros;
    for (let i = 0; i < native.length; i++) {
      // Those at either end may stand for indices that are never used.
      if (native[i]! > 0) totals[this.native + nativeFrom + i]! += native[i]!;
    }
  }
}

function decimal(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}
