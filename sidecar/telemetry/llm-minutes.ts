/** Says what the requests to each model were in the last minute, from the counters that exist anyway. */
import type { LlmPairStats, LlmStats } from './llm-stats.ts';

/** How often the counters are kept, and how many of them: the oldest is a minute old. */
const EVERY_MS = 5_000;
const KEPT = 13;

interface Counts {
  readonly atMs: number;
  readonly requests: number;
  readonly tokens: number;
  readonly nanos: number;
  readonly unpriced: number;
  readonly attempts: ReadonlyMap<string, number>;
  readonly firstToken: Float64Array;
}

/** Of the last minute, or of the time since the start where that is shorter. */
export interface LlmMinute {
  readonly requests: number;
  readonly tokens: number;
  /** Nano-dollars; undefined where all that was asked has no price. */
  readonly nanos: number | undefined;
  /** Attempts that failed, by their status or reason. */
  readonly errors: Readonly<Record<string, number>>;
  /** Milliseconds to the first content of an answer; null without one. */
  readonly firstTokenMs: { readonly p50: number | null; readonly p95: number | null };
}

/** Ends of attempts that are no errors of the provider. */
const NO_ERROR: ReadonlySet<string> = new Set(['success', 'cancelled']);

export class LlmMinutes {
  private readonly stats: LlmStats;
  private readonly kept = new Map<LlmPairStats, Counts[]>();
  private nextMs = Number.NEGATIVE_INFINITY;

  constructor(stats: LlmStats) {
    this.stats = stats;
  }

  /** Call it about once a second. @param nowMs milliseconds that never go back */
  sample(nowMs: number): void {
    if (nowMs < this.nextMs) return;
    this.nextMs = nowMs + EVERY_MS;
    for (const pair of this.stats.pairs.values()) {
      let kept = this.kept.get(pair);
      if (kept === undefined) {
        // What came before the first look is of this minute: the pair is new.
        kept = [zero(pair, nowMs)];
        this.kept.set(pair, kept);
      }
      kept.push(countsOf(pair, nowMs));
      if (kept.length > KEPT) kept.shift();
    }
  }

  of(pair: LlmPairStats, nowMs: number): LlmMinute {
    const oldest = this.kept.get(pair)?.[0] ?? zero(pair, nowMs);
    const now = countsOf(pair, nowMs);
    const errors: Record<string, number> = {};
    for (const [what, count] of now.attempts) {
      const lately = count - (oldest.attempts.get(what) ?? 0);
      if (lately > 0 && !NO_ERROR.has(what)) errors[what] = lately;
    }
    const buckets = now.firstToken.map((count, at) => count - oldest.firstToken[at]!);
    const percentile = (share: number): number | null => percentileOf(buckets, pair.firstToken.bounds, share);
    return {
      requests: now.requests - oldest.requests,
      tokens: now.tokens - oldest.tokens,
      nanos:
        now.unpriced > oldest.unpriced && now.nanos === oldest.nanos ? undefined : now.nanos - oldest.nanos,
      errors,
      firstTokenMs: { p50: percentile(0.5), p95: percentile(0.95) },
    };
  }
}

function countsOf(pair: LlmPairStats, atMs: number): Counts {
  const { input, output, wasted } = pair.tokens;
  let requests = 0;
  for (const count of pair.outcomes.values()) requests += count;
  let nanos = 0;
  for (const cost of pair.costs.values()) nanos += cost;
  return {
    atMs,
    nanos,
    unpriced: pair.unpriced,
    requests,
    tokens: input + output + wasted,
    attempts: new Map(pair.attempts),
    firstToken: pair.firstToken.buckets.slice(),
  };
}

function zero(pair: LlmPairStats, atMs: number): Counts {
  const firstToken = new Float64Array(pair.firstToken.buckets.length);
  return { atMs, requests: 0, tokens: 0, nanos: 0, unpriced: 0, attempts: new Map(), firstToken };
}

/** Answers count as evenly spread within each bucket. */
function percentileOf(buckets: Float64Array, bounds: readonly number[], share: number): number | null {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  if (total <= 0) return null;
  let left = total * share;
  for (let at = 0; at < buckets.length; at++) {
    const count = buckets[at]!;
    if (count <= 0 || left > count) {
      left -= count;
      continue;
    }
    const low = at === 0 ? 0 : bounds[at - 1]!;
    const high = bounds[at] ?? low;
    return Math.round((low + (high - low) * (left / count)) * 1000);
  }
  return Math.round(bounds.at(-1)! * 1000);
}
