/** Decides which of a task's messages its caller gets: those of one run, from its first one on. Pure. */
import type { ChunkBatch } from '../log/task-log.ts';
import type { TaskRecord } from '../log/task-record.ts';

/** `unknown`: look the task up, for this batch is of a run that began later than what is known. */
export type Judgement = 'give' | 'drop' | 'unknown';

/**
 * One caller's view of a task. A log keeps the messages of a run until another begins, and may still have those of a lost
 * one; a run that was handed back may leave its number to the next, which begins at another time.
 */
export class FollowedTask {
  record: TaskRecord;
  /** The sequence of the last message seen. */
  afterSequence = 0;
  /** The run whose messages the caller has. */
  private givenRun: string | undefined = undefined;

  constructor(record: TaskRecord) {
    this.record = record;
  }

  /** The task as it is now. Returns whether the messages that the caller has are void. */
  see(record: TaskRecord): boolean {
    if (record.generation !== this.record.generation) this.afterSequence = 0;
    this.record = record;
    if (this.givenRun === undefined) return false;
    return record.state === 'queued' || (hasRun(record) && runOf(record) !== this.givenRun);
  }

  judge({ run }: ChunkBatch): Judgement {
    const { record } = this;
    if (run > record.run) return 'unknown';
    if (record.state === 'queued' || run < record.run) return 'drop';
    return 'give';
  }

  give({ firstSequence, count }: ChunkBatch): void {
    this.givenRun = runOf(this.record);
    this.afterSequence = firstSequence + count - 1;
  }

  drop({ firstSequence, count }: ChunkBatch): void {
    this.afterSequence = firstSequence + count - 1;
  }
}

/** Dead and cancelled tasks have no result, whatever their last run gave. */
function hasRun({ state }: TaskRecord): boolean {
  return state === 'running' || state === 'done';
}

function runOf({ generation, run, startedAtMs }: TaskRecord): string {
  return `${generation}.${run}.${startedAtMs}`;
}
