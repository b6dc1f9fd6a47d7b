/** Submits tasks: stores, joins or refuses them, and gives dead ones another generation. */
import { LogUnavailableError } from '../log/log-errors.ts';
import type { FullPart, SubmitOptions, Submitted } from '../log/task-log.ts';
import type { NewTask, TaskKey } from '../log/task-record.ts';
import { type Wish, wantedBy } from '../log/wanted.ts';
import type { Callers } from './callers.ts';
import { eachHead } from './heads.ts';
import { KeyConflict } from './keys.ts';
import { queueStream, requestSubject } from './names.ts';
import type { Enqueued } from './queue.ts';
import { QueuedBytes } from './queued-bytes.ts';
import type { Store } from './store.ts';
import { finite, isEnded, nameOfEntry, newStoredTask, type TaskEntry, toRecord } from './stored-task.ts';
import type { Watching } from './watching.ts';

/** A submit without a deadline tries so long to hear of its outcome. */
const LONGEST_TRY_MS = 30_000;
/** Beyond this many, only an agent that takes tasks begins a queue for its type. */
const MOST_AGENT_TYPES = 256;

export class Submissions {
  private readonly store: Store;
  private readonly callers: Callers;
  private readonly bytes: QueuedBytes;
  private readonly known = new Set<string>();
  private readonly watching: Pick<Watching, 'prepare' | 'stored' | 'unprepare'>;
  private readonly needQueue: (agentType: string) => Promise<void>;

  constructor(
    store: Store,
    callers: Callers,
    watching: Pick<Watching, 'prepare' | 'stored' | 'unprepare'>,
    needQueue: (agentType: string) => Promise<void>,
  ) {
    this.store = store;
    this.callers = callers;
    this.bytes = new QueuedBytes(store.settings, (visit) =>
      // Whoever may see no others counts its own.
      eachHead(
        store.connection,
        { publisher: store.provision.takes ? undefined : store.connection.publisher },
        visit,
      ),
    );
    this.watching = watching;
    this.needQueue = needQueue;
  }

  async submit(
    task: NewTask,
    { joinEndedForMs, isWatched = false, waiter }: SubmitOptions,
  ): Promise<Submitted> {
    const untilMs = performance.now() + Math.min(task.timeLeftMs, LONGEST_TRY_MS);
    const wish = this.wishOf(task, waiter);
    // A submit that has begun waits for the bus; one that has not says so at once.
    if (!this.store.connection.connected) throw this.store.connection.awayError();
    const full = await this.fullPart(task);
    // Most tasks are new: their keys are written unread.
    let before = full !== undefined ? await this.store.current(task.key, task.publisher) : undefined;
    for (;;) {
      try {
        if (before !== undefined && this.isJoined(before, joinEndedForMs))
          return await this.join(task, before, wish, untilMs);
        if (full !== undefined) return { outcome: 'refused', reason: full };
        return await this.enqueue(task, before, wish, untilMs, isWatched);
      } catch (error) {
        if (!(error instanceof KeyConflict)) throw error;
        before = await this.store.current(task.key, task.publisher);
      }
    }
  }

  /** Returns what has no room for another task. Its queue is there where all have. */
  private async fullPart({ agentType, caller, payload }: NewTask): Promise<FullPart | undefined> {
    if (!(await this.mayHaveQueue(agentType))) return 'types_full';
    await this.needQueue(agentType);
    if (await this.store.size.isFull()) return 'store_full';
    return this.bytes.fullPart(caller, payload.length);
  }

  /** Callers name agent types, and each has a stream of its own: those that no agent has ever served are few. */
  private async mayHaveQueue(agentType: string): Promise<boolean> {
    if (this.known.has(agentType)) return true;
    const streams = new Set<string>();
    await this.store.connection.manage(async (jsm) => {
      for await (const name of jsm.streams.names('outrigger.tasks.>')) streams.add(name);
    });
    if (!streams.has(queueStream(agentType)) && streams.size >= MOST_AGENT_TYPES) return false;
    this.known.add(agentType);
    return true;
  }

