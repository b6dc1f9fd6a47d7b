/** A log that is there from the start of the sidecar to its end, while the engine behind it comes, goes and is replaced. */

import { HeldLeases } from './held-leases.ts';
import { LogUnavailableError } from './log/log-errors.ts';
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
} from './log/task-log.ts';
import type { NewTask, TaskKey, TaskRecord } from './log/task-record.ts';
import type { Leaving } from './log/wanted.ts';

type OpenEngine = () => Promise<TaskLog>;

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** A call that comes while the engine is opened for the first time waits so long for it. */
const FIRST_TRY_MS = 10_000;

/** Wants to know of new tasks, from one engine after the other. */
interface Listener {
  readonly agentType: string;
  readonly onTask: () => void;
  stop: () => void;
}

interface Engine {
  readonly log: TaskLog;
  readonly leases: HeldLeases;
  /** Aborts when another engine takes its place. */
  readonly replaced: AbortController;
}

/**
 * Opens its engine, again and again until that works. While there is none, every method rejects with LogUnavailableError.
 * A change of the settings opens another engine: waits and watches go on there, runs end where they began.
 */
export class StandingLog implements TaskLog {
  onConnected: ((connected: boolean) => void) | undefined = undefined;
  /** Why there is no connection; '' while there is one. */
  problem = 'it is being opened';
  private engine: Engine | undefined = undefined;
  private readonly retired = new Set<Engine>();
  private readonly listeners = new Set<Listener>();
  private timer: NodeJS.Timeout | undefined = undefined;
  private open: OpenEngine | undefined = undefined;
  private waitMs = FIRST_WAIT_MS;
  private isClosed = false;
  /** Ends with the first try, whatever comes of it. */
  private readonly firstTry = Promise.withResolvers<void>();

  /** Opens an engine in the background; the one before serves until that works. */
  use(open: OpenEngine): void {
    this.open = open;
    this.waitMs = FIRST_WAIT_MS;
    clearTimeout(this.timer);
    setTimeout(this.firstTry.resolve, FIRST_TRY_MS).unref();
    void this.tryToOpen(open).then(this.firstTry.resolve);
  }

  private async tryToOpen(open: OpenEngine): Promise<void> {
    try {
      const log = await open();
      if (this.isClosed || open !== this.open) await log.close();
      else this.replaceBy(log);
    } catch (error) {
      if (this.isClosed || open !== this.open) return;
      this.problem = error instanceof Error ? error.message : String(error);
      this.onConnected?.(this.connected);
      this.timer = setTimeout(() => void this.tryToOpen(open), this.waitMs).unref();
      this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
    }
  }

  private replaceBy(log: TaskLog): void {
    const before = this.engine;
    const engine: Engine = { log, leases: new HeldLeases(), replaced: new AbortController() };
    this.engine = engine;
    log.onConnected = (connected) => this.onEngine(engine, connected);
    for (const listener of this.listeners) {
      listener.stop();
      listener.stop = log.listen(listener.agentType, listener.onTask);
      // Of what came in between nobody told it.
      listener.onTask();
    }
    this.onEngine(engine, log.connected);
    if (before !== undefined) void this.retire(before);
  }

  private onEngine(engine: Engine, connected: boolean): void {
    if (engine !== this.engine) return;
    this.problem = connected ? '' : 'there is no connection';
    this.onConnected?.(connected);
    if (!connected) void this.explain(engine);
  }

  /** Why it is away, the engine says to who asks it for something. */
  private async explain({ log }: Engine): Promise<void> {
    try {
      await log.status();
    } catch (error) {
      if (log !== this.engine?.log || log.connected) return;
      this.problem = error instanceof Error ? error.message : String(error);
      this.onConnected?.(false);
    }
  }

  private async retire(engine: Engine): Promise<void> {
    this.retired.add(engine);
    engine.replaced.abort();
    await engine.leases.ended();
    if (!this.retired.delete(engine)) return;
    await engine.log.close();
  }

