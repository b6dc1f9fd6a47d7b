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
 * Bounds: bytes of all answers, of one, number of tasks, and age. A task with waiting callers is never forgotten. A running
 * answer that exceeds its bound can't be joined any more, and later duplicates are refused until its age is over; the same
 * holds for an answer dropped to make room. A reader that lags by more than an answer's bound loses the rest.
 *
 * When all callers have cancelled, the task is cancelled at once. When the last one's connection was lost, it runs on for
 * `lingerMs`: that caller's retry is probably on its way, and would otherwise run it a second time.
 */
import { ChurnMap, hashOf } from '../collections/churn-map.ts';
import { LinkedList } from '../collections/linked-list.ts';
import { KEPT_ANSWER_MAX_BYTES, KeptAnswers } from './kept-answers.ts';
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
import { TASK_STORE_DEFAULTS, type TaskStoreSettings } from './task-store-settings.ts';

export * from './task-end.ts';
export * from './task-entry.ts';
export { fingerprintFor, taskFingerprint, taskScope } from './task-fingerprint.ts';
export { TASK_STORE_DEFAULTS, type TaskStoreSettings } from './task-store-settings.ts';

export class TaskStore<Runner> {
  settings: TaskStoreSettings;
  /** By fingerprint, which includes the id. */
  private readonly entries = new ChurnMap<TaskEntry<Runner>>();
  /** Short answers that no duplicate has requested; they are not in the map. */
  private readonly kept = new KeptAnswers();
  /** All other kept answers, the most recently requested one last. */
  private readonly answers = new LinkedList<TaskEntry<Runner>>();
  /** Tasks that are over and whose answer is not kept. */
  private readonly unreplayable = new LinkedList<TaskEntry<Runner>>();
  private readonly orphans = new Set<TaskEntry<Runner>>();
  private heldBytes = 0;
  private sweptAtMs = Number.NEGATIVE_INFINITY;
  joined = 0;
  replayed = 0;
  refused = 0;

  constructor(settings: TaskStoreSettings = TASK_STORE_DEFAULTS) {
    this.settings = settings;
  }

  /** The number of tasks, running and over. */
  get size(): number {
    return this.entries.size + this.kept.size;
  }

  /** The bytes of all entries, and of forgotten answers that still have readers. */
  get bytes(): number {
    return this.heldBytes + this.kept.bytes;
  }

