/** A run of a task that this log holds: each of its steps is a write of the key at the revision of the one before. */

import { setTimeout as sleep } from 'node:timers/promises';
import { FencedError, LogSetupError } from '../log/log-errors.ts';
import type { TaskLease } from '../log/task-log.ts';
import type { Answer, TaskRecord } from '../log/task-record.ts';
import type { ChunkEnd } from './chunks.ts';
import { DeadlineTimer } from './deadline-timer.ts';
import type { Delivery } from './delivery.ts';
import { KeyConflict } from './keys.ts';
import { resultSubject } from './names.ts';
import { RunChunks } from './run-chunks.ts';
import type { Store } from './store.ts';
import { type StoredTask, type TaskEntry, toRecord } from './stored-task.ts';
import { DEADLINE_CAUSE, ended, givenBack, lost } from './task-steps.ts';

/** For so long the agent goes on at its deadline while the bus is asked whether that still holds. */
const LOOK_MS = 100;

/** `over`: ended by us. `fenced`: by others, or by time. */
type State = 'held' | 'over' | 'fenced';

export class NatsLease implements TaskLease {
  readonly record: TaskRecord;
  readonly requestBytes: number;
  private readonly store: Store;
  private readonly delivery: Delivery;
  private readonly cancelling = new AbortController();
  private readonly onEnd: () => void;
  private state: State = 'held';
  private fence: FencedError | undefined;
  private entry: TaskEntry;
  private readonly chunks: RunChunks;
  private readonly deadline = new DeadlineTimer(() => void this.passDeadline());
  /** Writes of the key are made one after the other. */
  private keyTurn: Promise<unknown> = Promise.resolve();
  /** On the monotonic clock, counted from when the write that gave it was sent. */
  private heldUntilMs: number;

  constructor(
    store: Store,
    entry: TaskEntry,
    delivery: Delivery,
    end: ChunkEnd,
    sentMs: number,
    onEnd: () => void,
  ) {
    this.store = store;
    this.entry = entry;
    this.delivery = delivery;
    this.requestBytes = entry.task.requestBytes;
    this.onEnd = onEnd;
    this.record = { ...toRecord(entry), lastSequence: end.lastSequence };
    this.chunks = new RunChunks(store, this.record, end, {
      check: () => this.check(),
      confirm: () => this.confirm(),
      heldUntilMs: () => this.heldUntilMs,
    });
    this.heldUntilMs = sentMs + store.settings.leaseMs;
    this.watchDeadline();
  }

  get cancelled(): AbortSignal {
    return this.cancelling.signal;
  }

  async request(): Promise<Buffer> {
    const payload = await this.store.queue.payload(this.delivery);
    if (payload !== undefined) return payload;
    // The task has ended without us, and its request with it; or it is lost, and nobody can run it.
    await this.confirm();
    throw new LogSetupError('its request is no longer on the bus: submit it again');
  }

  async begin(): Promise<void> {
    if (this.entry.task.begun) return this.check();
    await this.extend();
  }

  extend(): Promise<void> {
    return this.step(async () => {
      const sentMs = performance.now();
      const { leaseMs } = this.store.settings;
      const leaseEndsAtMs = this.store.nowMs() + leaseMs;
      const { revision, task } = this.entry;
      const next = { ...task, begun: true, leaseEndsAtMs, lastSequence: this.chunks.lastSequence };
      this.entry = await this.store.keys.write(this.record, revision, next);
      this.heldUntilMs = sentMs + leaseMs;
      this.store.queue.hold(this.delivery, leaseMs);
    });
  }

  write(count: number, payload: Buffer): Promise<void> {
    return this.chunks.write(count, payload);
  }

  async settle({ status, payload }: Answer): Promise<void> {
    await this.chunks.written();
    await this.finish(async (task) => {
      const { results } = this.store;
      const large = results.isLarge(payload)
        ? await results.put((id) => resultSubject(this.record, id), payload, this.heldUntilMs)
        : '';
      this.store.size.add(payload.length);
      const next = {
        ...task,
        state: 'done',
        holder: '',
        endedAtMs: this.store.nowMs(),
        lastSequence: this.chunks.lastSequence,
        result: {
          status,
          large,
          bytes: payload.length,
          lastSequence: this.chunks.hasWritten ? this.chunks.lastSequence : 0,
        },
      } as const;
      return { next, body: large === '' ? payload : Buffer.alloc(0) };
    });
  }

  async giveBack(): Promise<void> {
    await this.chunks.written();
    const { lastSequence } = this.chunks;
    await this.finish(async (task) => ({
      next: givenBack({ ...task, lastSequence }, this.store.nowMs(), this.chunks.hasWritten),
    }));
    this.store.queue.release(this.delivery, 0);
    this.store.wake(this.delivery);
  }

