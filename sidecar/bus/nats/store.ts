/** The parts of a log on NATS, and the steps of a task that touch several of them. */

import type { TaskLogSettings } from '../log/task-log-settings.ts';
import type { TaskRecord } from '../log/task-record.ts';
import { Chunks } from './chunks.ts';
import type { BusConnection } from './connection.ts';
import { DeadLetters } from './dead-letters.ts';
import type { Delivery } from './delivery.ts';
import { KeyConflict, Keys } from './keys.ts';
import { LargeBodies } from './large-bodies.ts';
import { cancelSubject, REQUESTS, RESULTS, requestSubject, resultSubject, wakeSubject } from './names.ts';
import type { Provision } from './provision.ts';
import { Queue } from './queue.ts';
import { StoreSize } from './store-size.ts';
import { isEnded, nameOfEntry, type StoredTask, type TaskEntry } from './stored-task.ts';
import { dueStep } from './task-steps.ts';

export class Store {
  readonly connection: BusConnection;
  readonly settings: TaskLogSettings;
  readonly requests: LargeBodies;
  readonly results: LargeBodies;
  readonly keys: Keys;
  readonly queue: Queue;
  readonly chunks: Chunks;
  readonly deadLetters: DeadLetters;
  readonly size: StoreSize;
  readonly provision: Pick<Provision, 'ackWaitMs' | 'takes'>;

  constructor(
    connection: BusConnection,
    settings: TaskLogSettings,
    provision: Pick<Provision, 'ackWaitMs' | 'takes'>,
  ) {
    this.provision = provision;
    this.connection = connection;
    this.settings = settings;
    this.requests = new LargeBodies(connection, REQUESTS, LARGE_REQUEST_BYTES);
    this.results = new LargeBodies(connection, RESULTS, LARGE_ANSWER_BYTES);
    this.keys = new Keys(connection);
    this.queue = new Queue(connection, this.requests);
    this.chunks = new Chunks(connection);
    this.deadLetters = new DeadLetters(connection);
    this.size = new StoreSize(connection, settings.resultsMaxBytes);
  }

  /** Whether the lanes give tasks to others after another time than our lease. */
  get lanesDiffer(): boolean {
    return this.provision.ackWaitMs !== this.settings.leaseMs;
  }

  /** The key of a task that has ended is there for at least so long. */
  get leastKeptMs(): number {
    const { resultsMaxAgeMs, deadMaxAgeMs } = this.settings;
    return Math.min(resultsMaxAgeMs, deadMaxAgeMs);
  }

  nowMs(): number {
    return this.connection.clock.nowMs();
  }

  /** Tells those who wait that a task of this lane can be taken again. The server says so only of new ones. */
  wake({ agentType, lane }: Pick<Delivery, 'agentType' | 'lane'>, delayMs = 0): void {
    const subject = wakeSubject(agentType, lane);
    if (delayMs <= 0) this.connection.publish(subject);
    else setTimeout(() => this.connection.publish(subject), Math.min(delayMs, LONGEST_TIMER_MS)).unref();
  }

  /** The answer of a done task, in pieces; none when it is no longer kept. */
  async *answer({ key, generation }: Pick<TaskRecord, 'key' | 'generation'>): AsyncGenerator<Buffer> {
    const entry = await this.keys.find(key);
    if (entry === undefined || entry.task.result === null || entry.task.generation !== generation) return;
    const { large } = entry.task.result;
    if (large === '') yield entry.body;
    else yield* this.results.parts(resultSubject(nameOfEntry(entry), large));
  }

  /** The task as it is now, also where time has changed it and nobody has seen to it yet; dropped ones too. */
  async current(key: string, publisher?: string): Promise<TaskEntry | undefined> {
    let entry = await (publisher === undefined ? this.keys.find(key) : this.keys.read({ publisher, key }));
    while (entry !== undefined) {
      const next = dueStep(entry.task, this.nowMs(), this.settings);
      if (next === undefined) return entry;
      entry = await this.tryMove(entry, next);
    }
    return undefined;
  }

  /** Makes a step, or returns what another has made of the task in between. */
  async tryMove(entry: TaskEntry, next: Omit<StoredTask, 'write'>): Promise<TaskEntry | undefined> {
    try {
      return await this.move(entry, next);
    } catch (error) {
      if (error instanceof KeyConflict) return error.entry;
      throw error;
    }
  }

  /**
   * Makes a step of a task to the queue or to its end. A dead letter is stored before the key says so, and the queue
   * forgets a task after it. Rejects with KeyConflict.
   */
  async move(
    entry: TaskEntry,
    next: Omit<StoredTask, 'write'>,
    {
      delivery,
      body,
      untilMs,
      isOwn = false,
    }: { delivery?: Delivery; body?: Buffer; untilMs?: number; isOwn?: boolean } = {},
  ): Promise<TaskEntry> {
    const { revision, task } = entry;
    const name = nameOfEntry(entry);
    if (next.state === 'dead' && task.state !== 'dead') {
      const request = delivery ?? (await this.queue.find(entry));
      if (request !== undefined) await this.deadLetters.put(request, next.cause);
    }
    const options = {
      ...(body === undefined ? {} : { body }),
      ...(untilMs === undefined ? {} : { untilMs }),
      ...(isEndedState(next) ? { keptMs: this.keptMs(next) } : {}),
    };
    let written: TaskEntry;
    try {
      written = await this.keys.write(name, revision, next, options);
    } catch (error) {
      if (next.state === 'dead' && error instanceof KeyConflict && error.entry?.task.state !== 'dead')
        await this.deadLetters.remove(task.agentType, name).catch(() => {});
      throw error;
    }
    if (task.state === 'running' && !isOwn) this.connection.publish(cancelSubject(task.log), task.lease);
    if (isEnded(written.task)) await this.cleanUp(entry, written, delivery);
    return written;
  }

  /** A crash may leave it undone: then the next delivery of the task finds that, and the sweep. */
  private async cleanUp(
    { task: before }: TaskEntry,
    written: TaskEntry,
    delivery: Delivery | undefined,
  ): Promise<void> {
    const ignore = (): void => {};
    const { key, task } = written;
    if (delivery !== undefined) this.queue.acknowledge(delivery);
    else if (!isEnded(before)) {
      // One that is not known here leaves the queue when somebody takes it.
      const queued = task.queued === 0 ? this.queue.sequenceOf(key, task.generation) : task.queued;
      if (queued !== 0) await this.queue.remove(task.agentType, queued).catch(ignore);
    }
    if (task.largeRequest !== '' && task.state !== 'dead')
      void this.requests.remove(requestSubject(nameOfEntry(written), task.largeRequest)).catch(ignore);
  }

  private keptMs({ state }: Pick<StoredTask, 'state'>): number {
    if (state === 'dropped') return DROPPED_MS;
    return state === 'dead' ? this.settings.deadMaxAgeMs : this.settings.resultsMaxAgeMs;
  }
}

/** Whoever reads or watches a key gets all of it: larger answers have parts of their own. */
const LARGE_ANSWER_BYTES = 65_536;
/** Whoever takes a task gets the request that is in the queue: larger ones are read when there is room for them. */
const LARGE_REQUEST_BYTES = 262_144;
const LONGEST_TIMER_MS = 2_147_483_647;
/** For longer than the queue knows the ids of the task's generations. */
const DROPPED_MS = 300_000;

const isEndedState = (task: Omit<StoredTask, 'write'>): boolean => isEnded(task as StoredTask);
