/** A task log in a file that the processes of one machine share. All of SQLite runs in a thread of its own. */
import { UnknownPageError } from '../log/log-errors.ts';
import {
  type Consumer,
  FREE_BATCH_BYTES,
  type ListOptions,
  type QueueStatus,
  type ReaderRoom,
  type SubmitOptions,
  type Submitted,
  type TaskEvent,
  type TaskLease,
  type TaskLog,
  type TaskPage,
} from '../log/task-log.ts';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import type { NewTask, TaskKey, TaskRecord } from '../log/task-record.ts';
import type { Leaving } from '../log/wanted.ts';
import { FileWake, wakePath } from './file-wake.ts';
import { LocalLease } from './local-lease.ts';
import { monotonicMs } from './log-clock.ts';
import { isPlace } from './readings.ts';
import type { WatchPosition } from './requests.ts';
import { bufferOf } from './task-rows.ts';
import { ThreadLink } from './thread-link.ts';

/**
 * Opens the file, or makes it.
 *
 * @throws LogSetupError when it can't be used as it is, with what to do
 */
export async function openLocalTaskLog(file: string, settings: TaskLogSettings): Promise<TaskLog> {
  const link = new ThreadLink({ file, settings });
  await link.open();
  return new LocalTaskLog(link, file);
}

const START: WatchPosition = { mark: '', generation: 0, afterSequence: 0 };

class LocalTaskLog implements TaskLog {
  onConnected: ((connected: boolean) => void) | undefined;
  private readonly link: ThreadLink;
  /** The leases that this process holds, by the ids of their tasks. */
  private readonly leases = new Map<number, LocalLease>();
  private readonly file: string;
  /** These want to know of new tasks, and the watch for changes of the file tells them. */
  private readonly listeners = new Set<() => void>();
  private wake: FileWake | undefined = undefined;

  constructor(link: ThreadLink, file: string) {
    this.link = link;
    this.file = file;
    link.onFenced = (task, fence, because) => {
      const lease = this.leases.get(task);
      if (lease?.held.fence === fence) lease.fence(because);
    };
    link.onConnected = (connected) => {
      if (connected)
        for (const { held } of this.leases.values()) void link.request('hold', { held }).catch(() => {});
      this.onConnected?.(connected);
    };
  }

  get connected(): boolean {
    return this.link.isConnected;
  }

  get storeId(): string {
    return this.link.identity;
  }

  nowMs(): number {
    return monotonicMs() + this.link.clockOffsetMs;
  }

  async submit(task: NewTask, options: SubmitOptions): Promise<Submitted> {
    const submitted = await this.link.request('submit', { task, options });
    return submitted.outcome === 'refused'
      ? submitted
      : { ...submitted, record: withBuffer(submitted.record) };
  }

  async take(
    agentTypes: readonly string[],
    holder: string,
    signal: AbortSignal,
  ): Promise<TaskLease | undefined> {
    if (signal.aborted) return undefined;
    const taken = await this.link.request('take', { agentTypes, holder }, signal);
    if (taken === undefined) return undefined;
    const lease = new LocalLease(this.link, taken, this.leases);
    if (signal.aborted) {
      // The thread gave it before it heard of the signal. Should this fail, the lease runs out.
      await lease.giveBack().catch(() => {});
      return undefined;
    }
    return lease;
  }

  async get(key: TaskKey): Promise<TaskRecord | undefined> {
    const record = await this.link.request('get', { key });
    return record && withBuffer(record);
  }

  async *answer({ key, generation }: Pick<TaskRecord, 'key' | 'generation'>): AsyncGenerator<Buffer> {
    for (let part = 0; ; part++) {
      const bytes = await this.link.request('answer', { key, generation, part });
      if (bytes === undefined) return;
      yield bufferOf(bytes);
    }
  }

  async *watch(
    key: TaskKey,
    afterSequence: number,
    signal: AbortSignal,
    room?: ReaderRoom,
  ): AsyncGenerator<TaskEvent> {
    let position: WatchPosition = { ...START, afterSequence };
    let maxBytes = FREE_BATCH_BYTES;
    while (!signal.aborted) {
      // One batch is under way at a time: a slow reader makes nobody store events for it.
      const watched = await this.link.request('watch', { key, position, maxBytes }, signal);
      if (watched === undefined) return;
      for (const event of watched.events) {
        if (signal.aborted) return;
        yield eventWithBuffer(event);
      }
      if (watched.isLast) return;
      position = watched.position;
      if (watched.neededBytes > 0) await room?.take(watched.neededBytes);
      else if (maxBytes > FREE_BATCH_BYTES) room?.give();
      maxBytes = Math.max(FREE_BATCH_BYTES, watched.neededBytes);
    }
  }

  async cancel(key: TaskKey, cause: string): Promise<TaskRecord | undefined> {
    const record = await this.link.request('cancel', { key, cause });
    return record && withBuffer(record);
  }

  async leave(key: TaskKey, waiter: string, leaving: Leaving): Promise<void> {
    await this.link.request('leave', { key, waiter, leaving });
  }

  async attend(sidecar: string): Promise<void> {
    await this.link.request('attend', { sidecar });
  }

  async list(options: ListOptions): Promise<TaskPage> {
    if (options.after !== undefined && !isPlace(options.after)) throw new UnknownPageError();
    const { records, next } = await this.link.request('list', options);
    return { records: records.map(withBuffer), next };
  }

  retryDead(key: TaskKey): Promise<boolean> {
    return this.link.request('retryDead', { key });
  }

  dropDead(key: TaskKey): Promise<boolean> {
    return this.link.request('dropDead', { key });
  }

  status(): Promise<readonly QueueStatus[]> {
    return this.link.request('status', {});
  }

  /** A change of the file may be anything: `onTask` is called for other types, too. */
  listen(_agentType: string, onTask: () => void): () => void {
    const tell = (): void => onTask();
    this.listeners.add(tell);
    this.wake ??= new FileWake(wakePath(this.file), () => {
      for (const listener of this.listeners) listener();
    });
    return () => {
      this.listeners.delete(tell);
      if (this.listeners.size === 0) this.deafen();
    };
  }

  private deafen(): void {
    this.wake?.close();
    this.wake = undefined;
  }

  async announce(consumer: Consumer): Promise<void> {
    await this.link.request('announce', { consumer });
  }

  consumers(agentType: string): Promise<readonly Consumer[]> {
    return this.link.request('consumers', { agentType });
  }

  async close(): Promise<void> {
    this.deafen();
    await this.link.close();
  }
}

function withBuffer(record: TaskRecord): TaskRecord {
  const { result } = record;
  return result?.short === undefined
    ? record
    : { ...record, result: { ...result, short: bufferOf(result.short) } };
}

function eventWithBuffer(event: TaskEvent): TaskEvent {
  return event.kind === 'state'
    ? { kind: 'state', record: withBuffer(event.record) }
    : { kind: 'chunks', batch: { ...event.batch, payload: bufferOf(event.batch.payload) } };
}
