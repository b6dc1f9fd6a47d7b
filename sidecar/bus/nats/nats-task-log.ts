/** A task log on NATS JetStream, for the sidecars of several machines. */
import { randomUUID } from 'node:crypto';
import type { JetStreamManager } from '@nats-io/jetstream';
import { LogUnavailableError } from '../log/log-errors.ts';
import type {
  Consumer,
  ListOptions,
  QueueStatus,
  SubmitOptions,
  Submitted,
  TaskEvent,
  TaskLease,
  TaskLog,
  TaskPage,
} from '../log/task-log.ts';
import type { NewTask, TaskKey, TaskRecord } from '../log/task-record.ts';
import { Claims } from './claims.ts';
import { BusConnection } from './connection.ts';
import { Demand } from './demand.ts';
import { Listing } from './listing.ts';
import { cancelSubject, wakeSubjects } from './names.ts';
import type { NatsLease } from './nats-lease.ts';
import type { NatsOptions } from './nats-options.ts';
import { Presence } from './presence.ts';
import { Store } from './store.ts';
import { ensureLanes, ensureStream, queueConfig, streamConfigs } from './streams.ts';
import { Submissions } from './submissions.ts';
import { ended } from './task-steps.ts';
import { Watching } from './watching.ts';

/** The first connection is waited for so long. */
const OPEN_MS = 5_000;

/** @throws LogSetupError or LogUnavailableError, whose messages say what to do */
export async function openNatsLog(options: NatsOptions): Promise<NatsTaskLog> {
  const log = new NatsTaskLog(options);
  await log.open();
  return log;
}

class NatsTaskLog implements TaskLog {
  onConnected: ((connected: boolean) => void) | undefined;
  private readonly options: NatsOptions;
  /** Where cancels of our runs are told to us. */
  private readonly id = randomUUID();
  private readonly connection: BusConnection;
  private readonly store: Store;
  private readonly claims: Claims;
  private readonly demand: Demand<NatsLease>;
  private readonly submissions: Submissions;
  private readonly watching: Watching;
  private readonly listing: Listing;
  private readonly presence: Presence;
  /** Queues that are known to be there, with their lanes where we take tasks. */
  private readonly queues = new Map<string, Promise<void>>();
  private readonly lanes = new Map<string, Promise<void>>();
  private isListening = false;

  constructor(options: NatsOptions) {
    this.options = options;
    const { settings } = options;
    this.connection = new BusConnection(options, (jsm) => this.prepare(jsm));
    this.store = new Store(this.connection, settings);
    this.claims = new Claims(this.store, this.id);
    this.demand = new Demand(this.connection, this.store.queue, (delivery, holder) =>
      this.claims.claim(delivery, holder),
    );
    this.submissions = new Submissions(this.store, (agentType) => this.needQueue(agentType));
    this.watching = new Watching(this.store);
    this.listing = new Listing(this.store);
    this.presence = new Presence(this.connection, settings.leaseMs);
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

  submit(task: NewTask, options: SubmitOptions): Promise<Submitted> {
    return this.submissions.submit(task, options);
  }

  async take(
    agentTypes: readonly string[],
    holder: string,
    signal: AbortSignal,
  ): Promise<TaskLease | undefined> {
    if (signal.aborted) return undefined;
    await Promise.all(agentTypes.map((agentType) => this.needLanes(agentType)));
    if (signal.aborted) return undefined;
    if (!this.connected) throw this.connection.awayError();
    return this.demand.take(agentTypes, holder, signal);
  }

  async get(key: TaskKey): Promise<TaskRecord | undefined> {
    const entry = await this.store.current(key);
    if (entry === undefined || entry.task.state === 'dropped') return undefined;
    const record = await this.store.keys.record(entry);
    if (record.state !== 'running' && record.lostRuns === 0) return record;
    if (record.state === 'done') return record;
    const { lastSequence } = await this.store.chunks.end(key, record.generation);
    return { ...record, lastSequence: Math.max(lastSequence, record.lastSequence) };
  }

  watch(key: TaskKey, afterSequence: number, signal: AbortSignal): AsyncIterable<TaskEvent> {
    return this.watching.watch(key, afterSequence, signal);
  }

  async cancel(key: TaskKey, cause: string): Promise<TaskRecord | undefined> {
    for (;;) {
      const entry = await this.store.current(key);
      if (entry === undefined || entry.task.state === 'dropped') return undefined;
      const { task } = entry;
      if (task.state !== 'queued' && task.state !== 'running') return this.store.keys.record(entry);
      // Behind the fence nothing of the run is stored, so that its last sequence is known.
      const end =
        task.state === 'running'
          ? await this.store.chunks.fence(key, task.generation, task.run + 1)
          : { lastSequence: task.lastSequence };
      const next = { ...ended(task, 'cancelled', cause, this.nowMs()), lastSequence: end.lastSequence };
      const moved = await this.store.tryMove(entry, next);
      if (moved?.task.state === 'cancelled') return this.store.keys.record(moved);
    }
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
    this.demand.close();
    this.watching.fail(new LogUnavailableError('the bus was closed', false));
    this.store.queue.close();
    await this.connection.close();
  }

  /** At each connection: the server may be a new one. */
  private async prepare(jsm: JetStreamManager): Promise<void> {
    const { settings, replicas = 1 } = this.options;
    for (const config of streamConfigs(settings, replicas)) await ensureStream(jsm, config);
    for (const agentType of this.queues.keys())
      await ensureStream(jsm, queueConfig(agentType, settings, replicas));
    for (const agentType of this.lanes.keys())
      this.store.ackWaitMs = await ensureLanes(jsm, agentType, settings);
    if (this.isListening) return;
    this.isListening = true;
    this.connection.subscribe(cancelSubject(this.id), (message) => this.claims.told(message.string()));
  }

  private needQueue(agentType: string): Promise<void> {
    return once(this.queues, agentType, () =>
      this.connection.manage((jsm) =>
        ensureStream(jsm, queueConfig(agentType, this.options.settings, this.options.replicas ?? 1)),
      ),
    );
  }

  private needLanes(agentType: string): Promise<void> {
    return once(this.lanes, agentType, async () => {
      await this.needQueue(agentType);
      this.store.ackWaitMs = await this.connection.manage((jsm) =>
        ensureLanes(jsm, agentType, this.options.settings),
      );
    });
  }
}

/** Does something once for each name; again after a failure. */
function once(done: Map<string, Promise<void>>, name: string, act: () => Promise<void>): Promise<void> {
  let doing = done.get(name);
  if (doing === undefined) {
    doing = act().catch((error: unknown) => {
      done.delete(name);
      throw error;
    });
    done.set(name, doing);
  }
  return doing;
}
