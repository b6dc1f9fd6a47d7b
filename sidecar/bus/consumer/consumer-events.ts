/** The interface by which a consumer reports on its tasks, for metrics, logs and pages. */
import type { TaskRecord } from '../log/task-record.ts';

/** No method may throw. */
export interface ConsumerEvents {
  /** The agent begins to run it. */
  onDelivered(record: TaskRecord): void;
  /** Its result is stored. */
  onSettled(record: TaskRecord, status: number): void;
  /** The run ended without a result: because of the agent, or because the log could not store what it said. */
  onLost(record: TaskRecord, cause: string): void;
  /** It waits again, and the run does not count. */
  onGivenBack(record: TaskRecord, because: string): void;
  /** The run's word came too late: the fence has refused it, or the agent was cancelled because it would. */
  onFenced(record: TaskRecord, because: 'cancelled' | 'lost' | 'late'): void;
  /** It is dead, because it can't be run. */
  onBuried(record: TaskRecord, cause: string): void;
  /** The log can't be reached, or something unexpected went wrong. */
  onProblem(error: unknown): void;
}
