/**
 * What the counters of one pod grew by between two of its pages, and the contradictions that show that one of the two pages
 * is wrong: counters that fall although the process goes on, and calls faster than any sidecar serves them. Pure.
 */

import type { Buckets } from './page-durations.ts';
import { PageError } from './page-error.ts';
import type { PodPage } from './pod-page.ts';

/** More than a sidecar serves on any machine, in calls or attempts a second. */
const MOST_PER_SECOND = 100_000;
/** Pages are seconds apart; clocks of two processes are not exact. */
const LEAST_SECONDS = 10;

/**
 * The growth of each series, without those of which nothing was counted.
 *
 * @param before the page before this one, of the same pod; undefined for one that has counted from 0 since the last round
 * @param elapsedMs since `before`
 * @throws PageError when the two can't both be right
 */
export function growthOf(page: PodPage, before: PodPage | undefined, elapsedMs: number): Buckets[] {
  const isNew = before === undefined || page.startedAtSeconds !== before.startedAtSeconds;
  const most = MOST_PER_SECOND * Math.max(LEAST_SECONDS, elapsedMs / 1_000);
  const grown: Buckets[] = [];
  let calls = 0;
  for (const [series, buckets] of page.durations) {
    const base = isNew ? undefined : before.durations.get(series);
    const growth = (base && growthSince(base, buckets)) ?? buckets;
    // A page that does not tell its start can show a new beginning by nothing else.
    if (growth === buckets && base !== undefined && page.startedAtSeconds > 0)
      throw new PageError('its counters have fallen, although its process has not begun anew');
    const count = growth.get(Number.POSITIVE_INFINITY)!;
    if (count > 0) grown.push(growth);
    calls += count;
  }
  const attempts = page.modelAttempts - (isNew ? 0 : before.modelAttempts);
  if (calls > most || attempts > most)
    throw new PageError('it counts more calls since the last look than a sidecar can have served');
  return grown;
}

/** Undefined when the counters did not just grow: some bound's count fell, or calls would be missing at a higher bound. */
function growthSince(base: Buckets, now: Buckets): Buckets | undefined {
  for (const bound of base.keys()) if (!now.has(bound)) return undefined;
  const grown = new Map<number, number>();
  let below = 0;
  for (const [bound, count] of now) {
    const growth = count - (base.get(bound) ?? Number.POSITIVE_INFINITY);
    if (!(growth >= below)) return undefined;
    grown.set(bound, growth);
    below = growth;
  }
  return grown;
}
