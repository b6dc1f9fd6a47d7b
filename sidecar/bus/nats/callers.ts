/** The callers that wait for tasks: they join and leave by writes of the key, so that none is overlooked. */
import type { TaskKey } from '../log/task-record.ts';
import { CALLER_LEFT, isWanted, joined, type Leaving, left, type Wanted, type Wish } from '../log/wanted.ts';
import { KeyConflict } from './keys.ts';
import { cancelSubject } from './names.ts';
import type { Store } from './store.ts';
import { finite, isEnded, nameOfEntry, type StoredTask, type TaskEntry } from './stored-task.ts';
import { ended } from './task-steps.ts';

export class Callers {
  private readonly store: Store;
  private readonly isAttending: (sidecar: string) => Promise<boolean>;

  constructor(store: Store, isAttending: (sidecar: string) => Promise<boolean>) {
    this.store = store;
    this.isAttending = isAttending;
  }

  /** Another asks for a task that is there. Returns it as it is then. Rejects with KeyConflict. */
  async join(entry: TaskEntry, wish: Wish, untilMs: number): Promise<TaskEntry> {
    if (isEnded(entry.task)) return entry;
    const next = joined(askedFor(entry.task), wish);
    return next === undefined ? entry : await this.write(entry, next, untilMs);
  }

  async leave(key: TaskKey, waiter: string, leaving: Leaving): Promise<void> {
    for (let entry = await this.store.current(key); entry !== undefined && !isEnded(entry.task); ) {
      const next = left(askedFor(entry.task), waiter, leaving);
      if (next === undefined) return;
      if (leaving === 'cancelled' && !(await this.isStillWanted(next.wanted))) {
        entry = await this.tryCancel(entry, CALLER_LEFT);
        continue;
      }
      try {
        await this.write(entry, next);
        return;
      } catch (error) {
        if (!(error instanceof KeyConflict)) throw error;
        entry = error.entry;
      }
    }
  }

  /** Ends a queued or running task. Returns it as it is now, whoever has written it. */
  async tryCancel(entry: TaskEntry, cause: string): Promise<TaskEntry | undefined> {
    const { task } = entry;
    // Behind the fence nothing of the run is stored, so that its last sequence is known.
    const { lastSequence } =
      task.state === 'running'
        ? await this.store.chunks.fence(nameOfEntry(entry), task.generation, task.run + 1)
        : task;
    const next = { ...ended(task, 'cancelled', cause, Math.floor(this.store.nowMs())), lastSequence };
    return this.store.tryMove(entry, next);
  }

  private async write(entry: TaskEntry, { wanted, deadlineAtMs }: AskedFor, untilMs = 0): Promise<TaskEntry> {
    const { revision, task } = entry;
    const next = { ...task, wanted, deadlineAtMs: finite(deadlineAtMs) };
    const written = await this.store.keys.write(nameOfEntry(entry), revision, next, { untilMs });
    // Who runs the task looks at the key when the deadline comes that it knows of: it must hear of an earlier one.
    if (task.state === 'running' && deadlineAtMs < askedFor(task).deadlineAtMs)
      this.store.connection.publish(cancelSubject(task.log), task.lease);
    return written;
  }

  private async isStillWanted(wanted: Wanted): Promise<boolean> {
    const wants = isWanted(wanted, this.store.nowMs());
    if (typeof wants === 'string') return wants === 'yes';
    return (await Promise.all(wants.unsure.map((sidecar) => this.isAttending(sidecar)))).includes(true);
  }
}

interface AskedFor {
  readonly wanted: Wanted;
  readonly deadlineAtMs: number;
}

function askedFor({ wanted, deadlineAtMs }: StoredTask): AskedFor {
  return { wanted, deadlineAtMs: deadlineAtMs ?? Number.POSITIVE_INFINITY };
}
