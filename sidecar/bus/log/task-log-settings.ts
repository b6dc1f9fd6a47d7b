/** The limits that a log keeps for the sidecar that has opened it. */

/** A task takes so much in a log beside its request, and counts as that for its caller: short requests are not free. */
export const TASK_BYTES = 1_024;

export interface TaskLogSettings {
  /** How long a run may go without a sign of its sidecar; then it is lost. */
  readonly leaseMs: number;
  /** A task is dead after so many lost runs. */
  readonly maxRuns: number;
  /** The wait before the run after a lost one: doubles from `baseMs` to `maxMs`. */
  readonly retryDelay: { readonly baseMs: number; readonly maxMs: number };
  /** Tasks of one agent type that may wait. */
  readonly maxQueuedPerAgent: number;
  /** Tasks of one caller that may wait, for each agent type. */
  readonly maxQueuedPerCaller: number;
  /** The requests of all callers may take so much: those of tasks that wait or run, and of dead letters. */
  readonly maxQueuedBytes: number;
  /** Those of one caller may take so much, over all agent types. */
  readonly maxQueuedBytesPerCaller: number;
  /** A task that has waited this long is dead. */
  readonly maxAgeMs: number;
  /** How long results, their chunks and cancelled tasks are kept. */
  readonly resultsMaxAgeMs: number;
  /** The most bytes that results and chunks take; above it a submit is refused. */
  readonly resultsMaxBytes: number;
  readonly deadMaxAgeMs: number;
}