  /**
   * Decides on an arriving task. After `run` the caller must end the entry, by `finish` or by leaving. The store notifies
   * `subscriber` when there is more to read, but not within this call. Without `by` the caller can read any answer.
   */
  begin(
    fingerprint: string,
    runner: Runner,
    subscriber: TaskSubscriber,
    nowMs: number,
    by?: AnswerReader<Runner>,
  ): Begun<Runner> {
    const hash = hashOf(fingerprint);
    const known = this.entries.get(fingerprint, hash);
    if (known === undefined) {
      const number = this.kept.find(fingerprint, hash);
      if (number < 0) return this.run(fingerprint, hash, runner);
      return this.beginKept(number, fingerprint, hash, runner, subscriber, nowMs, by);
    }
    if (known.expiresAtMs <= nowMs) {
      this.forget(known);
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
    const kept = this.kept;
    if (kept.expiresAtMs(number) <= nowMs) {
      kept.forget(number);
      return this.run(fingerprint, hash, runner);
    }
    if (kept.dropped(number)) return this.refuse('dropped');
    if (by?.canRead(kept.headOf(number), undefined) === false) return UNREADABLE;
    const entry = TaskEntry.finished<Runner>(fingerprint, hash, kept.take(number));
    this.entries.set(fingerprint, entry, hash);
    this.answers.add(entry);
    this.recount(entry);
    return this.read(entry, subscriber);
  }

  private refuse(reason: TaskRefusal): Begun<Runner> {
    this.refused++;
    return { decision: 'refuse', reason };
  }

  private run(fingerprint: string, hash: number, runner: Runner): Begun<Runner> {
    let abandoned: TaskEntry<Runner> | undefined;
    if (this.size >= this.settings.maxEntries && !this.forgetOldest()) {
      // A present caller has priority over one that may retry.
      [abandoned] = this.orphans;
      if (abandoned === undefined) return this.refuse('full');
      this.forget(abandoned);
    }
    const entry = new TaskEntry(fingerprint, hash, runner);
    this.entries.set(fingerprint, entry, hash);
    this.recount(entry);
    this.makeRoom(undefined);
    return { decision: 'run', entry, abandoned };
  }

  private read(entry: TaskEntry<Runner>, subscriber: TaskSubscriber): Begun<Runner> {
    const reader = new TaskReader(entry, subscriber);
    entry.readers ??= new Set();
    entry.readers.add(reader);
    entry.callers++;
    this.orphans.delete(entry);
    entry.orphanUntilMs = Number.POSITIVE_INFINITY;
    if (entry.state === 'running') {
      this.joined++;
      return { decision: 'join', reader };
    }
    this.replayed++;
    this.answers.add(entry);
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
    if (entry.state !== 'running') return;
    entry.setEnd(end);
    entry.runner = undefined;
    entry.orphanUntilMs = Number.POSITIVE_INFINITY;
    this.orphans.delete(entry);
    const replayable = isReplayable(end.status, end.taskStatus);
    if (
      replayable &&
      entry.refusal === undefined &&
      !entry.readers?.size &&
      entry.log.length <= KEPT_ANSWER_MAX_BYTES
    ) {
      this.keep(entry, end, nowMs);
      return;
    }
    if (replayable) {
      entry.state = entry.refusal === undefined ? 'finished' : 'unreplayable';
      entry.expiresAtMs = nowMs + this.settings.maxAgeMs;
      this.listOf(entry).add(entry);
    } else {
      this.forget(entry);
    }
    this.grown(entry);
  }

  /** Moves the answer of a finished task to the ring, and frees the entry. */
  private keep(entry: TaskEntry<Runner>, end: TaskEnd, nowMs: number): void {
    const { fingerprint, hash, head, log, fieldsBytes } = entry;
    const kept = this.kept;
    if (kept.span >= 2 * this.settings.maxEntries) this.forgetKept();
    this.entries.delete(fingerprint, hash);
    kept.add(fingerprint, head, end, log, fieldsBytes, nowMs + this.settings.maxAgeMs, hash);
    entry.state = 'forgotten';
    this.release(entry);
    this.makeRoom(undefined);
  }

  /** Forgets the oldest answer in the ring; returns false when there is none. */
  private forgetKept(): boolean {
    const kept = this.kept;
    if (kept.empty) return false;
    kept.forget(kept.oldest);
    return true;
  }

  /** An answer has grown: applies the bounds and notifies the readers. */
  private grown(entry: TaskEntry<Runner>): void {
    if (entry.log.heldBytes > this.settings.maxEntryBytes) entry.refusal = 'too_large';
    this.recount(entry);
    this.makeRoom(entry);
    if (entry.readers !== undefined) {
      for (const { subscriber } of entry.readers) subscriber.onTaskProgress();
    }
    this.trim(entry);
  }

  /** Of an answer that can't be joined, drops the bytes that all readers have read, and cuts off readers that lag. */
  private trim(entry: TaskEntry<Runner>): void {
    if (entry.refusal === undefined) return;
    const { log, readers } = entry;
    const allowed = this.bytes > this.settings.maxBytes ? 0 : this.settings.maxEntryBytes;
    let first = log.length;
    if (readers !== undefined) {
      for (const reader of readers) {
        if (log.length - reader.offset > allowed) this.lose(reader);
        else first = Math.min(first, reader.offset);
      }
    }
    if (first === log.length && !readers?.size) log.clear();
    else log.dropBefore(first);
    this.recount(entry);
  }

  private lose(reader: TaskReader<Runner>): void {
    const { entry } = reader;
    reader.lost = true;
    entry.readers!.delete(reader);
    entry.callers--;
    if (entry.state === 'running' && entry.callers === 0) {
      // No caller is left: the next tick returns the task as abandoned.
      entry.orphanUntilMs = Number.NEGATIVE_INFINITY;
      this.orphans.add(entry);
    }
    if (entry.state === 'forgotten' && entry.readers!.size === 0) this.release(entry);
    reader.subscriber.onTaskProgress();
  }

  // --- Callers that leave ----------------------------------------------------------------------------------

  /** A reader is done, or its caller left. */
  leave(reader: TaskReader<Runner>, leaving: Leaving, nowMs: number): Remains {
    const { entry } = reader;
    if (entry.readers?.delete(reader) !== true) return 'go_on';
    const remains = this.callerLeft(entry, leaving, nowMs);
    this.trim(entry);
    if (entry.state === 'forgotten' && entry.readers.size === 0) this.release(entry);
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
      entry.orphanUntilMs = nowMs + this.settings.lingerMs;
      this.orphans.add(entry);
      return 'linger';
    }
    this.forget(entry);
    return 'abort';
  }

