/** Knows how many calls of this process wait for each task, and whether the last one's cancel ends the task. Pure. */
import type { TaskKey } from '../log/task-record.ts';

/** A caller may lose its connection, come back and cancel then: so many tasks are remembered that no call waits for. */
const MAX_REMEMBERED = 10_000;

export class WaitingCallers {
  private readonly counts = new Map<TaskKey, number>();
  /** The tasks that calls of this process have stored: another process's, and those of `Tasks.Submit`, end without us. */
  private readonly stored = new Set<TaskKey>();

  /** A call stored the task. */
  store(key: TaskKey): void {
    this.stored.delete(key);
    this.stored.add(key);
    if (this.stored.size <= MAX_REMEMBERED) return;
    const [oldest] = this.stored;
    this.stored.delete(oldest!);
  }

  /** `Tasks.Submit` has joined it: now it is to run, whether or not calls wait for it. */
  submit(key: TaskKey): void {
    this.stored.delete(key);
  }

  join(key: TaskKey): void {
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
  }

  /**
   * @param how `answered`: the task is over. `cancelled`: the caller does not want its answer. `vanished`: it may come back
   * @returns whether to cancel the task
   */
  leave(key: TaskKey, how: 'answered' | 'cancelled' | 'vanished'): boolean {
    const left = (this.counts.get(key) ?? 1) - 1;
    if (left > 0) this.counts.set(key, left);
    else this.counts.delete(key);
    if (how === 'answered') this.stored.delete(key);
    return how === 'cancelled' && left <= 0 && this.stored.delete(key);
  }
}
