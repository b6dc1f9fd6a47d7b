/**
 * Detects calls that wait longer than usual, and answers that take much longer. Pure.
 *
 * A task of an agent takes 5 ms from a cache, 10 s from a model and minutes with tools, so no fixed time shows that a
 * call hangs. The durations of the latest answers are known. Several calls beyond a multiple of the slowest answer are
 * evidence, a single one only beyond a much larger multiple; while too few answers are known there is no finding
 * (`cluster/health/silence-watch.ts` checks in another way whether the other side is alive).
 *
 *     usual ──three waits, or answers in a row, above `many`; or one wait above `few`──▶ slow
 *       ▲                                                                                 │
 *       └──── answers within the usual and no such wait; or no evidence for 15 s ─────────┘
 *
 * The usual duration is not updated while calls are slow: the slow answers would soon be the usual ones. After ten
 * minutes they are.
 */

/** The state of one method of a cluster, or one model of a provider. Times in milliseconds. */
export interface WaitFacts {
  /** The number of waits without an answer, where the other side has the whole request. */
  readonly waiting: number;
  readonly longestMs: number;
  /** The third longest wait: three waits this long are more than one long task. 0 where there are fewer. */
  readonly thirdMs: number;
  /** The number of answers so far, and the sum of their durations. */
  readonly answers: number;
  readonly answersMs: number;
  /** From the latest answers; `answers` is 0 while too few are known. */
  readonly usual: { readonly answers: number; readonly slowestMs: number };
}

export interface MethodFacts {
  /** The request's path. */
  readonly method: string;
  readonly waits: WaitFacts;
}

export interface WaitLimits {
  /** A single wait below this is no evidence. */
  readonly fewMs: number;
  /** Three waits below this are none. */
  readonly manyMs: number;
}

/** One task may take a minute while others are answered from a cache. */
export const CALL_LIMITS: WaitLimits = { fewMs: 60_000, manyMs: 5_000 };
/** Requests to one model differ less. */
export const MODEL_LIMITS: WaitLimits = { fewMs: 8_000, manyMs: 5_000 };

const FEW_FACTOR = 10;
const MANY_FACTOR = 4;
const SLOW_ANSWERS = 3;
const LEAVE_MS = 15_000;
const ADOPT_MS = 600_000;
/** Percentiles cover two minutes. */
const FORGET_MS = 120_000;
/** An answer is noticed in the next pass. */
const LATE_MS = 1_500;

export interface Slowness {
  /** No answer arrived during the longest wait. */
  readonly unanswered: boolean;
  readonly waiting: number;
  readonly longestMs: number;
  /** The mean duration of the latest answers; 0 before the first. */
  readonly answersTakeMs: number;
  readonly usualAnswers: number;
  readonly usualSlowestMs: number;
}

export class WaitWatch {
  private readonly limits: WaitLimits;
  private usual: WaitFacts['usual'] = { answers: 0, slowestMs: 0 };
  /** The values in the previous pass; NaN before the first. */
  private answers = Number.NaN;
  private answersMs = 0;
  /** The number of answers since the previous pass. */
  private fresh = 0;
  private answeredAtMs = Number.NEGATIVE_INFINITY;
  /** The mean duration of the latest answers. */
  private latestMs = 0;
  private slowInARow = 0;
  /** NaN while nothing is slow. */
  private slowSinceMs = Number.NaN;
  private evidenceAtMs = 0;
  /** The slow answers are among the latest until then. */
  private learnsAtMs = Number.NEGATIVE_INFINITY;

  constructor(limits: WaitLimits) {
    this.limits = limits;
  }

  /** Call it about once a second; returns undefined while nothing is unusual. */
  update(facts: WaitFacts, nowMs: number): Slowness | undefined {
    this.takeAnswers(facts, nowMs);
    if (this.isNewUsual(nowMs)) {
      this.becomeUsual(nowMs);
      this.usual = facts.usual;
    }
    const { slowestMs } = this.usual;
    const manyMs = Math.max(this.limits.manyMs, slowestMs * MANY_FACTOR);
    const fewMs = Math.max(this.limits.fewMs, slowestMs * FEW_FACTOR);
    if (this.usual.answers > 0) this.judge(facts, manyMs, fewMs, nowMs);
    if (!this.isSlow) {
      const learns = this.slowInARow === 0 && nowMs >= this.learnsAtMs;
      if (learns && facts.usual.answers > 0) this.usual = facts.usual;
      return undefined;
    }
    return {
      unanswered: facts.waiting > 0 && nowMs - this.answeredAtMs >= facts.longestMs - LATE_MS,
      waiting: facts.waiting,
      longestMs: facts.longestMs,
      answersTakeMs: this.latestMs > manyMs ? this.latestMs : 0,
      usualAnswers: this.usual.answers,
      usualSlowestMs: slowestMs,
    };
  }

  private get isSlow(): boolean {
    return !Number.isNaN(this.slowSinceMs);
  }

  private takeAnswers({ answers, answersMs }: WaitFacts, nowMs: number): void {
    this.fresh = Number.isNaN(this.answers) ? 0 : Math.max(answers - this.answers, 0);
    if (this.fresh > 0) {
      this.answeredAtMs = nowMs;
      this.latestMs = (answersMs - this.answersMs) / this.fresh;
    }
    this.answers = answers;
    this.answersMs = answersMs;
  }

  private judge({ longestMs, thirdMs }: WaitFacts, manyMs: number, fewMs: number, nowMs: number): void {
    if (this.fresh > 0) this.slowInARow = this.latestMs > manyMs ? this.slowInARow + this.fresh : 0;
    if (longestMs > fewMs || thirdMs > manyMs || this.slowInARow >= SLOW_ANSWERS) {
      if (!this.isSlow) this.slowSinceMs = nowMs;
      this.evidenceAtMs = nowMs;
      return;
    }
    const answersAreUsual = this.fresh > 0 && this.slowInARow === 0;
    if (this.isSlow && (answersAreUsual || nowMs - this.evidenceAtMs >= LEAVE_MS)) this.becomeUsual(nowMs);
  }

  /** The method has been slow for long, and answers arrive. */
  private isNewUsual(nowMs: number): boolean {
    return nowMs - this.slowSinceMs >= ADOPT_MS && nowMs - this.answeredAtMs < ADOPT_MS / 2;
  }

  private becomeUsual(nowMs: number): void {
    this.learnsAtMs = nowMs + FORGET_MS;
    this.slowSinceMs = Number.NaN;
    this.slowInARow = 0;
  }
}

/** The three longest of many waits, kept without sorting. */
export class LongestWaits {
  waiting = 0;
  longestMs = 0;
  secondMs = 0;
  thirdMs = 0;

  add(waitMs: number): void {
    this.waiting++;
    if (waitMs > this.longestMs) {
      this.thirdMs = this.secondMs;
      this.secondMs = this.longestMs;
      this.longestMs = waitMs;
    } else if (waitMs > this.secondMs) {
      this.thirdMs = this.secondMs;
      this.secondMs = waitMs;
    } else if (waitMs > this.thirdMs) this.thirdMs = waitMs;
  }
}

export const NO_WAITS: Readonly<LongestWaits> = new LongestWaits();
