/**
 * Records for operators how one model of a provider works: the waiting attempts, how long its latest answers took, and how
 * its attempts ended since the last success. It decides nothing. Pure; times are milliseconds of a clock that never goes
 * back.
 */

/** `unanswered`: the caller left before the answer. `none`: the end says nothing about the provider. */
export type ProviderAttemptKind = 'good' | 'refused' | 'throttled' | 'failed' | 'unanswered' | 'none';

/** An attempt without an answer yet. */
export interface WaitingAttempt {
  readonly startedMs: number;
}

const LATEST = 64;
/** The slowest of fewer answers says too little. */
const MIN_ANSWERS = 5;
/** Callers choose the names of models: a further model replaces one without an answer, or shares one record. */
const MAX_MODELS = 100;
const OTHER_MODELS = '_OTHER';

export class ProviderRecord {
  readonly model: string;
  /** In the order of their beginning. */
  readonly waiting = new Set<WaitingAttempt>();
  /** The number of requests that wait for their turn. */
  awaiting = 0;
  /** The number of all answers, and the sum of the times to their first byte. */
  answers = 0;
  answersMs = 0;
  /** The latest attempts of one kind without a success among them: their kind, their result, their number, and the last end. */
  kind: Exclude<ProviderAttemptKind, 'good' | 'none'> | undefined = undefined;
  what = '';
  /** The provider's words for the latest of them, without keys. */
  said = '';
  inARow = 0;
  atMs = Number.NEGATIVE_INFINITY;
  goodAtMs = Number.NEGATIVE_INFINITY;
  private readonly latestMs = new Float64Array(LATEST);

  constructor(model: string) {
    this.model = model;
  }

  begin(attempt: WaitingAttempt): void {
    this.waiting.add(attempt);
  }

  /** The first bytes of the attempt's answer are here. */
  answered(attempt: WaitingAttempt, nowMs: number): void {
    if (!this.waiting.delete(attempt)) return;
    const tookMs = nowMs - attempt.startedMs;
    this.latestMs[this.answers++ % LATEST] = tookMs;
    this.answersMs += tookMs;
    // A stream may still be cut, but a provider that begins to answer refuses nothing.
    if (this.kind !== 'failed') this.isGood(nowMs);
  }

  /**
   * @param what a status, or the reason of a failure
   * @param said the same in words, without keys
   */
  ended(attempt: WaitingAttempt, kind: ProviderAttemptKind, what: string, said: string, nowMs: number): void {
    const waited = this.waiting.delete(attempt);
    if (kind === 'none' || (kind === 'unanswered' && !(waited && this.isLong(nowMs - attempt.startedMs))))
      return;
    if (kind === 'good') {
      this.isGood(nowMs);
      return;
    }
    this.inARow = kind === this.kind ? this.inARow + 1 : 1;
    this.kind = kind;
    this.what = what;
    this.said = said;
    this.atMs = nowMs;
  }

  /** Whether a caller waited for longer than answers take; one that leaves sooner says nothing about the provider. */
  private isLong(waitedMs: number): boolean {
    const { answers, slowestMs } = this.usual;
    return answers > 0 && waitedMs > slowestMs;
  }

  private isGood(nowMs: number): void {
    this.goodAtMs = nowMs;
    this.kind = undefined;
    this.inARow = 0;
  }

  /** The longest time of the latest answers, and their number; 0 while too few are known. */
  get usual(): { readonly answers: number; readonly slowestMs: number } {
    const answers = Math.min(this.answers, LATEST);
    if (answers < MIN_ANSWERS) return { answers: 0, slowestMs: 0 };
    return { answers, slowestMs: Math.max(...this.latestMs.subarray(0, answers)) };
  }
}

/** The records of one provider. */
export class ProviderRecords {
  private readonly records = new Map<string, ProviderRecord>();

  of(model: string): ProviderRecord {
    const known = this.records.get(model);
    if (known !== undefined) return known;
    if (this.records.size >= MAX_MODELS && model !== OTHER_MODELS && !this.forgetOne())
      return this.of(OTHER_MODELS);
    const record = new ProviderRecord(model);
    this.records.set(model, record);
    return record;
  }

  /** Forgets the oldest record without an answer and without a waiting request. */
  private forgetOne(): boolean {
    for (const [model, { answers, goodAtMs, waiting, awaiting }] of this.records) {
      const isUsed = answers > 0 || goodAtMs > Number.NEGATIVE_INFINITY || waiting.size > 0 || awaiting > 0;
      if (isUsed) continue;
      this.records.delete(model);
      return true;
    }
    return false;
  }

  values(): Iterable<ProviderRecord> {
    return this.records.values();
  }

  /** The number of requests that wait for their turn, for all models. */
  get awaiting(): number {
    let awaiting = 0;
    for (const record of this.records.values()) awaiting += record.awaiting;
    return awaiting;
  }
}
