/** The layout of a histogram's numbers in one array. */
import { type Durations, NATIVE_FIRST, NATIVE_LAST } from '../../telemetry/durations.ts';

/** The places of a histogram's numbers in an array: counts by bucket, their sum in seconds, and the native counts. */
export class HistogramLayout {
  readonly bounds: readonly number[];
  /** With a decimal point in all formats, as OpenMetrics requires: a series keeps its identity across formats. */
  readonly le: readonly string[];
  readonly sum: number;
  readonly zeros: number;
  /** The place of the native bucket with index 0. */
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
      // The buckets at either end may have indices that are never used.
      if (native[i]! > 0) totals[this.native + nativeFrom + i]! += native[i]!;
    }
  }
}

function decimal(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}
