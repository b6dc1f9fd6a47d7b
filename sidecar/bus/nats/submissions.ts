/** Submits tasks: stores, joins or refuses them, and gives dead ones another generation. */
import { LogUnavailableError } from '../log/log-errors.ts';
import type { SubmitOptions, Submitted } from '../log/task-log.ts';
import type { NewTask, TaskKey } from '../log/task-record.ts';
import { KeyConflict } from './keys.ts';
import { requestSubject } from './names.ts';
import type { Store } from './store.ts';
import { isEnded, newStoredTask, type TaskEntry } from './stored-task.ts';

/** A submit without a deadline tries so long to hear of its outcome. */
const LONGEST_TRY_MS = 30_000;

export class Submissions {
  private readonly store: Store;
  private readonly needQueue: (agentType: string) => Promise<void>;

  constructor(store: Store, needQueue: (agentType: string) => Promise<void>) {
    this.store = store;
    this.needQueue = needQueue;
  }

  async submit(task: NewTask, { joinEndedForMs }: SubmitOptions): Promise<Submitted> {
    const untilMs = performance.now() + Math.min(task.timeLeftMs, LONGEST_TRY_MS);
    const before = await this.store.current(task.key);
    if (before !== undefined && this.isJoined(before, joinEndedForMs))
      return { outcome: 'joined', record: await this.store.keys.record(before) };
    if (await this.store.size.isFull()) return { outcome: 'refused', reason: 'store_full' };
    await this.needQueue(task.agentType);
    return this.enqueue(task, before, untilMs);
  }

  async retryDead(key: TaskKey): Promise<boolean> {
    const dead = await this.store.current(key);
    if (dead?.task.state !== 'dead') return false;
    const { digest, agentType, publisher, caller } = dead.task;
    const letter = await this.store.deadLetters.get(agentType, key);
    const payload =
      letter === undefined || letter.large === ''
        ? letter?.body
        : await this.store.requests.get(requestSubject(key, letter.large));
    if (payload === undefined) return false;
    await this.needQueue(agentType);
    // Its caller waits no longer, so the deadline of that time means nothing.
    const task = { key, digest, agentType, publisher, caller, timeLeftMs: Number.POSITIVE_INFINITY, payload };
    const submitted = await this.enqueue(task, dead, performance.now() + LONGEST_TRY_MS);
    if (submitted.outcome === 'refused')
      throw new LogUnavailableError(
        `the queue of ${agentType} is full (${submitted.reason}): retry later`,
        false,
      );
    await this.forget(dead);
    return true;
  }

  async dropDead(key: TaskKey): Promise<boolean> {
    const dead = await this.store.current(key);
    if (dead?.task.state !== 'dead') return false;
    const dropped = await this.store.tryMove(dead, { ...dead.task, state: 'dropped' });
    if (dropped?.task.state !== 'dropped') return false;
    await this.forget(dead);
    return true;
  }

  /** The queue first: what it has stored is accepted, and whoever takes it writes the key where we couldn't. */
  private async enqueue(task: NewTask, before: TaskEntry | undefined, untilMs: number): Promise<Submitted> {
    const generation = (before?.task.generation ?? 0) + 1;
    const revision = before?.revision ?? 0;
    const submittedAtMs = this.store.nowMs();
    const queued = await this.store.queue.put(task, generation, revision, untilMs);
    if (queued.refused !== undefined) return { outcome: 'refused', reason: queued.refused };
    const timeLeftMs = Number.isFinite(task.timeLeftMs) ? task.timeLeftMs : null;
    const stored = newStoredTask(
      { ...partsOf(task), generation, largeRequest: queued.large },
      submittedAtMs,
      timeLeftMs,
      queued.sequence,
    );
    const outcome = queued.duplicate ? 'joined' : 'stored';
    const { key } = task;
    try {
      const entry = await this.store.keys.write(key, revision, stored, { untilMs });
      return { outcome, record: await this.store.keys.record(entry) };
    } catch (error) {
      if (error instanceof KeyConflict) {
        // Somebody has taken it already, or it was submitted twice at the same time.
        const entry = error.entry ?? {
          key,
          revision: 0,
          task: { ...stored, write: '' },
          body: Buffer.alloc(0),
        };
        return { outcome, record: await this.store.keys.record(entry) };
      }
      // It is in the queue.
      if (error instanceof LogUnavailableError) throw new LogUnavailableError(error.message, true, error);
      throw error;
    }
  }

  private async forget({ key, task }: TaskEntry): Promise<void> {
    await this.store.deadLetters.remove(task.agentType, key);
    if (task.largeRequest !== '') await this.store.requests.remove(requestSubject(key, task.largeRequest));
  }

  private isJoined({ task }: TaskEntry, joinEndedForMs: number): boolean {
    if (!isEnded(task)) return true;
    return task.state === 'done' && this.store.nowMs() - task.endedAtMs <= joinEndedForMs;
  }
}

function partsOf({ digest, agentType, publisher, caller }: NewTask) {
  return { digest, agentType, publisher, caller };
}
