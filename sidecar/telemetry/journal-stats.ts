/** Counts of the journal as plain numbers; `admin/` shows them. */

/** Where the request of a later run differs first from that of an earlier one. It has nothing of their texts. */
export interface PromptDifference {
  readonly atMs: number;
  readonly taskId: string;
  /** The path of the request: `/chat/completions`. */
  readonly path: string;
  /** The difference lies between these bytes of the body. */
  readonly fromByte: number;
  readonly toByte: number;
  /** The value in the body that has the difference: `messages[1].content`; '' where that is unknown. */
  readonly at: string;
}

/** Differences that are remembered. */
const LATEST = 16;

export class JournalStats {
  /** Answers that were stored. */
  stored = 0;
  /** Requests that got the answer of an earlier run. */
  replayed = 0;
  /** Requests of a later run without one. */
  missed = 0;
  /** Answers that have no record: the store is away or full, they are too large, or a later run has begun. */
  unstored = 0;
  /** Answers whose end did not wait any longer for the store. */
  late = 0;
  /** The latest first. */
  readonly differences: PromptDifference[] = [];

  noteDifference(difference: PromptDifference): void {
    this.differences.unshift(difference);
    if (this.differences.length > LATEST) this.differences.pop();
  }
}
