/** The events of one task, as the server publishes what it has stored; the key and the stored chunks fill gaps. */
import type { LogUnavailableError } from '../log/log-errors.ts';
import type { ChunkBatch, ReaderRoom, TaskEvent } from '../log/task-log.ts';
import { readChunk } from './chunks.ts';
import { readEntry } from './keys.ts';
import { type TaskName, watchSubjects } from './names.ts';
import type { Store } from './store.ts';
import { isEnded, type StoredTask, type TaskEntry, toRecord } from './stored-task.ts';
import { WatchInbox } from './watch-inbox.ts';

/** After so long without a word the key is read: a word may be lost. */
const SILENCE_MS = 5_000;
/** A watch that was set up and that nobody begins ends after so long; of more at a time none is set up. */
const PREPARED_MS = 1_000;
const MOST_PREPARED = 4_096;

/** A watcher: its inbox, and its room for large batches. */
interface Reader {
  readonly signal: AbortSignal;
  readonly inbox: WatchInbox;
  readonly room: ReaderRoom | undefined;
}

/** A watch that was set up before its task was stored, so that nothing has to be read. */
interface Prepared {
  readonly inbox: WatchInbox;
  readonly stop: () => void;
  entry: TaskEntry | undefined;
}

export class Watching {
  private readonly store: Store;
  private readonly inboxes = new Set<WatchInbox>();
  private readonly prepared = new Map<string, Prepared>();

  constructor(store: Store) {
    this.store = store;
  }

  /** The bus is away, or the log was closed: all watches end. */
  fail(error: LogUnavailableError): void {
    for (const key of [...this.prepared.keys()]) this.unprepare(key);
    for (const inbox of this.inboxes) inbox.fail(error);
  }

  /** Listens to a task that is about to be stored. Call {@link stored} or {@link unprepare} after it. */
  prepare({ key, publisher }: TaskName): void {
    if (this.prepared.has(key) || this.prepared.size >= MOST_PREPARED) return;
    this.prepared.set(key, { ...this.listen(key, publisher), entry: undefined });
  }

  /** The task is as its submitter has written it. Who watches it now needs no look; nobody may do so for long. */
  stored(entry: TaskEntry): void {
    const { key } = entry;
    const prepared = this.prepared.get(key);
    if (prepared === undefined) return;
    prepared.entry = entry;
    setTimeout(() => {
      if (this.prepared.get(key) === prepared) this.unprepare(key);
    }, PREPARED_MS).unref();
  }

  unprepare(key: string): void {
    this.prepared.get(key)?.stop();
    this.prepared.delete(key);
  }

  async *watch(
    key: string,
    afterSequence: number,
    signal: AbortSignal,
    room?: ReaderRoom,
  ): AsyncGenerator<TaskEvent> {
    const { store } = this;
    if (!store.connection.connected) throw store.connection.awayError();
    const prepared = this.prepared.get(key);
    const isReady = prepared?.entry !== undefined && afterSequence === 0;
    if (isReady) this.prepared.delete(key);
    // Before the key is read, so that nothing falls between.
    const { inbox, stop } = isReady ? prepared : this.listen(key, store.connection.publisher);
    try {
      const entry = isReady ? prepared.entry : await store.current(key);
      yield* this.follow(entry, afterSequence, { signal, inbox, room });
    } finally {
      stop();
    }
  }

  private listen(
    key: string,
    publisher: string | undefined,
  ): { readonly inbox: WatchInbox; readonly stop: () => void } {
    const inbox = new WatchInbox();
    const subscription = this.store.connection.subscribe(watchSubjects(publisher, key), inbox.push);
    this.inboxes.add(inbox);
    const stop = (): void => {
      this.inboxes.delete(inbox);
      subscription.unsubscribe();
    };
    return { inbox, stop };
  }

