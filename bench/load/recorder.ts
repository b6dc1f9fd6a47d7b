// Counts the outcome of each call, in a fixed amount of memory.
import type { CallEnd, CallTimes } from './call-end.ts';
import { Histogram } from './histogram.ts';
import type { Schedule } from './schedule.ts';

/** Points over time; a longer run has longer ones. */
const MOST_INTERVALS = 300;
const LEAST_INTERVAL_MS = 1000;
/** The counts under names that the target chooses. */
const MOST_NAMES = 40;
const LONGEST_NAME = 64;
const LONGEST_MESSAGE = 200;
const OTHER = 'other';

/** Why a call that was due has not been made. */
export type NotSent = 'inFlightBound' | 'generatorLate';

/** Calls due within one interval. */
export interface Interval {
  readonly latency: Histogram;
  due: number;
  ok: number;
  failed: number;
  notSent: number;
}

export class Recorder {
  readonly intervalMs: number;
  readonly intervals: Interval[];

  /** From when the call was due to its successful end, so that the wait behind slow calls shows. */
  readonly latency = new Histogram();
  /** From when it was made to its successful end. */
  readonly serviceTime = new Histogram();
  /** From when the call was due to its failure. */
  readonly failedLatency = new Histogram();
  /** From when a call was due to when it was made: the generator's own part. */
  readonly scheduleLag = new Histogram();
  /** From when a stream was due to its first chunk. */
  readonly firstChunk = new Histogram();
  readonly firstChunkServiceTime = new Histogram();
  /** From one chunk to the next of its stream. */
  readonly chunkGap = new Histogram();

  sent = 0;
  /** Those of the warm-up, which nothing else here counts. */
  sentInWarmup = 0;
  ok = 0;
  failed = 0;
  /** Ended by us, because the run was. */
  unfinished = 0;
  chunks = 0;
  pushbacks = 0;
  deduplicated = 0;
  readonly notSent: Record<NotSent, number> = { inFlightBound: 0, generatorLate: 0 };
  readonly outcomes = new Map<string, { count: number; example: string }>();
  readonly reasons = new Map<string, number>();

  private readonly warmupMs: number;

  constructor({ warmupMs, durationMs }: Schedule) {
    this.warmupMs = warmupMs;
    this.intervalMs = LEAST_INTERVAL_MS * Math.ceil(durationMs / LEAST_INTERVAL_MS / MOST_INTERVALS);
    this.intervals = Array.from({ length: Math.ceil(durationMs / this.intervalMs) }, () => ({
      latency: new Histogram(),
      due: 0,
      ok: 0,
      failed: 0,
      notSent: 0,
    }));
  }

  /** Calls whose end is known, or that were never made. */
  get settled(): number {
    return this.ok + this.failed + this.notSent.inFlightBound + this.notSent.generatorLate;
  }

  /** The share of them that came to nothing, 0 to 1. Calls not made count: their caller got no answer. */
  get errorShare(): number {
    return this.settled === 0 ? 0 : (this.settled - this.ok) / this.settled;
  }

  onSent({ dueMs, sentMs }: CallTimes): void {
    if (dueMs < this.warmupMs) {
      this.sentInWarmup++;
      return;
    }
    this.sent++;
    this.scheduleLag.record(sentMs - dueMs);
    this.intervalOf(dueMs).due++;
  }

  onNotSent(dueMs: number, why: NotSent): void {
    if (dueMs < this.warmupMs) return;
    this.notSent[why]++;
    const interval = this.intervalOf(dueMs);
    interval.due++;
    interval.notSent++;
  }

  /** @param previousMs when the chunk before it came; undefined for the first one */
  onChunk({ dueMs, sentMs }: CallTimes, nowMs: number, previousMs: number | undefined): void {
    if (dueMs < this.warmupMs) return;
    this.chunks++;
    if (previousMs !== undefined) {
      this.chunkGap.record(nowMs - previousMs);
      return;
    }
    this.firstChunk.record(nowMs - dueMs);
    this.firstChunkServiceTime.record(nowMs - sentMs);
  }

  onEnd({ dueMs, sentMs }: CallTimes, nowMs: number, end: CallEnd): void {
    if (dueMs < this.warmupMs) return;
    const interval = this.intervalOf(dueMs);
    if (end.deduplicated) this.deduplicated++;
    if (end.outcome === 'OK') {
      this.ok++;
      interval.ok++;
      this.latency.record(nowMs - dueMs);
      interval.latency.record(nowMs - dueMs);
      this.serviceTime.record(nowMs - sentMs);
      return;
    }
    this.failed++;
    interval.failed++;
    this.failedLatency.record(nowMs - dueMs);
    if (end.pushback) this.pushbacks++;
    this.countOutcome(end.outcome, end.message ?? '');
    if (end.reason !== undefined) this.countReason(end.reason);
  }

  onUnfinished(dueMs: number): void {
    if (dueMs >= this.warmupMs) this.unfinished++;
  }

  private intervalOf(dueMs: number): Interval {
    const index = Math.floor((dueMs - this.warmupMs) / this.intervalMs);
    return this.intervals[Math.min(index, this.intervals.length - 1)]!;
  }

  private countOutcome(outcome: string, message: string): void {
    const found = this.outcomes.get(outcome);
    if (found === undefined)
      this.outcomes.set(outcome, { count: 1, example: printable(message, LONGEST_MESSAGE) });
    else found.count++;
  }

  private countReason(given: string): void {
    const name = printable(given, LONGEST_NAME);
    const reason = this.reasons.has(name) || this.reasons.size < MOST_NAMES ? name : OTHER;
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
  }
}

/** Without what a terminal would obey. */
function printable(text: string, length: number): string {
  const cut = text.length > length ? `${text.slice(0, length - 1)}…` : text;
  return cut.replaceAll(/\p{C}/gu, ' ');
}
