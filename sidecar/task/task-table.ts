/**
 * Holds the tasks of a store, and bounds what they take: the number of tasks, the bytes of all answers and of one, and
 * their age.
 *
 *     map of entries: running, orphaned, finished, unreplayable        ring of short answers that no duplicate requested
 *                                          │         │                   (`kept-answers.ts`)
 *                             list of answers    list of the others
 *
 * To make room it drops the oldest short answers first, then answers without readers. Of a dropped answer the fact remains
 * that it was given, so that later duplicates are refused.
 */
import { ChurnMap } from '../collections/churn-map.ts';
import { LinkedList } from '../collections/linked-list.ts';
import { KeptAnswers } from './kept-answers.ts';
import type { TaskEnd } from './task-end.ts';
import { TASK_STATE, TaskEntry, type TaskReader } from './task-entry.ts';
import type { TaskStoreSettings } from './task-store-settings.ts';

export class TaskTable<Runner> {
  settings: TaskStoreSettings;
  /** By fingerprint, which includes the id. */
  readonly entries = new ChurnMap<TaskEntry<Runner>>();
  /** Short answers that no duplicate has requested; they are not in the map. */
  readonly kept = new KeptAnswers();
  /** The tasks that run without callers. */
  readonly orphans = new Set<TaskEntry<Runner>>();
  /** All other kept answers, the most recently requested one last. */
  private readonly answers = new LinkedList<TaskEntry<Runner>>();
  /** Tasks that are over and whose answer is not kept. */
  private readonly unreplayable = new LinkedList<TaskEntry<Runner>>();
  private heldBytes = 0;
  /** The memory that streams take which can be resumed. */
  private reservedBytes = 0;
  private sweptAtMs = Number.NEGATIVE_INFINITY;

  constructor(settings: TaskStoreSettings) {
    this.settings = settings;
  }

  get size(): number {
    return this.entries.size + this.kept.size;
  }

  get bytes(): number {
    return this.heldBytes + this.kept.bytes + this.reservedBytes;
  }

  /** Takes memory from that for answers, half of it at most. @returns false when there is none */
  reserve(bytes: number): boolean {
    const { maxBytes } = this.settings;
    if (this.reservedBytes + bytes > maxBytes / 2) return false;
    this.reservedBytes += bytes;
    this.makeRoom(undefined);
    if (this.bytes <= maxBytes) return true;
    this.reservedBytes -= bytes;
    return false;
  }

  giveBack(bytes: number): void {
    this.reservedBytes -= bytes;
  }

  /** Adds the entry of a new task. */
  add(entry: TaskEntry<Runner>): void {
    this.entries.set(entry.fingerprint, entry, entry.hash);
    this.recount(entry);
    this.makeRoom(undefined);
  }

  /** Makes an entry of a short answer, for a duplicate that reads it. */
  restore(number: number, fingerprint: string, hash: number): TaskEntry<Runner> {
    const entry = TaskEntry.finished<Runner>(fingerprint, hash, this.kept.take(number));
    this.entries.set(fingerprint, entry, hash);
    this.answers.add(entry);
    this.recount(entry);
    return entry;
  }

  /** A duplicate has requested the answer: it is dropped last. */
  requested(entry: TaskEntry<Runner>): void {
    this.answers.add(entry);
  }

  /** Moves the short answer of a finished task to the ring, and frees the entry. */
  keep(entry: TaskEntry<Runner>, end: TaskEnd, nowMs: number): void {
    const { fingerprint, hash, head, log, fieldsBytes } = entry;
    const { kept, settings } = this;
    if (kept.span >= 2 * settings.maxEntries) this.forgetKept();
    this.entries.delete(fingerprint, hash);
    kept.add(fingerprint, head, end, log, fieldsBytes, nowMs + settings.maxAgeMs, hash);
    entry.become(TASK_STATE.forgotten);
    this.release(entry);
    this.makeRoom(undefined);
  }

  /** Keeps the entry of a task that has ended: its answer, or the fact that it was given. */
  list(entry: TaskEntry<Runner>, nowMs: number): void {
    entry.become(entry.refusal === undefined ? TASK_STATE.finished : TASK_STATE.unreplayable);
    entry.expiresAtMs = nowMs + this.settings.maxAgeMs;
    this.listOf(entry).add(entry);
  }

  private listOf(entry: TaskEntry<Runner>): LinkedList<TaskEntry<Runner>> {
    return entry.state === 'finished' ? this.answers : this.unreplayable;
  }

