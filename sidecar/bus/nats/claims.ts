/** Makes runs of deliveries: whoever writes the key first holds the lease. */
import { runsAlone } from '../log/lost-runs.ts';
import { NO_CHUNKS } from './chunks.ts';
import type { Delivery } from './delivery.ts';
import { KeyConflict } from './keys.ts';
import { NatsLease } from './nats-lease.ts';
import type { Store } from './store.ts';
import { isEnded, newStoredTask, type StoredTask, type TaskEntry, writeId } from './stored-task.ts';
import { dueStep, ended } from './task-steps.ts';

/** The revision of a key that is not there. */
const NO_KEY = 0;
const KEYLESS_CAUSE =
  'the bus has its request and no longer its state: it may have ended before, so look for its result before you retry it';

export class Claims {
  /** The leases that this log holds, by their names. */
  readonly leases = new Map<string, NatsLease>();
  private readonly store: Store;
  /** Cancels are told to us under this name. */
  private readonly log: string;

  constructor(store: Store, log: string) {
    this.store = store;
    this.log = log;
  }

  /** Starts the run of a delivered task; undefined when it must not run now, which the queue then knows. */
  async claim(delivery: Delivery, holder: string): Promise<NatsLease | undefined> {
    // A first delivery has its key as its publisher wrote it, or else the write says what it has become.
    let entry: TaskEntry = delivery.redelivered ? await this.read(delivery) : freshEntry(delivery);
    for (;;) {
      const { task } = entry;
      if (task.generation > delivery.generation || isEnded(task)) {
        const isOurs = task.generation === delivery.generation;
        if (isOurs && task.state === 'dead') await this.store.deadLetters.put(delivery, task.cause);
        this.store.queue.acknowledge(delivery);
        return undefined;
      }
      const sentMs = performance.now();
      const nowMs = this.store.nowMs();
      const due = this.dueStep(entry, delivery, nowMs);
      try {
        if (due !== undefined) {
          entry = await this.store.move(entry, due, isEnded(due) ? { delivery } : {});
          if (isEnded(due)) return undefined;
          continue;
        }
        const waitMs = (task.state === 'running' ? task.leaseEndsAtMs : task.notBeforeMs) - nowMs;
        if (waitMs > 0) {
          this.store.queue.release(delivery, waitMs);
          this.store.wake(delivery, waitMs + 1);
          return undefined;
        }
        const running = this.running(task, delivery, holder, nowMs);
        const untilMs = sentMs + this.store.settings.leaseMs;
        const started = await this.store.keys.write(delivery, entry.revision, running, { untilMs });
        if (this.store.lanesDiffer) this.store.queue.hold(delivery, this.store.settings.leaseMs);
        return await this.lease(started, delivery, sentMs);
      } catch (error) {
        if (!(error instanceof KeyConflict)) throw error;
        entry = ofDelivery(error.entry, delivery);
      }
    }
  }

  private async read(delivery: Delivery): Promise<TaskEntry> {
    return ofDelivery(await this.store.keys.read(delivery), delivery);
  }

  /**
   * The step that is due before a run. A task whose request is there without a key may have ended: its key goes when its time is
   * over, and the request stays where its acknowledgement was lost, or where the task was cancelled while nobody took any. Then it
   * becomes a dead letter: no second run, and no task that is lost. A young request that nobody has had was never run.
   */
  private dueStep({ revision, task }: TaskEntry, delivery: Delivery, nowMs: number): StoredTask | undefined {
    const due = dueStep(task, nowMs, this.store.settings);
    if (revision !== NO_KEY || due?.state === 'cancelled') return due;
    const mayHaveEnded = delivery.redelivered || nowMs - delivery.submittedAtMs >= this.store.leastKeptMs;
    return mayHaveEnded ? ended(task, 'dead', KEYLESS_CAUSE, nowMs) : due;
  }

  private running(
    task: StoredTask,
    { sequence, publisher, caller }: Delivery,
    holder: string,
    nowMs: number,
  ): Omit<StoredTask, 'write'> {
    return {
      ...task,
      // What the server has checked counts, and not what the key says.
      publisher,
      caller,
      state: 'running',
      run: task.run + 1,
      holder,
      startedAtMs: nowMs,
      startedBeforeMs: task.startedAtMs,
      lease: writeId(),
      leaseEndsAtMs: nowMs + this.store.settings.leaseMs,
      begun: !runsAlone(task),
      log: this.log,
      queued: sequence,
    };
  }

  private async lease(entry: TaskEntry, delivery: Delivery, sentMs: number): Promise<NatsLease | undefined> {
    const { store } = this;
    const { generation, run, lostRuns } = entry.task;
    const isFirst = run === 1 && lostRuns === 0 && !delivery.redelivered;
    const end = isFirst ? NO_CHUNKS : await store.chunks.fence(delivery, generation, run);
    const lease = new NatsLease(store, entry, delivery, end, sentMs, () =>
      this.leases.delete(entry.task.lease),
    );
    this.leases.set(entry.task.lease, lease);
    return lease;
  }

  /** Somebody has ended a run of ours. */
  told(lease: string): void {
    this.leases.get(lease)?.told();
  }
}

/** The task as its request says, at the revision that its publisher wrote. */
function freshEntry(delivery: Delivery): TaskEntry {
  const { key, revision, sequence, large } = delivery;
  const task = newStoredTask({ ...delivery, largeRequest: large }, sequence);
  return { key, revision, task: { ...task, write: '' }, body: Buffer.alloc(0) };
}

/** A key of a generation before can only be one that was restored from an older copy. */
function ofDelivery(entry: TaskEntry | undefined, delivery: Delivery): TaskEntry {
  if (entry !== undefined && entry.task.generation >= delivery.generation) return entry;
  return { ...freshEntry(delivery), revision: entry?.revision ?? NO_KEY };
}
