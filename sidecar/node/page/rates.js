// Computes rates from counters that a page reads about once a second. Pure: the time comes in.

const WINDOW_MS = 10_000;
/** Over less time, a single call would look like many a second. */
const MIN_SPAN_MS = 1_500;
const MAX_KEYS = 500;

/** Remembers the counters of the last ten seconds. */
export class Rates {
  constructor() {
    this.samples = new Map();
  }

  /** @param counters by key: { all, bad } */
  add(counters, nowMs) {
    const next = new Map();
    for (const [key, { all, bad }] of [...counters].slice(0, MAX_KEYS)) {
      const known = this.samples.get(key) ?? [];
      // A smaller counter means that the process was restarted.
      const kept =
        all < (known.at(-1)?.all ?? 0) ? [] : known.filter(({ atMs }) => atMs >= nowMs - WINDOW_MS);
      next.set(key, [...kept, { atMs: nowMs, all, bad }]);
    }
    this.samples = next;
  }

  /** Calls a second and the share of successes; `success` is null without a call. Null in the first seconds. */
  of(key) {
    const samples = this.samples.get(key) ?? [];
    const [first, last] = [samples[0], samples.at(-1)];
    if (samples.length < 2 || last.atMs - first.atMs < MIN_SPAN_MS) return null;
    const calls = last.all - first.all;
    const seconds = (last.atMs - first.atMs) / 1000;
    return { perS: calls / seconds, success: calls === 0 ? null : 1 - (last.bad - first.bad) / calls };
  }
}