  nowMs(): number {
    return this.engine?.log.nowMs() ?? Date.now();
  }

  get connected(): boolean {
    return this.engine?.log.connected ?? false;
  }

  get storeId(): string | undefined {
    return this.engine?.log.storeId;
  }

  get notices(): readonly string[] {
    return this.engine?.log.notices ?? [];
  }

  private async current(withinMs = FIRST_TRY_MS): Promise<Engine> {
    if (this.engine === undefined && this.open !== undefined) await this.tried(withinMs);
    if (this.engine !== undefined) return this.engine;
    throw new LogUnavailableError(`the bus can't be used: ${this.problem}`, false);
  }

  private async tried(withinMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.min(withinMs, FIRST_TRY_MS));
    });
    await Promise.race([this.firstTry.promise, late]);
    clearTimeout(timer);
  }

  async submit(task: NewTask, options: SubmitOptions): Promise<Submitted> {
    return (await this.current(options.openWithinMs)).log.submit(task, options);
  }

  async take(
    agentTypes: readonly string[],
    holder: string,
    signal: AbortSignal,
  ): Promise<TaskLease | undefined> {
    const { log, leases, replaced } = await this.current();
    const lease = await log.take(agentTypes, holder, AbortSignal.any([signal, replaced.signal]));
    return lease && leases.hold(lease);
  }

  async get(key: TaskKey): Promise<TaskRecord | undefined> {
    return (await this.current()).log.get(key);
  }

  async *answer(task: Pick<TaskRecord, 'key' | 'generation'>): AsyncGenerator<Buffer> {
    yield* (await this.current()).log.answer(task);
  }

  async *watch(
    key: TaskKey,
    afterSequence: number,
    signal: AbortSignal,
    room?: ReaderRoom,
  ): AsyncGenerator<TaskEvent> {
    let after = afterSequence;
    for (;;) {
      const { log, replaced } = await this.current();
      for await (const event of log.watch(key, after, AbortSignal.any([signal, replaced.signal]), room)) {
        if (event.kind === 'chunks') after = event.batch.firstSequence + event.batch.count - 1;
        yield event;
      }
      if (signal.aborted || !replaced.signal.aborted) return;
    }
  }

  async cancel(key: TaskKey, cause: string): Promise<TaskRecord | undefined> {
    return (await this.current()).log.cancel(key, cause);
  }

  async leave(key: TaskKey, waiter: string, leaving: Leaving): Promise<void> {
    return (await this.current()).log.leave(key, waiter, leaving);
  }

  async attend(sidecar: string): Promise<void> {
    return (await this.current()).log.attend(sidecar);
  }

  async list(options: ListOptions): Promise<TaskPage> {
    return (await this.current()).log.list(options);
  }

  async retryDead(key: TaskKey): Promise<boolean> {
    return (await this.current()).log.retryDead(key);
  }

  async dropDead(key: TaskKey): Promise<boolean> {
    return (await this.current()).log.dropDead(key);
  }

  async status(): Promise<readonly QueueStatus[]> {
    return (await this.current()).log.status();
  }

  listen(agentType: string, onTask: () => void): () => void {
    const stop = this.engine?.log.listen(agentType, onTask) ?? (() => {});
    const listener: Listener = { agentType, onTask, stop };
    this.listeners.add(listener);
    return () => {
      if (this.listeners.delete(listener)) listener.stop();
    };
  }

  async announce(consumer: Consumer): Promise<void> {
    return (await this.current()).log.announce(consumer);
  }

  async consumers(agentType: string): Promise<readonly Consumer[]> {
    return (await this.current()).log.consumers(agentType);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.firstTry.resolve();
    for (const listener of this.listeners) listener.stop();
    this.listeners.clear();
    const engines = [...this.retired, ...(this.engine === undefined ? [] : [this.engine])];
    this.retired.clear();
    this.engine = undefined;
    this.problem = 'the sidecar has closed it';
    await Promise.all(engines.map(({ log }) => log.close()));
  }
}
