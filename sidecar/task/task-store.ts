/**
 * Runs each task once: a duplicate joins the run in progress, or gets the kept answer replayed. So it is safe to send a
 * task again after a lost connection. The store knows no sockets: calls come in as `Runner` and as subscribers.
 *
 *     begin ──┬── unknown ────────────────────▶ run      the caller runs it, and reports head, append, finish
 *             ├── running, no byte dropped ───▶ join     a reader gets the answer from its beginning
 *             ├── finished ───────────────────▶ replay   the same, all at once
 *             ├── in an unknown encoding ─────▶ unreadable   callers that can't read the answer run it as another task
 *             └── answer lost, or no room ────▶ refuse   rather than run twice; only `full` may be retried
 *
 * The same task is the same id with the same request (`task-fingerprint.ts`). The same id with another request is another
 * task and runs: a refusal would break agents that reuse ids, and a replay would answer another question. For such callers
 * an id protects only equal requests.
 *
 * The store keeps answers that would be the same again: see {@link isReplayable}. Any other end goes to the followers and
 * is forgotten, so that a retry runs the task again: UNAVAILABLE replayed for minutes would turn a short failure into an
 * outage.
 *
 * A short answer without followers is kept in the columns of a ring (`kept-answers.ts`), and becomes an entry again when a
 * duplicate arrives.
 *
 * `task-table.ts` bounds the bytes of all answers, of one, the number of tasks, and their age. A task with waiting callers
 * is never forgotten. A running answer that exceeds its bound can't be joined any more, and later duplicates are refused
 * until its age is over; the same holds for an answer dropped to make room. A reader that lags by more than an answer's
 * bound loses the rest.
 *
 * When all callers have cancelled, the task is cancelled at once. When the last one's connection was lost, it runs on for
 * `lingerMs`: that caller's retry is probably on its way, and would otherwise run it a second time.
 */
import { KEPT_ANSWER_MAX_BYTES } from './kept-answers.ts';
import { isReplayable, type TaskEnd } from './task-end.ts';
import {
  type AnswerReader,
  type Begun,
  type Leaving,
  type Remains,
  TaskEntry,
  TaskReader,
  type TaskRefusal,
  type TaskSubscriber,
  UNREADABLE,
} from './task-entry.ts';
import type { Fingerprint } from './task-fingerprint.ts';
import { TASK_STORE_DEFAULTS, type TaskStoreSettings } from './task-store-settings.ts';
import { TaskTable } from './task-table.ts';

export * from './task-end.ts';
export * from './task-entry.ts';
export {
  type Fingerprint,
  fingerprintFor,
  fingerprintOf,
  taskFingerprint,
  taskScope,
} from './task-fingerprint.ts';
export { TASK_STORE_DEFAULTS, type TaskStoreSettings } from './task-store-settings.ts';

export class TaskStore<Runner> {
  private readonly table: TaskTable<Runner>;
  joined = 0;
  replayed = 0;
  refused = 0;

  constructor(settings: TaskStoreSettings = TASK_STORE_DEFAULTS) {
    this.table = new TaskTable(settings);
  }

  get settings(): TaskStoreSettings {
    return this.table.settings;
  }

  set settings(settings: TaskStoreSettings) {
    this.table.settings = settings;
  }

  /** The number of tasks, running and over. */
  get size(): number {
    return this.table.size;
  }

  /** Takes memory from that for answers, for something else. @returns false when there is none */
  take(bytes: number): boolean {
    return this.table.reserve(bytes);
  }

  give(bytes: number): void {
    this.table.giveBack(bytes);
  }

  get maxBytes(): number {
    return this.settings.maxBytes;
  }

  /** The bytes of all entries, and of forgotten answers that still have readers; and what was taken for something else. */
  get bytes(): number {
    return this.table.bytes;
  }

  /**
   * Decides on an arriving task. After `run` the caller must end the entry, by `finish` or by leaving. The store notifies
   * `subscriber` when there is more to read, but not within this call. Without `by` the caller can read any answer.
   */
  begin(
    { text: fingerprint, hash }: Fingerprint,
    runner: Runner,
    subscriber: TaskSubscriber,
    nowMs: number,
    by?: AnswerReader<Runner>,
  ): Begun<Runner> {
    const { table } = this;
    const known = table.entries.get(fingerprint, hash);
    if (known === undefined) {
      const number = table.kept.find(fingerprint, hash);
      if (number < 0) return this.run(fingerprint, hash, runner);
      return this.beginKept(number, fingerprint, hash, runner, subscriber, nowMs, by);
    }
    if (known.expiresAtMs <= nowMs) {
      table.forget(known);
      return this.run(fingerprint, hash, runner);
    }
    if (known.refusal !== undefined) return this.refuse(known.refusal);
    if (by?.canRead(known.head, known.runner) === false) return UNREADABLE;
    return this.read(known, subscriber);
  }

  private beginKept(
    number: number,
    fingerprint: string,
    hash: number,
    runner: Runner,
    subscriber: TaskSubscriber,
    nowMs: number,
    by: AnswerReader<Runner> | undefined,
  ): Begun<Runner> {
    const { kept } = this.table;
    if (kept.expiresAtMs(number) <= nowMs) {
      kept.forget(number);
      return this.run(fingerprint, hash, runner);
    }
    if (kept.dropped(number)) return this.refuse('dropped');
    if (by?.canRead(kept.headOf(number), undefined) === false) return UNREADABLE;
    return this.read(this.table.restore(number, fingerprint, hash), subscriber);
  }