  async retryDead(key: TaskKey): Promise<boolean> {
    const dead = await this.store.current(key);
    if (dead?.task.state !== 'dead') return false;
    const { digest, agentType, publisher, caller } = dead.task;
    const letter = await this.store.deadLetters.get(agentType, nameOfEntry(dead));
    const payload =
      letter === undefined || letter.large === ''
        ? letter?.body
        : await this.store.requests.get(requestSubject(nameOfEntry(dead), letter.large));
    if (payload === undefined) return false;
    await this.needQueue(agentType);
    // Its caller waits no longer, so the deadline of that time means nothing.
    const task = { key, digest, agentType, publisher, caller, timeLeftMs: Number.POSITIVE_INFINITY, payload };
    const wish = this.wishOf(task, undefined);
    const submitted = await this.enqueue(task, dead, wish, performance.now() + LONGEST_TRY_MS);
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

  /**
   * The key first, so that whoever takes the request knows its revision. Accepted is what the queue has stored. Rejects with
   * KeyConflict.
   */
  private async enqueue(
    task: NewTask,
    before: TaskEntry | undefined,
    wish: Wish,
    untilMs: number,
    isWatched = false,
  ): Promise<Submitted> {
    const { key, digest, agentType, publisher, caller } = task;
    const generation = (before?.task.generation ?? 0) + 1;
    const largeRequest = await this.store.queue.putParts(task, untilMs);
    const { length: requestBytes } = task.payload;
    const parties = { digest, agentType, publisher, caller, generation, requestBytes, largeRequest };
    const submittedAtMs = this.store.nowMs();
    const deadlineAtMs = finite(wish.deadlineAtMs);
    const stored = newStoredTask({ ...parties, submittedAtMs, deadlineAtMs, wanted: wantedBy(wish) }, 0);
    let entry: TaskEntry;
    if (isWatched) this.watching.prepare(task);
    try {
      entry = await this.store.keys.write(task, before?.revision ?? 0, stored, { untilMs });
    } catch (error) {
      if (isWatched) this.watching.unprepare(key);
      this.store.queue.removeParts(task, largeRequest);
      throw error;
    }
    try {
      const queued = await this.queue(task, entry, untilMs);
      if (queued.refused === undefined) {
        this.watching.stored(entry);
        this.bytes.add(caller, task.payload.length);
        return { outcome: 'stored', record: toRecord(entry) };
      }
      if (isWatched) this.watching.unprepare(key);
      await this.drop(entry);
      return { outcome: 'refused', reason: queued.refused };
    } catch (error) {
      if (isWatched) this.watching.unprepare(key);
      // The server forbids it: nothing is kept of it.
      if (!(error instanceof LogUnavailableError)) await this.drop(entry);
      throw error;
    }
  }

  private wishOf({ timeLeftMs }: NewTask, waiter: string | undefined): Wish {
    const nowMs = this.store.nowMs();
    return {
      waiter,
      waitsUntilMs: nowMs + this.store.settings.leaseMs,
      deadlineAtMs: nowMs + timeLeftMs,
    };
  }

  private async drop(entry: TaskEntry): Promise<void> {
    await this.store.tryMove(entry, { ...entry.task, state: 'dropped' });
  }

  /** A task that nobody has taken yet may have lost its publisher before the queue had it: it is sent again. */
  private async join(task: NewTask, before: TaskEntry, wish: Wish, untilMs: number): Promise<Submitted> {
    const entry = await this.callers.join(before, wish, untilMs);
    if (entry.task.state === 'queued' && entry.task.queued === 0) {
      const queued = await this.queue(task, entry, untilMs);
      if (queued.refused !== undefined) return { outcome: 'refused', reason: queued.refused };
      // A sweep may have dropped the key before its request was there.
      const now = await this.store.keys.read(task);
      if (now === undefined || now.task.state === 'dropped') throw new KeyConflict(now);
    }
    return { outcome: 'joined', record: toRecord(entry) };
  }

  private async queue(task: NewTask, entry: TaskEntry, untilMs: number): Promise<Enqueued> {
    try {
      return await this.store.queue.put(task, entry, untilMs);
    } catch (error) {
      // Its key is there, and an answer may be lost.
      if (error instanceof LogUnavailableError) throw new LogUnavailableError(error.message, true, error);
      throw error;
    }
  }

  private async forget(dead: TaskEntry): Promise<void> {
    const { task } = dead;
    const name = nameOfEntry(dead);
    await this.store.deadLetters.remove(task.agentType, name);
    if (task.largeRequest !== '') await this.store.requests.remove(requestSubject(name, task.largeRequest));
  }

  private isJoined({ task }: TaskEntry, joinEndedForMs: number): boolean {
    if (!isEnded(task)) return true;
    return task.state === 'done' && this.store.nowMs() - task.endedAtMs <= joinEndedForMs;
  }
}