  /** Lets a task run without callers until then. */
  orphan(entry: TaskEntry<Runner>, untilMs: number): void {
    entry.become(TASK_STATE.orphaned);
    entry.orphanUntilMs = untilMs;
    this.orphans.add(entry);
  }

  /** A caller has joined a task that ran without callers. */
  adopt(entry: TaskEntry<Runner>): void {
    this.orphans.delete(entry);
    entry.become(TASK_STATE.running);
  }

  /** An answer has grown: applies the bounds. */
  grown(entry: TaskEntry<Runner>): void {
    if (entry.log.heldBytes > this.settings.maxAnswerBytes) entry.refusal = 'too_large';
    this.recount(entry);
    this.makeRoom(entry);
  }

  /**
   * Of an answer that can't be joined, drops the bytes that all readers have read.
   *
   * @param lose cuts off a reader that lags by more than an answer's bound
   */
  trim(entry: TaskEntry<Runner>, lose: (reader: TaskReader<Runner>) => void): void {
    if (entry.refusal === undefined) return;
    const { log, readers } = entry;
    const { maxBytes, maxAnswerBytes } = this.settings;
    const allowed = this.bytes > maxBytes ? 0 : maxAnswerBytes;
    let first = log.length;
    if (readers !== undefined) {
      for (const reader of readers) {
        if (log.length - reader.offset > allowed) lose(reader);
        else first = Math.min(first, reader.offset);
      }
    }
    if (first === log.length && !readers?.size) log.clear();
    else log.dropBefore(first);
    this.recount(entry);
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
    entry.become(TASK_STATE.unreplayable);
    entry.refusal = 'dropped';
    entry.forgetAnswer();
    this.unreplayable.add(entry);
    this.recount(entry);
  }

  /** Forgets the task that is of the least use; returns false when none is over. */
  forgetOldest(): boolean {
    if (this.kept.oldestDropped || this.unreplayable.oldest === undefined) {
      if (this.forgetKept()) return true;
    }
    const oldest = this.unreplayable.oldest ?? this.answers.oldest;
    if (oldest !== undefined) this.forget(oldest);
    return oldest !== undefined;
  }

  /** Forgets the oldest answer in the ring; returns false when there is none. */
  private forgetKept(): boolean {
    const kept = this.kept;
    if (kept.empty) return false;
    kept.forget(kept.oldest);
    return true;
  }

  /** Removes the entry from map and lists; its bytes are freed when it has no reader. */
  forget(entry: TaskEntry<Runner>): void {
    if (entry.state === 'forgotten') return;
    this.listOf(entry).remove(entry);
    if (entry.state === 'orphaned') this.orphans.delete(entry);
    entry.become(TASK_STATE.forgotten);
    this.entries.delete(entry.fingerprint, entry.hash);
    this.releaseUnread(entry);
  }

  /** Frees the bytes of a forgotten task once its last reader has left. */
  releaseUnread(entry: TaskEntry<Runner>): void {
    if (entry.state === 'forgotten' && !entry.readers?.size) this.release(entry);
  }

  private release(entry: TaskEntry<Runner>): void {
    entry.log.clear();
    this.heldBytes -= entry.countedBytes;
    entry.countedBytes = 0;
  }

  /** Forgets answers that are too old, ten times in the age of an answer. */
  sweep(nowMs: number): void {
    if (nowMs - this.sweptAtMs < this.settings.maxAgeMs / 10) return;
    this.sweptAtMs = nowMs;
    const kept = this.kept;
    while (!kept.empty && kept.expiresAtMs(kept.oldest) <= nowMs) this.forgetKept();
    this.sweepList(this.answers, nowMs);
    this.sweepList(this.unreplayable, nowMs);
  }

  private sweepList(list: LinkedList<TaskEntry<Runner>>, nowMs: number): void {
    for (let entry = list.oldest; entry !== undefined; ) {
      const { newer, expiresAtMs } = entry;
      if (expiresAtMs <= nowMs) this.forget(entry);
      entry = newer;
    }
  }

  /** When to call {@link sweep} next; Infinity when nothing is kept. */
  get sweepAtMs(): number {
    return this.kept.empty && this.answers.oldest === undefined && this.unreplayable.oldest === undefined
      ? Number.POSITIVE_INFINITY
      : this.sweptAtMs + this.settings.maxAgeMs / 10;
  }
}