  private async *follow(
    found: TaskEntry | undefined,
    afterSequence: number,
    reader: Reader,
  ): AsyncGenerator<TaskEvent> {
    const { signal, room } = reader;
    let entry = found;
    let seen = afterSequence;
    let shown: StoredTask | undefined;
    for (let isFirst = true; entry !== undefined && entry.task.state !== 'dropped' && !signal.aborted; ) {
      const { task } = entry;
      if (shown !== undefined && shown.generation !== task.generation) seen = 0;
      const isNew = shown === undefined || !isSameStep(shown, task);
      if (isNew && !isEnded(task)) yield { kind: 'state', record: toRecord(entry) };
      if (mayHaveChunks(task, isFirst, seen)) {
        for await (const batch of this.store.chunks.read(entry, seen, room)) {
          if (signal.aborted) return;
          yield { kind: 'chunks', batch };
          seen = batch.firstSequence + batch.count - 1;
        }
      }
      if (isEnded(task)) {
        yield { kind: 'state', record: toRecord(entry) };
        return;
      }
      isFirst = false;
      shown = task;
      const next = yield* this.untilNextStep(entry, seen, reader);
      if (next === undefined) return;
      entry = next.entry;
      seen = next.seen;
    }
  }

  /** The chunks that come, until the task's next step. */
  private async *untilNextStep(
    entry: TaskEntry,
    afterSequence: number,
    { signal, inbox, room }: Reader,
  ): AsyncGenerator<TaskEvent, { entry: TaskEntry | undefined; seen: number } | undefined> {
    const { key, task } = entry;
    let seen = afterSequence;
    let { revision, task: latest } = entry;
    for (;;) {
      const message = await inbox.next(signal, this.patienceMs(latest));
      if (message === undefined) return undefined;
      if (message === 'look') {
        const now = await this.store.current(key);
        if (now === undefined || !isSameStep(task, now.task)) return { entry: now, seen };
        revision = now.revision;
        latest = now.task;
        for await (const batch of this.missed(now, seen, room)) {
          yield { kind: 'chunks', batch };
          seen = batch.firstSequence + batch.count - 1;
        }
        continue;
      }
      if (message.subject.endsWith('.state')) {
        const now = readEntry(
          message.subject,
          Number(message.headers?.get('Nats-Sequence')),
          message.headers,
          message.data,
        );
        if (now === undefined || now.revision <= revision) continue;
        revision = now.revision;
        if (!isSameStep(task, now.task)) return { entry: now, seen };
        latest = now.task;
        continue;
      }
      const batch = readChunk(message.headers, message.data);
      if (batch === undefined || batch.run < task.run || batch.firstSequence + batch.count - 1 <= seen)
        continue;
      if (batch.run > task.run || task.state !== 'running') {
        // The new run's state comes on another way, and its chunks are stored.
        const now = await this.store.current(key);
        if (now === undefined || !isSameStep(task, now.task)) return { entry: now, seen };
        continue;
      }
      if (batch.firstSequence > seen + 1 || !batch.isWhole) {
        const before = batch.firstSequence + (batch.isWhole ? 0 : batch.count);
        for await (const missed of this.store.chunks.read(entry, seen, room, before))
          yield { kind: 'chunks', batch: missed };
      }
      seen = batch.firstSequence + batch.count - 1;
      const { run, firstSequence, count, payload } = batch;
      if (batch.isWhole) yield { kind: 'chunks', batch: { run, firstSequence, count, payload } };
    }
  }

  private missed(
    entry: TaskEntry,
    seen: number,
    room: ReaderRoom | undefined,
  ): AsyncIterable<ChunkBatch> | ChunkBatch[] {
    return entry.task.state === 'running' ? this.store.chunks.read(entry, seen, room) : [];
  }

  /** Until the next step that time alone makes, or silence. */
  private patienceMs(task: StoredTask): number {
    const nowMs = this.store.nowMs();
    const dueMs = Math.min(
      task.deadlineAtMs ?? Number.POSITIVE_INFINITY,
      task.state === 'running' ? task.leaseEndsAtMs : task.queuedSinceMs + this.store.settings.maxAgeMs,
    );
    return Math.max(1, Math.min(SILENCE_MS, dueMs - nowMs + 1));
  }
}

/** Chunks that nobody has told us of: of a run that is already under way, and of a result. */
function mayHaveChunks(task: StoredTask, isFirst: boolean, seen: number): boolean {
  if (task.run === 0) return false;
  if (task.state === 'done') return task.lastSequence > seen;
  return task.state === 'cancelled' || (task.state === 'running' && isFirst);
}

function isSameStep(a: StoredTask, b: StoredTask): boolean {
  return a.generation === b.generation && a.state === b.state && a.run === b.run && a.lostRuns === b.lostRuns;
}