  // --- Time and room ---------------------------------------------------------------------------------------

  /** Forgets answers that are too old. Returns abandoned tasks, without a retry in time: cancel their runners. */
  tick(nowMs: number): readonly TaskEntry<Runner>[] {
    const abandoned: TaskEntry<Runner>[] = [];
    for (const entry of this.orphans) {
      if (entry.orphanUntilMs > nowMs) continue;
      this.forget(entry);
      abandoned.push(entry);
    }
    if (nowMs - this.sweptAtMs >= this.settings.maxAgeMs / 10) {
      this.sweptAtMs = nowMs;
      const kept = this.kept;
      while (!kept.empty && kept.expiresAtMs(kept.oldest) <= nowMs) this.forgetKept();
      this.sweep(this.answers, nowMs);
      this.sweep(this.unreplayable, nowMs);
    }
    return abandoned;
  }

  private sweep(list: LinkedList<TaskEntry<Runner>>, nowMs: number): void {
    for (let entry = list.oldest; entry !== undefined; ) {
      const { newer, expiresAtMs } = entry;
      if (expiresAtMs <= nowMs) this.forget(entry);
      entry = newer;
    }
  }

  private listOf(entry: TaskEntry<Runner>): LinkedList<TaskEntry<Runner>> {
    return entry.state === 'finished' ? this.answers : this.unreplayable;
  }

  /** Returns when to call `tick` next; Infinity when nothing is kept. */
  nextAtMs(nowMs: number): number {
    let next =
      this.kept.empty && this.answers.oldest === undefined && this.unreplayable.oldest === undefined
        ? Number.POSITIVE_INFINITY
        : this.sweptAtMs + this.settings.maxAgeMs / 10;
    for (const { orphanUntilMs } of this.orphans) next = Math.min(next, orphanUntilMs);
    return Math.max(next, nowMs);
  }

  private recount(entry: TaskEntry<Runner>): void {
    if (entry.state === 'forgotten' && !entry.readers?.size) return;
    const { bytes } = entry;
    this.heldBytes += bytes - entry.countedBytes;
    entry.countedBytes = bytes;
  }

  /** Drops old answers until the bytes fit. If that is not enough, `growing` can't be joined any more. */
  private makeRoom(growing: TaskEntry<Runner> | undefined): void {
    const { maxBytes } = this.settings;
    while (this.bytes > maxBytes) if (!this.kept.dropOldest()) break;
    if (this.bytes <= maxBytes) return;
    for (let entry = this.answers.oldest; entry !== undefined; ) {
      const { newer } = entry;
      if (entry !== growing && !entry.readers?.size) this.drop(entry);
      if (this.bytes <= maxBytes) return;
      entry = newer;
    }
    if (growing !== undefined) growing.refusal ??= 'too_large';
  }

  /** Drops an answer; only the fact that it was given remains. */
  private drop(entry: TaskEntry<Runner>): void {
    this.answers.remove(entry);
    entry.state = 'unreplayable';
    entry.refusal = 'dropped';
    entry.forgetAnswer();
    this.unreplayable.add(entry);
    this.recount(entry);
  }

  private forgetOldest(): boolean {
    if (this.kept.oldestDropped || this.unreplayable.oldest === undefined) {
      if (this.forgetKept()) return true;
    }
    const oldest = this.unreplayable.oldest ?? this.answers.oldest;
    if (oldest !== undefined) this.forget(oldest);
    return oldest !== undefined;
  }

  /** Removes the entry from map and lists; its bytes are freed when it has no reader. */
  private forget(entry: TaskEntry<Runner>): void {
    if (entry.state === 'forgotten') return;
    this.listOf(entry).remove(entry);
    entry.state = 'forgotten';
    this.entries.delete(entry.fingerprint, entry.hash);
    this.orphans.delete(entry);
    if (!entry.readers?.size) this.release(entry);
  }

  private release(entry: TaskEntry<Runner>): void {
    entry.log.clear();
    this.heldBytes -= entry.countedBytes;
    entry.countedBytes = 0;
  }
}
