/** Keeps those who wait in the thread of a file: for a task, for events of a task, and for the end of a lease. */
import type { TaskKey } from '../log/task-record.ts';
import type { FromThread, Held, Operations, Taken } from './requests.ts';
import { fenceOf, hasTask, take } from './runs.ts';
import type { TaskFile } from './task-file.ts';
import type { TaskRow } from './task-rows.ts';
import { eventsAfter } from './watched-events.ts';

type Post = (message: FromThread) => void;
type TakeInput = Operations['take']['in'];
type WatchInput = Operations['watch']['in'];

export class FileWaits {
  private readonly file: TaskFile;
  private readonly post: Post;
  /** By the ids of their requests; who waits longest comes first. */
  private readonly takes = new Map<number, TakeInput>();
  private readonly watches = new Map<number, WatchInput>();
  private readonly watchesOf = new Map<TaskKey, Set<number>>();
  /** By the ids of their tasks. */
  private readonly held = new Map<number, Held>();
  private hasNewTake = false;
  private lastChange = -1;
  /** Answers that may go out after the transaction. */
  private answers: FromThread[] = [];

  constructor(file: TaskFile, post: Post) {
    this.file = file;
    this.post = post;
  }

  get isEmpty(): boolean {
    return this.takes.size === 0 && this.watches.size === 0 && this.held.size === 0;
  }

  waitForTask(id: number, input: TakeInput): void {
    this.takes.set(id, input);
    this.hasNewTake = true;
  }

  waitForEvents(id: number, input: WatchInput): void {
    this.watches.set(id, input);
    const ids = this.watchesOf.get(input.key);
    if (ids === undefined) this.watchesOf.set(input.key, new Set([id]));
    else ids.add(id);
  }

  hold(held: Held): undefined {
    this.held.set(held.task, held);
    const row = this.file.get<TaskRow>('SELECT * FROM tasks WHERE id = ?', held.task);
    this.tellHolder(held, row);
  }

  letGo(held: Held): void {
    if (this.held.get(held.task)?.fence === held.fence) this.held.delete(held.task);
  }

  /** Whether a wait has ended by this. */
  stop(id: number): boolean {
    const watch = this.watches.get(id);
    if (watch !== undefined) this.endWatch(id, watch.key);
    return this.takes.delete(id) || watch !== undefined;
  }

  stopAll(): number[] {
    const ids = [...this.takes.keys(), ...this.watches.keys()];
    for (const id of ids) this.stop(id);
    return ids;
  }

  /** Whether one of those that wait for a task would get one. */
  hasTask(): boolean {
    const seen = new Set<string>();
    for (const { agentTypes } of this.takes.values()) {
      const types = agentTypes.join('\n');
      if (seen.has(types)) continue;
      seen.add(types);
      if (hasTask(this.file, agentTypes)) return true;
    }
    return false;
  }

  /** Gives waiting takes their tasks, within a transaction that writes, if one of them or a task is new. */
  giveTasks(): void {
    if (!this.hasNewTake && !this.file.hasNewTask) return;
    this.hasNewTake = false;
    const none = new Set<string>();
    for (const [id, input] of this.takes) {
      const types = input.agentTypes.join('\n');
      if (none.has(types)) continue;
      const output = take(this.file, input.agentTypes, input.holder);
      if (output === undefined) none.add(types);
      else this.answers.push({ name: 'done', id, output });
    }
  }

  /** Sends what the transaction has answered, now that it is stored. */
  deliver(): void {
    const { answers } = this;
    this.answers = [];
    for (const answer of answers) {
      if (answer.name === 'done' && this.takes.delete(answer.id)) {
        const { held } = answer.output as Taken;
        this.held.set(held.task, held);
      }
      this.post(answer);
    }
  }

  /** The transaction came to nothing: those that it gave tasks still wait. */
  undo(): void {
    this.answers = [];
  }

  /** Reads which tasks have changed since the last time, and tells those that wait for it. */
  tellChanges(): void {
    const since = this.lastChange;
    this.lastChange = this.file.lastChange;
    if (since < 0 || since === this.lastChange || (this.watches.size === 0 && this.held.size === 0)) return;
    for (const row of this.file.all<TaskRow>('SELECT * FROM tasks WHERE changed > ?', since)) {
      this.tellWatchers(row.key);
      const held = this.held.get(row.id);
      if (held !== undefined) this.tellHolder(held, row);
    }
  }

  /** Looks after all that wait, whatever is said to have changed: a task may be forgotten before somebody has looked. */
  tellAll(): void {
    for (const key of [...this.watchesOf.keys()]) this.tellWatchers(key);
    for (const held of [...this.held.values()])
      this.tellHolder(held, this.file.get<TaskRow>('SELECT * FROM tasks WHERE id = ?', held.task));
  }

  private tellWatchers(key: TaskKey): void {
    for (const id of this.watchesOf.get(key) ?? []) {
      const output = eventsAfter(this.file, this.watches.get(id)!);
      if (output === undefined) continue;
      this.endWatch(id, key);
      this.answers.push({ name: 'done', id, output });
    }
  }

  private tellHolder(held: Held, row: TaskRow | undefined): void {
    const because = fenceOf(row, held, this.file.nowMs);
    if (because === 'held') return;
    this.held.delete(held.task);
    this.answers.push({ name: 'fenced', task: held.task, fence: held.fence, because });
  }

  private endWatch(id: number, key: TaskKey): void {
    this.watches.delete(id);
    const ids = this.watchesOf.get(key);
    ids?.delete(id);
    if (ids?.size === 0) this.watchesOf.delete(key);
  }
}
