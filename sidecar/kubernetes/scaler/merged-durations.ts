/**
 * Merges the duration histograms of many pods over a window. Counters that begin anew, pods that come and pods that vanish
 * are no matter: what counts is the growth of each pod's counters from one page to the next. Pure.
 */

import type { Buckets } from './page-durations.ts';
import { growthOf } from './page-growth.ts';
import type { PodPage } from './pod-page.ts';
import { type Bounds, covers, mergedAt } from './shared-bounds.ts';

/** What the counters of all pods grew by between two rounds of reading: one entry for each kind of bounds. */
interface Growth {
  readonly atMs: number;
  readonly calls: Map<string, Buckets>;
}

export interface WindowedCalls {
  /** The calls that ended within the window, at the wanted bounds. */
  readonly calls: Buckets;
  /** Whether others ended, of pods that have other bounds. */
  readonly hasOthers: boolean;
}

export class MergedDurations {
  private readonly keptMs: number;
  private growths: Growth[] = [];

  constructor(keptMs: number) {
    this.keptMs = keptMs;
  }

  /**
   * @param atMs the same for all pages of one round
   * @param before the page before this one, of the same pod; undefined for one that has counted from 0 since the last round
   * @param elapsedMs since the page before, or the last round
   * @throws PageError when the two pages contradict each other; nothing is added then
   */
  add(atMs: number, page: PodPage, before: PodPage | undefined, elapsedMs = Number.POSITIVE_INFINITY): void {
    const grown = growthOf(page, before, elapsedMs);
    if (grown.length === 0) return;
    let growth = this.growths.at(-1);
    if (growth?.atMs !== atMs) {
      growth = { atMs, calls: new Map() };
      this.growths = [...this.growths.filter((each) => each.atMs > atMs - this.keptMs), growth];
    }
    const bounds = [...grown[0]!.keys()];
    const kind = bounds.join();
    const counted = growth.calls.get(kind);
    growth.calls.set(kind, mergedAt(bounds, counted === undefined ? grown : [counted, ...grown]));
  }

  /** Whether any call ended within the window. */
  hasAny(windowMs: number, nowMs: number): boolean {
    return this.growths.some(({ atMs }) => atMs > nowMs - windowMs);
  }

  /** @param bounds undefined while no pod has counted any call */
  within(windowMs: number, nowMs: number, bounds: Bounds | undefined): WindowedCalls {
    const all: Buckets[] = [];
    for (const { atMs, calls } of this.growths) if (atMs > nowMs - windowMs) all.push(...calls.values());
    const wanted = bounds ?? [];
    return {
      calls: mergedAt(wanted, all),
      hasOthers: bounds === undefined ? all.length > 0 : all.some((calls) => !covers(calls, wanted)),
    };
  }
}

/**
 * The quantile, as Prometheus' histogram_quantile computes it: a value of the bucket that has it, or the last finite bound.
 * Undefined when there was no call.
 */
export function quantileOf(buckets: Buckets, quantile: number): number | undefined {
  const bounds = [...buckets.keys()].sort((one, other) => one - other);
  const total = buckets.get(Number.POSITIVE_INFINITY) ?? 0;
  if (total <= 0) return undefined;
  const rank = quantile * total;
  let lower = 0;
  let below = 0;
  for (const bound of bounds) {
    const count = buckets.get(bound)!;
    if (count >= rank && count > below) {
      if (bound === Number.POSITIVE_INFINITY) return lower;
      return lower + ((bound - lower) * (rank - below)) / (count - below);
    }
    if (bound !== Number.POSITIVE_INFINITY) lower = bound;
    below = count;
  }
  return lower;
}
