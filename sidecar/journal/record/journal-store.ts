/** The interface of a store of the journal. Its engines (`file/`, `nats/`) pass one contract test. */

/** An answer that an earlier run has left. */
export interface Kept {
  /** Which answer it is: the request's digest and ordinal. */
  readonly place: string;
  /** By which the store finds it. */
  readonly reference: number;
  readonly bytes: number;
}

export interface BegunRun {
  /** Names the run: what a run with another name writes for this task is void from now on. */
  readonly run: number;
  /** What the runs before have left, the oldest first; of one place only the latest. */
  readonly kept: readonly Kept[];
}

/**
 * `void`: a later run of the task has begun, or its answers were dropped. `full`: there is no room.
 */
export type Written =
  | { readonly outcome: 'stored'; readonly reference: number }
  | { readonly outcome: 'void' | 'full' };

/** Every method rejects while the store can't be reached. */
export interface JournalStore {
  readonly connected: boolean;
  /** Why it can't be reached; '' while it can. */
  readonly problem: string;
  /** It does not come back by itself: open another one. */
  readonly isOver: boolean;
  /** Called when one of them has changed. */
  onChange: (() => void) | undefined;
  /** Begins a run of a task. What earlier runs write from now on is void, so that two runs never mix. */
  begin(task: string): Promise<BegunRun>;
  /** Undefined when it is too old, or was dropped. */
  read(task: string, reference: number): Promise<Buffer | undefined>;
  write(task: string, run: number, place: string, payload: Buffer): Promise<Written>;
  /**
   * Forgets all answers of a task, unless a later run has begun.
   *
   * @param last the highest reference that the run has written; 0 without one
   */
  drop(task: string, run: number, last: number): Promise<void>;
  close(): Promise<void>;
}

/** What a store may take. */
export interface StoreLimits {
  readonly maxAgeMs: number;
  readonly maxBytes: number;
}