  private refuse(reason: TaskRefusal): Begun<Runner> {
    this.refused++;
    return { decision: 'refuse', reason };
  }

  private run(fingerprint: string, hash: number, runner: Runner): Begun<Runner> {
    const { table } = this;
    let abandoned: TaskEntry<Runner> | undefined;
    if (table.size >= table.settings.maxEntries && !table.forgetOldest()) {
      // A present caller has priority over one that may retry.
      [abandoned] = table.orphans;
      if (abandoned === undefined) return this.refuse('full');
      table.forget(abandoned);
    }
    const entry = new TaskEntry(fingerprint, hash, runner);
    table.add(entry);
    return { decision: 'run', entry, abandoned };
  }

  private read(entry: TaskEntry<Runner>, subscriber: TaskSubscriber): Begun<Runner> {
    const reader = new TaskReader(entry, subscriber);
    entry.readers ??= new Set();
    entry.readers.add(reader);
    entry.callers++;
    if (entry.state === 'orphaned') this.table.adopt(entry);
    if (entry.isRunning) {
      this.joined++;
      return { decision: 'join', reader };
    }
    this.replayed++;
    this.table.requested(entry);
    return { decision: 'replay', reader };
  }

  // --- The runner's part -----------------------------------------------------------------------------------

  /** The response's header fields arrived. */
  head(entry: TaskEntry<Runner>, fields: readonly string[]): void {
    entry.setHead(fields);
    this.grown(entry);
  }

  /** Bytes of the response's messages arrived; they are copied. */
  append(entry: TaskEntry<Runner>, buffer: Buffer, start: number, end: number): void {
    // The answer has no readers, and can't get any.
    if (entry.refusal !== undefined && !entry.readers?.size) return;
    entry.log.append(buffer, start, end);
    this.grown(entry);
  }

  /** The call that runs the task has ended. Readers read on; a replayable answer is kept. */
  finish(entry: TaskEntry<Runner>, end: TaskEnd, nowMs: number): void {
    if (!entry.isRunning) return;
    const { table } = this;
    entry.setEnd(end);
    entry.runner = undefined;
    if (entry.state === 'orphaned') table.orphans.delete(entry);
    const replayable = isReplayable(end.status, end.taskStatus);
    if (
      replayable &&
      entry.refusal === undefined &&
      !entry.readers?.size &&
      entry.log.length <= KEPT_ANSWER_MAX_BYTES
    ) {
      table.keep(entry, end, nowMs);
      return;
    }
    if (replayable) table.list(entry, nowMs);
    else table.forget(entry);
    this.grown(entry);
  }

  /** An answer has grown: applies the bounds and notifies the readers. */
  private grown(entry: TaskEntry<Runner>): void {
    this.table.grown(entry);
    if (entry.readers !== undefined) {
      for (const { subscriber } of entry.readers) subscriber.onTaskProgress();
    }
    this.table.trim(entry, this.lose);
  }

  /** Cuts off a reader that lags. */
  private readonly lose = (reader: TaskReader<Runner>): void => {
    const { entry } = reader;
    reader.lost = true;
    entry.readers!.delete(reader);
    entry.callers--;
    // Without a caller, the next tick returns the task as abandoned.
    if (entry.state === 'running' && entry.callers === 0) this.table.orphan(entry, Number.NEGATIVE_INFINITY);
    this.table.releaseUnread(entry);
    reader.subscriber.onTaskProgress();
  };

  // --- Callers that leave ----------------------------------------------------------------------------------

  /** A reader is done, or its caller left. */
  leave(reader: TaskReader<Runner>, leaving: Leaving, nowMs: number): Remains {
    const { entry } = reader;
    if (entry.readers?.delete(reader) !== true) return 'go_on';
    const remains = this.callerLeft(entry, leaving, nowMs);
    this.table.trim(entry, this.lose);
    this.table.releaseUnread(entry);
    return remains;
  }

  /** The caller of the call that runs the task left before its end. */
  runnersCallerLeft(entry: TaskEntry<Runner>, leaving: Leaving, nowMs: number): Remains {
    return this.callerLeft(entry, leaving, nowMs);
  }

  private callerLeft(entry: TaskEntry<Runner>, leaving: Leaving, nowMs: number): Remains {
    entry.callers--;
    if (entry.state !== 'running' || entry.callers > 0) return 'go_on';
    // A retry could not join an answer that is refused, so there is no reason to wait for one.
    if (leaving === 'connection_lost' && entry.refusal === undefined) {
      this.table.orphan(entry, nowMs + this.settings.lingerMs);
      return 'linger';
    }
    this.table.forget(entry);
    return 'abort';
  }

  // --- Time ------------------------------------------------------------------------------------------------

  /** Forgets answers that are too old. Returns abandoned tasks, without a retry in time: cancel their runners. */
  tick(nowMs: number): readonly TaskEntry<Runner>[] {
    const abandoned: TaskEntry<Runner>[] = [];
    for (const entry of this.table.orphans) {
      if (entry.orphanUntilMs > nowMs) continue;
      this.table.forget(entry);
      abandoned.push(entry);
    }
    this.table.sweep(nowMs);
    return abandoned;
  }

  /** Returns when to call `tick` next; Infinity when nothing is kept. */
  nextAtMs(nowMs: number): number {
    let next = this.table.sweepAtMs;
    for (const { orphanUntilMs } of this.table.orphans) next = Math.min(next, orphanUntilMs);
    return Math.max(next, nowMs);
  }
}