  async lose(cause: string): Promise<void> {
    await this.chunks.written();
    const { settings } = this.store;
    const { state, notBeforeMs } = await this.finish(async (task) => ({
      next: lost({ ...task, lastSequence: this.chunks.lastSequence }, cause, this.store.nowMs(), settings),
    }));
    if (state !== 'queued') return;
    const delayMs = Math.max(0, notBeforeMs - this.store.nowMs());
    this.store.queue.release(this.delivery, delayMs);
    this.store.wake(this.delivery, delayMs);
  }

  async bury(cause: string): Promise<void> {
    await this.finish(async (task) => ({ next: ended(task, 'dead', cause, this.store.nowMs()) }));
  }

  /** The run no longer counts. */
  fenced(error: FencedError): void {
    if (this.state !== 'held') return;
    this.state = 'fenced';
    this.fence = error;
    this.letGo();
    this.cancelling.abort(error);
  }

  /** The last step of the run. A key that says so already is an answer that was lost. */
  private finish(
    make: (task: StoredTask) => Promise<{ next: Omit<StoredTask, 'write'>; body?: Buffer }>,
  ): Promise<StoredTask> {
    return this.step(async () => {
      const made = await make(this.entry.task);
      const delivery = made.next.state === 'queued' ? {} : { delivery: this.delivery };
      const options = {
        ...delivery,
        isOwn: true,
        ...(made.body === undefined ? {} : { body: made.body }),
        untilMs: this.heldUntilMs,
      };
      try {
        this.entry = await this.store.move(this.entry, made.next, options);
      } catch (error) {
        if (!(error instanceof KeyConflict && this.hasMade(error.entry, made.next))) throw error;
        this.store.queue.acknowledge(this.delivery);
      }
      this.state = 'over';
      this.letGo();
      return this.entry.task;
    });
  }

  /** An attempt before, whose answer was lost, has made this very step. */
  private hasMade(entry: TaskEntry | undefined, next: Omit<StoredTask, 'write'>): boolean {
    return next.state === 'done' && entry?.task.state === 'done' && entry.task.lease === next.lease;
  }

  private step<T>(change: () => Promise<T>): Promise<T> {
    const done = this.keyTurn.then(async () => {
      this.check();
      for (;;) {
        try {
          return await change();
        } catch (error) {
          if (!(error instanceof KeyConflict)) throw error;
          this.adopt(error.entry);
        }
      }
    });
    this.keyTurn = done.catch(() => {});
    return done;
  }

  /** Somebody has said that the run no longer counts; the key knows. */
  told(): void {
    this.keyTurn = this.keyTurn
      .then(() => (this.state === 'held' ? this.confirm() : undefined))
      .catch(() => {});
  }

  private async confirm(): Promise<void> {
    this.adopt(await this.store.keys.read(this.record));
  }

  /** Takes the key's present revision, or throws when it is no longer ours. */
  private adopt(entry: TaskEntry | undefined): void {
    const isOurs = entry?.task.state === 'running' && entry.task.lease === this.entry.task.lease;
    if (isOurs) {
      this.entry = entry;
      this.watchDeadline();
      return;
    }
    const { key, run, generation } = this.record;
    const isCancelled = entry?.task.state === 'cancelled' && entry.task.generation === generation;
    this.fenced(new FencedError(key, run, isCancelled ? 'cancelled' : 'lost'));
    this.check();
  }

  private check(): void {
    if (this.fence !== undefined) throw this.fence;
    if (this.state === 'over') throw new FencedError(this.record.key, this.record.run, 'lost');
  }

  private watchDeadline(): void {
    const { deadlineAtMs } = this.entry.task;
    if (deadlineAtMs === null || this.state !== 'held') this.deadline.stop();
    else this.deadline.start(deadlineAtMs - this.store.nowMs());
  }

  /** A caller that has joined may have moved it: the key says so. */
  private async passDeadline(): Promise<void> {
    const reading = this.store.keys.read(this.record).catch(() => undefined);
    const now = await Promise.race([reading, sleep(LOOK_MS, undefined)]);
    const isOurs = now?.task.state === 'running' && now.task.lease === this.entry.task.lease;
    if (isOurs && now.revision > this.entry.revision) this.entry = now;
    const { deadlineAtMs } = this.entry.task;
    if (deadlineAtMs === null || deadlineAtMs > this.store.nowMs()) this.watchDeadline();
    else this.endAtDeadline();
  }

  /** The agent hears of it at once, the bus when it can be reached. */
  private endAtDeadline(): void {
    if (this.state !== 'held') return;
    const { key, run } = this.record;
    this.fenced(new FencedError(key, run, 'cancelled'));
    const { delivery, heldUntilMs: untilMs } = this;
    // Where this fails, whoever looks at the task next sees to it.
    this.keyTurn
      .then(() => {
        const { task } = this.entry;
        const nowMs = Math.max(this.store.nowMs(), task.deadlineAtMs ?? 0);
        const next = ended(task, 'cancelled', DEADLINE_CAUSE, nowMs);
        return this.store.move(this.entry, next, { delivery, untilMs, isOwn: true });
      })
      .catch(() => {});
  }

  private letGo(): void {
    this.deadline.stop();
    this.onEnd();
  }
}
