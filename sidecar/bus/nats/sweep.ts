/**
 * Removes what crashes leave on the bus: parts of requests and results that no key names, dead letters of tasks that are not dead,
 * chunks of generations that are over, and keys whose request never came.
 *
 * Whatever a step stores before the key is young until the key says so: only what is older than any step may take is looked at.
 */
import { JetStreamApiError } from '@nats-io/jetstream';
import { readQueued } from './delivery.ts';
import { headOf } from './head.ts';
import { eachHead } from './heads.ts';
import {
  CHUNKS,
  DEAD,
  lastToken,
  nameOf,
  nameOfDead,
  queueStream,
  queueSubjects,
  REQUESTS,
  RESULTS,
  SWEEP_SUBJECT,
  type TaskName,
} from './names.ts';
import type { Store } from './store.ts';
import { isEnded, nameOfEntry, type StoredTask, type TaskEntry } from './stored-task.ts';
import { ended } from './task-steps.ts';

/** One sidecar of all sweeps, so often; each asks whether it is its turn. */
const SWEEP_EACH_MS = 600_000;
const ASK_EACH_MS = 60_000;
/** No step of a task takes longer from what it stores first to its key. */
const GRACE_MS = 600_000;
const QUEUED_AT_ONCE = 64;

/** How many of each were removed. */
export interface Swept {
  readonly requests: number;
  readonly results: number;
  readonly deadLetters: number;
  readonly chunks: number;
  readonly keys: number;
}

type Owns = (task: StoredTask, subject: string) => boolean;

export class Sweep {
  private readonly store: Store;
  private readonly graceMs: number;
  private timer: NodeJS.Timeout | undefined;
  /** All keys that were written before have ended. */
  private from = 1;

  constructor(store: Store, graceMs = Math.max(GRACE_MS, 4 * store.settings.leaseMs)) {
    this.store = store;
    this.graceMs = graceMs;
  }

  start(): void {
    // The next sweep repeats a failed removal.
    this.timer ??= setInterval(() => void this.runInTurn().catch(() => {}), ASK_EACH_MS).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Undefined when it is another sidecar's turn. */
  async runInTurn(): Promise<Swept | undefined> {
    const { connection } = this.store;
    if (!connection.connected) return undefined;
    const turn = await connection.storeAt(SWEEP_SUBJECT, Buffer.alloc(0), headOf({}), 0, SWEEP_EACH_MS);
    return turn === undefined ? undefined : await this.run();
  }

  async run(): Promise<Swept> {
    return {
      requests: await this.removeUnowned(REQUESTS, nameOf, ownsRequest),
      results: await this.removeUnowned(RESULTS, nameOf, ownsResult),
      deadLetters: await this.removeUnowned(DEAD, nameOfDead, ({ state }) => state === 'dead'),
      chunks: await this.removeUnowned(CHUNKS, nameOf, ownsChunks),
      keys: await this.endLostKeys(),
    };
  }

  private async removeUnowned(
    stream: string,
    nameIn: (subject: string) => TaskName,
    owns: Owns,
  ): Promise<number> {
    const { connection, keys } = this.store;
    const info = await connection.manage((jsm) => jsm.streams.info(stream, { subjects_filter: '>' }));
    let removed = 0;
    for (const subject of Object.keys(info.state.subjects ?? {})) {
      const owner = await keys.read(nameIn(subject));
      if (owner !== undefined && owns(owner.task, subject)) continue;
      const last = await connection.directLast(stream, subject);
      if (last === undefined || this.isYoung(last.timeMs)) continue;
      await connection.manage((jsm) => jsm.streams.purge(stream, { filter: subject }));
      removed++;
    }
    return removed;
  }

  private isYoung(timeMs: number): boolean {
    return this.store.nowMs() - timeMs < this.graceMs;
  }

  /** Keys of tasks that wait or run, whose requests are not in their queues: nobody will ever take them. */
  private async endLostKeys(): Promise<number> {
    const suspects = new Map<string, TaskEntry[]>();
    // Below it, all have ended.
    let lowest = Number.POSITIVE_INFINITY;
    let next = this.from;
    await eachHead(this.store.connection, { from: this.from }, (entry) => {
      const { task, revision } = entry;
      if (this.isYoung(Math.max(task.submittedAtMs, task.queuedSinceMs, task.startedAtMs, task.endedAtMs)))
        return false;
      next = revision + 1;
      if (isEnded(task)) return;
      lowest = Math.min(lowest, revision);
      if (task.state === 'running' && this.isYoung(task.leaseEndsAtMs)) return;
      const ofType = suspects.get(task.agentType);
      if (ofType === undefined) suspects.set(task.agentType, [entry]);
      else ofType.push(entry);
    });
    let removed = 0;
    for (const [agentType, entries] of suspects) {
      const waiting = await this.waitingIn(agentType);
      for (const entry of entries)
        if (!waiting.has(markOf(nameOfEntry(entry))) && (await this.end(entry))) removed++;
    }
    this.from = Math.min(lowest, next);
    return removed;
  }

  private async waitingIn(agentType: string): Promise<ReadonlySet<string>> {
    const { connection } = this.store;
    const stream = queueStream(agentType);
    const found = new Set<string>();
    try {
      for (let from = 1; ; ) {
        const some = await connection.directBatch(stream, queueSubjects(agentType), from, QUEUED_AT_ONCE);
        if (some.length === 0) return found;
        for (const message of some) {
          const queued = readQueued(agentType, message);
          if (queued !== undefined) found.add(markOf(queued));
          from = message.seq + 1;
        }
      }
    } catch (error) {
      if (error instanceof JetStreamApiError) return found;
      throw error;
    }
  }

  /** A task that never was in its queue was not accepted; another has lost its request. */
  private async end(entry: TaskEntry): Promise<boolean> {
    const { task } = entry;
    const cause = 'its request is no longer on the bus: submit it again';
    const next: Omit<StoredTask, 'write'> =
      task.queued === 0 ? { ...task, state: 'dropped' } : ended(task, 'dead', cause, this.store.nowMs());
    // The head was read without the body; a key that waits or runs has none.
    const moved = await this.store.tryMove(entry, next);
    return moved?.task.state === next.state;
  }
}

const markOf = ({ publisher, key }: TaskName): string => `${publisher} ${key}`;

const ownsRequest: Owns = (task, subject) =>
  task.largeRequest === lastToken(subject) && (!isEnded(task) || task.state === 'dead');
const ownsResult: Owns = (task, subject) => task.result?.large === lastToken(subject);
const ownsChunks: Owns = (task, subject) => task.generation === Number(lastToken(subject));
