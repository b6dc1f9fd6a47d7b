/** What the store knew of a task when a run began, and what the run has had of it. */
import type { BegunRun, Kept } from '../record/journal-store.ts';

export interface Begun {
  readonly run: number;
  /** Answers of earlier runs that this one has not asked for yet. */
  readonly left: Map<string, Kept>;
  /** Answers that this run has had, or paid for: a retry gets them again. */
  readonly own: Map<string, Kept>;
  /** Earlier runs have left something. */
  readonly isLater: boolean;
}

export function begunOf({ run, kept }: BegunRun): Begun {
  const left = new Map(kept.map((one) => [one.place, one]));
  return { run, left, own: new Map(), isLater: kept.length > 0 };
}
