// When each call is due: at a constant rate from the start, whatever became of the calls before it.

export interface Schedule {
  readonly ratePerSecond: number;
  /** Before the measured time; calls due in it are made and not counted. */
  readonly warmupMs: number;
  /** The measured time. */
  readonly durationMs: number;
}

/** Milliseconds from the start at which the call is due; the first one is number 0. */
export function dueMs({ ratePerSecond }: Schedule, call: number): number {
  return (call * 1000) / ratePerSecond;
}

/** How many calls are due by then, `elapsedMs` after the start; never more than there are in all. */
export function callsDue(schedule: Schedule, elapsedMs: number): number {
  if (elapsedMs < 0) return 0;
  // A hair more than the product, which may have been rounded below the whole number that it is.
  const due = Math.floor((elapsedMs * schedule.ratePerSecond) / 1000 + 1e-9) + 1;
  return Math.min(due, totalCalls(schedule));
}

/** Calls due before the end. */
export function totalCalls({ ratePerSecond, warmupMs, durationMs }: Schedule): number {
  return Math.ceil(((warmupMs + durationMs) * ratePerSecond) / 1000 - 1e-9);
}
