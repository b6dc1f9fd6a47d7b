/** A task log on NATS JetStream, for the sidecars of several machines. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JetStreamManager } from '@nats-io/jetstream';
import { LogUnavailableError } from '../log/log-errors.ts';
import type {
  Consumer,
  ListOptions,
  QueueStatus,
  ReaderRoom,
  SubmitOptions,
  Submitted,
  TaskEvent,
  TaskLease,
  TaskLog,
  TaskPage,
} from '../log/task-log.ts';
import type { NewTask, TaskKey, TaskRecord } from '../log/task-record.ts';
import type { Leaving } from '../log/wanted.ts';
import { Callers } from './callers.ts';
import { Claims } from './claims.ts';
import { BusConnection } from './connection.ts';
import { Demand } from './demand.ts';
import { Listing } from './listing.ts';
import { cancelSubject, KEYS, wakeSubjects } from './names.ts';
import type { NatsLease } from './nats-lease.ts';
import type { NatsOptions } from './nats-options.ts';
import { Presence } from './presence.ts';
import { Provision } from './provision.ts';
import { Store } from './store.ts';
import { toRecord } from './stored-task.ts';
import { Submissions } from './submissions.ts';
import { Sweep } from './sweep.ts';
import { Watching } from './watching.ts';

/** The first connection is waited for so long. */
const OPEN_MS = 5_000;
/** At its close, a server that says nothing is waited for so long. */
const LONGEST_DRAIN_MS = 1_000;

/** @throws LogSetupError or LogUnavailableError, whose messages say what to do */
export async function openNatsLog(options: NatsOptions): Promise<NatsTaskLog> {
  const log = new NatsTaskLog(options);
  await log.open();
  return log;
}

class NatsTaskLog implements TaskLog {
  onConnected: ((connected: boolean) => void) | undefined;
  /** Cancels of our runs are told to us under this name. */
  private readonly id = randomUUID();
  private readonly connection: BusConnection;
  private readonly provision: Provision;
  private readonly store: Store;
  private readonly claims: Claims;
  private readonly callers: Callers;
  private readonly demand: Demand<NatsLease>;
  private readonly submissions: Submissions;
  private readonly watching: Watching;
  private readonly listing: Listing;
  private readonly presence: Presence;
  private readonly sweep: Sweep;
  private isListening = false;
  /** When the stream of the keys was made. */
  private created: string | undefined = undefined;

  constructor(options: NatsOptions) {
    const { settings } = options;
    this.connection = new BusConnection(options, (jsm) => this.prepare(jsm));
    this.provision = new Provision(options, () => this.connection);
    this.store = new Store(this.connection, settings, this.provision);
    this.claims = new Claims(this.store, this.id);
    this.demand = new Demand(this.connection, this.store.queue, (delivery, holder) =>
      this.claims.claim(delivery, holder),
    );
    this.watching = new Watching(this.store);
    this.presence = new Presence(this.connection, settings.leaseMs);
    this.callers = new Callers(this.store, (sidecar) => this.presence.isAttending(sidecar));
    this.submissions = new Submissions(this.store, this.callers, this.watching, (agentType) =>
      this.provision.needQueue(agentType),
    );
    this.listing = new Listing(this.store);
    this.sweep = new Sweep(this.store);
    this.connection.onConnected = (connected) => {
      if (connected) this.demand.lookEverywhere();
      else {
        const error = this.connection.awayError();
        this.store.queue.resetPulls();
        this.demand.fail(error);
        this.watching.fail(error);
      }
      this.onConnected?.(connected);
    };
  }

  async open(): Promise<void> {
    await this.connection.open(OPEN_MS);
  }

  nowMs(): number {
    return Math.floor(this.store.nowMs());
  }

  get connected(): boolean {
    return this.connection.connected;
  }

  get notices(): readonly string[] {
    return [...this.provision.differences];
  }

  get storeId(): string | undefined {
    return this.created;
  }

