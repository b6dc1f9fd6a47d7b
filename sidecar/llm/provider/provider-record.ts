/**
 * Records for people how one model of a provider does: what waits there, how long its latest answers took, and what its attempts
 * have come to since the last success. It decides nothing. Pure; times are milliseconds of a clock that never goes back.
 */

/** `unanswered`: its caller left before anything came. `none` says nothing of the provider: the request was at fault. */
export type ProviderAttemptKind = 'good' | 'refused' | 'throttled' | 'failed' | 'unanswered' | 'none';

/** An attempt that nothing has come of yet. */
export interface WaitingAttempt {
  readonly startedMs: number;
}

const LATEST = 64;
/** With fewer the slowest of them may be anything. */
const MIN_ANSWERS = 5;
/** Models' names come from whoever asks; those beyond push out one that was never answered, or share one record. */
const MAX_MODELS = 100;
const OTHER_MODELS = '_OTHER';

export class ProviderRecord {
  readonly model: string;
  /** In the order they were begun. */
  readonly waiting = new Set<WaitingAttempt>();
  /** Requests that wait until it may be asked. */
  awaiting = 0;
  /** Answers ever, and the time to their first byte in sum. */
  answers = 0;
  answersMs = 0;
  /** Attempts of one kind without a success among them: their kind, what they came to, how many, and when the latest ended. */
  kind: Exclude<ProviderAttemptKind, 'good' | 'none'> | undefined = undefined;
  what = '';
  /** The same in the provider's words, without keys: of these attempts alone, since a refusal of a request may quote it. */
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

  /** The first bytes of its answer are here. */
  answered(attempt: WaitingAttempt, nowMs: number): void {
    if (!this.waiting.delete(attempt)) return;
    const tookMs = nowMs - attempt.startedMs;
    this.latestMs[this.answers++ % LATEST] = tookMs;
    this.answersMs += tookMs;
    // A stream that begins may yet be cut, but who begins to answer refuses nothing.
    if (this.kind !== 'failed') this.isGood(nowMs);
  }

  /**
   * @param what a status, or the reason of a failure
   * @param said the same for people, without keys
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

  /** Who waits for less than answers take, and leaves, says nothing. */
  private isLong(waitedMs: number): boolean {
    const { answers, slowestMs } = this.usual;
    return answers > 0 && waitedMs > slowestMs;
  }

  private isGood(nowMs: number): void {
    this.goodAtMs = nowMs;
    this.kind = undefined;
    this.inARow = 0;
  }

  /** What its latest answers took at most, and how many those are; 0 of them while too few are known. */
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

  /** The oldest that has never been answered, and that nobody waits for. */
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

  /** Requests that wait until any of its models may be asked. */
  get awaiting(): number {
    let awaiting = 0;
    for (const record of this.records.values()) awaiting += record.awaiting;
    return awaiting;
  }
}
