/**
 * The bounds at which the histograms of many pods are merged. Each pod has one vote, so that a few pods with odd bounds decide
 * nothing: a pod that lacks one of the chosen bounds is left out, and one that has more of them is exact at those. Pure.
 */
import type { Buckets } from './page-durations.ts';
import type { PodPage } from './pod-page.ts';

/** Few versions run at a time. With more ties nobody agrees, and any choice is as good. */
const MAX_TIES = 16;

/** In rising order, infinity last. */
export type Bounds = readonly number[];

/** Undefined of a page that has counted no call; all series of a page have the same bounds. */
export function boundsOf({ durations }: PodPage): Bounds | undefined {
  for (const buckets of durations.values()) return [...buckets.keys()];
  return undefined;
}

/** Whether counts by these bounds tell the counts at the wanted ones. */
export function covers(bounds: { has(bound: number): boolean }, wanted: Bounds): boolean {
  return wanted.every((bound) => bounds.has(bound));
}

/**
 * The bounds that most pods have. Of two that equally many have: the present ones, then those that more pods can tell, then
 * those with more bounds. The present ones without a vote.
 */
export function chosenBounds(votes: readonly Bounds[], present?: Bounds): Bounds | undefined {
  const candidates = new Map<string, { readonly bounds: Bounds; readonly has: Set<number>; votes: number }>();
  for (const bounds of votes) {
    const key = bounds.join();
    const candidate = candidates.get(key) ?? { bounds, has: new Set(bounds), votes: 0 };
    candidate.votes++;
    candidates.set(key, candidate);
  }
  const all = [...candidates.values()];
  const most = Math.max(...all.map((each) => each.votes));
  const tied = all.filter((each) => each.votes === most);
  const kept = present && candidates.get(present.join());
  if (kept?.votes === most) return kept.bounds;
  let best: Bounds | undefined;
  let bestTold = 0;
  for (const { bounds } of tied.slice(0, MAX_TIES)) {
    let told = 0;
    for (const each of all) if (covers(each.has, bounds)) told += each.votes;
    if (best !== undefined && (told < bestTold || (told === bestTold && bounds.length <= best.length)))
      continue;
    best = bounds;
    bestTold = told;
  }
  return best ?? present;
}

/** Sums the counts of those that tell the counts at these bounds. */
export function mergedAt(bounds: Bounds, all: readonly Buckets[]): Buckets {
  const sums = new Map<number, number>();
  for (const buckets of all) {
    if (!covers(buckets, bounds)) continue;
    for (const bound of bounds) sums.set(bound, (sums.get(bound) ?? 0) + buckets.get(bound)!);
  }
  return sums;
}