  submit(task: NewTask, options: SubmitOptions): Promise<Submitted> {
    return this.submissions.submit(task, options);
  }

  async take(
    agentTypes: readonly string[],
    holder: string,
    signal: AbortSignal,
  ): Promise<TaskLease | undefined> {
    if (signal.aborted) return undefined;
    await Promise.all(agentTypes.map((agentType) => this.provision.needLanes(agentType)));
    this.sweep.start();
    if (signal.aborted) return undefined;
    if (!this.connected) throw this.connection.awayError();
    return this.demand.take(agentTypes, holder, signal);
  }

  async get(key: TaskKey): Promise<TaskRecord | undefined> {
    const entry = await this.store.current(key);
    if (entry === undefined) await this.connection.manage((jsm) => this.identify(jsm));
    if (entry === undefined || entry.task.state === 'dropped') return undefined;
    const record = toRecord(entry);
    // Of a run that did not end by itself the key may not know what it wrote.
    if (record.state === 'done' || (record.run === 0 && record.lostRuns === 0)) return record;
    const { lastSequence } = await this.store.chunks.end(record, record.generation);
    return { ...record, lastSequence: Math.max(lastSequence, record.lastSequence) };
  }

  answer(task: Pick<TaskRecord, 'key' | 'generation'>): AsyncIterable<Buffer> {
    return this.store.answer(task);
  }

  watch(
    key: TaskKey,
    afterSequence: number,
    signal: AbortSignal,
    room?: ReaderRoom,
  ): AsyncIterable<TaskEvent> {
    return this.watching.watch(key, afterSequence, signal, room);
  }

  async cancel(key: TaskKey, cause: string): Promise<TaskRecord | undefined> {
    for (;;) {
      const entry = await this.store.current(key);
      if (entry === undefined || entry.task.state === 'dropped') return undefined;
      const { task } = entry;
      if (task.state !== 'queued' && task.state !== 'running') return toRecord(entry);
      const moved = await this.callers.tryCancel(entry, cause);
      if (moved?.task.state === 'cancelled') return toRecord(moved);
    }
  }

  leave(key: TaskKey, waiter: string, leaving: Leaving): Promise<void> {
    return this.callers.leave(key, waiter, leaving);
  }

  attend(sidecar: string): Promise<void> {
    return this.presence.attend(sidecar);
  }

  list(options: ListOptions): Promise<TaskPage> {
    return this.listing.list(options);
  }

  retryDead(key: TaskKey): Promise<boolean> {
    return this.submissions.retryDead(key);
  }

  dropDead(key: TaskKey): Promise<boolean> {
    return this.submissions.dropDead(key);
  }

  status(): Promise<readonly QueueStatus[]> {
    return this.listing.status();
  }

  listen(agentType: string, onTask: () => void): () => void {
    const told = this.connection.subscribe(wakeSubjects(agentType), onTask);
    return () => told.unsubscribe();
  }

  announce(consumer: Consumer): Promise<void> {
    return this.presence.announce(consumer);
  }

  consumers(agentType: string): Promise<readonly Consumer[]> {
    return this.presence.consumers(agentType);
  }

  async close(): Promise<void> {
    this.sweep.stop();
    await Promise.race([this.demand.close(), sleep(LONGEST_DRAIN_MS, undefined, { ref: false })]);
    this.watching.fail(new LogUnavailableError('the bus was closed', false));
    this.store.queue.close();
    await this.connection.close();
  }

  private async prepare(jsm: JetStreamManager): Promise<void> {
    await this.provision.prepare(jsm);
    await this.identify(jsm);
    if (this.isListening) return;
    this.isListening = true;
    this.connection.subscribe(cancelSubject(this.id), (message) => this.claims.told(message.string()));
  }

  /** A stream that was deleted and made again has none of the tasks of before. */
  private async identify(jsm: JetStreamManager): Promise<void> {
    this.created = (await jsm.streams.info(KEYS)).created;
  }
}
