/**
 * Runs each task once: a duplicate joins the call in flight, or gets the answer that was given. This is what makes
 * it safe to send a task again when its connection was lost. No sockets: calls come as `Runner` and as subscribers.
 *
 *     begin ──┬── nothing known ──────────────▶ run      the caller runs it, and says so: head, append, finish
 *             ├── running, all of it there ───▶ join     a reader gets the answer from its beginning
 *             ├── finished ───────────────────▶ replay   so too, and all at once
 *             ├── in an unknown encoding ─────▶ unreadable   it is another task for who can't read the answer
 *             └── it can't be had, or no room ▶ refuse   rather than run twice; not to be retried, but for `full`
 *
 * The same task is the same id with the same request (`task-fingerprint.ts`). An id that comes with another request
 * is another task and runs: to refuse it would break agents that reuse ids, and to replay would answer another
 * question. For such callers an id protects only requests that are alike.
 *
 * Kept are answers that would be the same again: see {@link isReplayable}. Any other end is given to those who have
 * joined, and forgotten, so that a retry runs the task anew: UNAVAILABLE replayed for minutes would make an outage of
 * a hiccup.
 *
 * A short answer that nobody has joined is kept as columns of a ring (`kept-answers.ts`), and becomes an entry again when
 * somebody asks for it.
 *
 * Bounds: bytes of all answers, of one, number of tasks, and age. What a caller waits for is never forgotten. A running
 * answer that outgrows its bound can't be joined any more, and is refused to later duplicates until its age is over; so is
 * one that was dropped to make room for others. A reader that falls behind by more than an answer's bound loses the rest.
 *
 * When its callers leave: if all of them cancelled, the task is to be cancelled at once. If the last one's connection
 * was lost, it runs on for a moment: that caller's retry is on its way, and would run it a second time.
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
  /** By fingerprint, which the id is part of. */
  readonly #entries = new ChurnMap<TaskEntry<Runner>>();
  /** Short answers that nobody has asked for again, which are not in the map. */
  readonly #kept = new KeptAnswers();
  /** The others, and those that somebody has asked for; the one that was asked for last is the newest. */
  readonly #answers = new LinkedList<TaskEntry<Runner>>();
  /** Tasks that are over and have none. */
  readonly #unreplayable = new LinkedList<TaskEntry<Runner>>();
  readonly #orphans = new Set<TaskEntry<Runner>>();
  #bytes = 0;
  #sweptAtMs = Number.NEGATIVE_INFINITY;
  joined = 0;
  replayed = 0;
  refused = 0;

  constructor(settings: TaskStoreSettings = TASK_STORE_DEFAULTS) {
    this.settings = settings;
  }

  /** Entries; those that run, and those that are over. */
  get size(): number {
    return this.#entries.size + this.#kept.size;
  }

  /** Of all entries, and of answers that are still being read. */
  get bytes(): number {
    return this.#bytes + this.#kept.bytes;
  }

  /**
   * A task has come; `fingerprint` is of its request, the id in it included. `run` obliges the caller to end the entry, by `finish` or by leaving; `runner` is kept with it.
   * `subscriber` is told when there is more to read, not within this call. Without `by` any answer is taken.
   */
  begin(
    fingerprint: string,
    runner: Runner,
    subscriber: TaskSubscriber,
    nowMs: number,
    by?: AnswerReader<Runner>,
  ): Begun<Runner> {
    const hash = hashOf(fingerprint);
    const known = this.#entries.get(fingerprint, hash);
    if (known === undefined) {
      const number = this.#kept.find(fingerprint, hash);
      if (number < 0) return this.#run(fingerprint, hash, runner);
      return this.#beginKept(number, fingerprint, hash, runner, subscriber, nowMs, by);
    }
    if (known.expiresAtMs <= nowMs) {
      this.#forget(known);
      return this.#run(fingerprint, hash, runner);
    }
    if (known.refusal !== undefined) return this.#refuse(known.refusal);
    if (by?.canRead(known.head, known.runner) === false) return UNREADABLE;
    return this.#read(known, subscriber);
  }

  #beginKept(
    number: number,
    fingerprint: string,
    hash: number,
    runner: Runner,
    subscriber: TaskSubscriber,
    nowMs: number,
    by: AnswerReader<Runner> | undefined,
  ): Begun<Runner> {
    const kept = this.#kept;
    if (kept.expiresAtMs(number) <= nowMs) {
      kept.forget(number);
      return this.#run(fingerprint, hash, runner);
    }
    if (kept.dropped(number)) return this.#refuse('dropped');
    if (by?.canRead(kept.headOf(number), undefined) === false) return UNREADABLE;
    const entry = TaskEntry.finished<Runner>(fingerprint, hash, kept.take(number));
    this.#entries.set(fingerprint, entry, hash);
    this.#answers.add(entry);
    this.#recount(entry);
    return this.#read(entry, subscriber);
  }

  #refuse(reason: TaskRefusal): Begun<Runner> {
    this.refused++;
    return { decision: 'refuse', reason };
  }

  #run(fingerprint: string, hash: number, runner: Runner): Begun<Runner> {
    let abandoned: TaskEntry<Runner> | undefined;
    if (this.size >= this.settings.maxEntries && !this.#forgetOldest()) {
      // A caller that is here comes before one that may come back.
      [abandoned] = this.#orphans;
      if (abandoned === undefined) return this.#refuse('full');
      this.#forget(abandoned);
    }
    const entry = new TaskEntry(fingerprint, hash, runner);
    this.#entries.set(fingerprint, entry, hash);
    this.#recount(entry);
    this.#makeRoom(undefined);
    return { decision: 'run', entry, abandoned };
  }

  #read(entry: TaskEntry<Runner>, subscriber: TaskSubscriber): Begun<Runner> {
    const reader = new TaskReader(entry, subscriber);
    entry.readers ??= new Set();
    entry.readers.add(reader);
    entry.callers++;
    this.#orphans.delete(entry);
    entry.orphanUntilMs = Number.POSITIVE_INFINITY;
    if (entry.state === 'running') {
      this.joined++;
      return { decision: 'join', reader };
    }
    this.replayed++;
    this.#answers.add(entry);
    return { decision: 'replay', reader };
  }

  // --- The runner's part -----------------------------------------------------------------------------------

  /** The response's header fields came. */
  head(entry: TaskEntry<Runner>, fields: readonly string[]): void {
    entry.setHead(fields);
    this.#grown(entry);
  }

  /** Bytes of the response's messages came; they are copied. */
  append(entry: TaskEntry<Runner>, buffer: Buffer, start: number, end: number): void {
    // Nobody reads it, and nobody can come to.
    if (entry.refusal !== undefined && !entry.readers?.size) return;
    entry.log.append(buffer, start, end);
    this.#grown(entry);
  }

  /** The call that runs the task has ended. Readers read on; what can be replayed is kept. */
  finish(entry: TaskEntry<Runner>, end: TaskEnd, nowMs: number): void {
    if (entry.state !== 'running') return;
    entry.setEnd(end);
    entry.runner = undefined;
    entry.orphanUntilMs = Number.POSITIVE_INFINITY;
    this.#orphans.delete(entry);
    const replayable = isReplayable(end.status, end.taskStatus);
    if (
      replayable &&
      entry.refusal === undefined &&
      !entry.readers?.size &&
      entry.log.length <= KEPT_ANSWER_MAX_BYTES
    ) {
      this.#keep(entry, end, nowMs);
      return;
    }
    if (replayable) {
      entry.state = entry.refusal === undefined ? 'finished' : 'unreplayable';
      entry.expiresAtMs = nowMs + this.settings.maxAgeMs;
      this.#listOf(entry).add(entry);
    } else {
      this.#forget(entry);
    }
    this.#grown(entry);
  }

  /** Of a finished task its answer is all that stays. */
  #keep(entry: TaskEntry<Runner>, end: TaskEnd, nowMs: number): void {
    const { fingerprint, hash, head, log, fieldsBytes } = entry;
    const kept = this.#kept;
    if (kept.span >= 2 * this.settings.maxEntries) this.#forgetKept();
    this.#entries.delete(fingerprint, hash);
    kept.add(fingerprint, head, end, log, fieldsBytes, nowMs + this.settings.maxAgeMs, hash);
    entry.state = 'forgotten';
    this.#release(entry);
    this.#makeRoom(undefined);
  }

  /** The oldest of those; false when there is none. */
  #forgetKept(): boolean {
    const kept = this.#kept;
    if (kept.empty) return false;
    kept.forget(kept.oldest);
    return true;
  }

  /** More of an answer is here: readers are told, and bounds held. */
  #grown(entry: TaskEntry<Runner>): void {
    if (entry.log.heldBytes > this.settings.maxEntryBytes) entry.refusal = 'too_large';
    this.#recount(entry);
    this.#makeRoom(entry);
    if (entry.readers !== undefined) {
      for (const { subscriber } of entry.readers) subscriber.onTaskProgress();
    }
    this.#trim(entry);
  }

  /** Drops what nobody will read any more of an answer that can't be joined, and cuts off those who lag behind. */
  #trim(entry: TaskEntry<Runner>): void {
    if (entry.refusal === undefined) return;
    const { log, readers } = entry;
    const allowed = this.bytes > this.settings.maxBytes ? 0 : this.settings.maxEntryBytes;
    let first = log.length;
    if (readers !== undefined) {
      for (const reader of readers) {
        if (log.length - reader.offset > allowed) this.#lose(reader);
        else first = Math.min(first, reader.offset);
      }
    }
    if (first === log.length && !readers?.size) log.clear();
    else log.dropBefore(first);
    this.#recount(entry);
  }

  #lose(reader: TaskReader<Runner>): void {
    const { entry } = reader;
    reader.lost = true;
    entry.readers!.delete(reader);
    entry.callers--;
    if (entry.state === 'running' && entry.callers === 0) {
      // Nobody is left; the next tick says so.
      entry.orphanUntilMs = Number.NEGATIVE_INFINITY;
      this.#orphans.add(entry);
    }
    if (entry.state === 'forgotten' && entry.readers!.size === 0) this.#release(entry);
    reader.subscriber.onTaskProgress();
  }

  // --- Callers that leave ----------------------------------------------------------------------------------

  /** A reader has all it wants, or its caller left. */
  leave(reader: TaskReader<Runner>, leaving: Leaving, nowMs: number): Remains {
    const { entry } = reader;
    if (entry.readers?.delete(reader) !== true) return 'go_on';
    const remains = this.#callerLeft(entry, leaving, nowMs);
    this.#trim(entry);
    if (entry.state === 'forgotten' && entry.readers.size === 0) this.#release(entry);
    return remains;
  }

  /** The caller of the call that runs the task left before its end. */
  runnersCallerLeft(entry: TaskEntry<Runner>, leaving: Leaving, nowMs: number): Remains {
    return this.#callerLeft(entry, leaving, nowMs);
  }

  #callerLeft(entry: TaskEntry<Runner>, leaving: Leaving, nowMs: number): Remains {
    entry.callers--;
    if (entry.state !== 'running' || entry.callers > 0) return 'go_on';
    // What can't be joined can't be wanted any more.
    if (leaving === 'connection_lost' && entry.refusal === undefined) {
      entry.orphanUntilMs = nowMs + this.settings.lingerMs;
      this.#orphans.add(entry);
      return 'linger';
    }
    this.#forget(entry);
    return 'abort';
  }

  // --- Time and room ---------------------------------------------------------------------------------------

  /** Forgets what is too old. Returns the tasks that nobody came back for: cancel their runners. */
  tick(nowMs: number): readonly TaskEntry<Runner>[] {
    const abandoned: TaskEntry<Runner>[] = [];
    for (const entry of this.#orphans) {
      if (entry.orphanUntilMs > nowMs) continue;
      this.#forget(entry);
      abandoned.push(entry);
    }
    if (nowMs - this.#sweptAtMs >= this.settings.maxAgeMs / 10) {
      this.#sweptAtMs = nowMs;
      const kept = this.#kept;
      while (!kept.empty && kept.expiresAtMs(kept.oldest) <= nowMs) this.#forgetKept();
      this.#sweep(this.#answers, nowMs);
      this.#sweep(this.#unreplayable, nowMs);
    }
    return abandoned;
  }

  #sweep(list: LinkedList<TaskEntry<Runner>>, nowMs: number): void {
    for (let entry = list.oldest; entry !== undefined; ) {
      const { newer, expiresAtMs } = entry;
      if (expiresAtMs <= nowMs) this.#forget(entry);
      entry = newer;
    }
  }

  #listOf(entry: TaskEntry<Runner>): LinkedList<TaskEntry<Runner>> {
    return entry.state === 'finished' ? this.#answers : this.#unreplayable;
  }

  /** When `tick` has something to do next; Infinity when nothing is kept. */
  nextAtMs(nowMs: number): number {
    let next =
      this.#kept.empty && this.#answers.oldest === undefined && this.#unreplayable.oldest === undefined
        ? Number.POSITIVE_INFINITY
        : this.#sweptAtMs + this.settings.maxAgeMs / 10;
    for (const { orphanUntilMs } of this.#orphans) next = Math.min(next, orphanUntilMs);
    return Math.max(next, nowMs);
  }

  #recount(entry: TaskEntry<Runner>): void {
    if (entry.state === 'forgotten' && !entry.readers?.size) return;
    const { bytes } = entry;
    this.#bytes += bytes - entry.countedBytes;
    entry.countedBytes = bytes;
  }

  /** Drops old answers until the bytes fit; then `growing`, which does not, can't be joined any more. */
  #makeRoom(growing: TaskEntry<Runner> | undefined): void {
    const { maxBytes } = this.settings;
    while (this.bytes > maxBytes) if (!this.#kept.dropOldest()) break;
    if (this.bytes <= maxBytes) return;
    for (let entry = this.#answers.oldest; entry !== undefined; ) {
      const { newer } = entry;
      if (entry !== growing && !entry.readers?.size) this.#drop(entry);
      if (this.bytes <= maxBytes) return;
      entry = newer;
    }
    if (growing !== undefined) growing.refusal ??= 'too_large';
  }

  /** Of an answer only that it was given. */
  #drop(entry: TaskEntry<Runner>): void {
    this.#answers.remove(entry);
    entry.state = 'unreplayable';
    entry.refusal = 'dropped';
    entry.forgetAnswer();
    this.#unreplayable.add(entry);
    this.#recount(entry);
  }

  #forgetOldest(): boolean {
    if (this.#kept.oldestDropped || this.#unreplayable.oldest === undefined) {
      if (this.#forgetKept()) return true;
    }
    const oldest = this.#unreplayable.oldest ?? this.#answers.oldest;
    if (oldest !== undefined) this.#forget(oldest);
    return oldest !== undefined;
  }

  /** Out of the maps; its bytes are let go when nobody reads them. */
  #forget(entry: TaskEntry<Runner>): void {
    if (entry.state === 'forgotten') return;
    this.#listOf(entry).remove(entry);
    entry.state = 'forgotten';
    this.#entries.delete(entry.fingerprint, entry.hash);
    this.#orphans.delete(entry);
    if (!entry.readers?.size) this.#release(entry);
  }

  #release(entry: TaskEntry<Runner>): void {
    entry.log.clear();
    this.#bytes -= entry.countedBytes;
    entry.countedBytes = 0;
  }
}
