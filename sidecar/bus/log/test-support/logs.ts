// Logs, tasks and waits for the contract that all engines keep.
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { PATIENCE_MS } from '../../../../scripts/harness/patience.ts';
import type { Submitted, TaskEvent, TaskLease, TaskLog } from '../task-log.ts';
import type { TaskLogSettings } from '../task-log-settings.ts';
import type { NewTask, TaskKey, TaskRecord } from '../task-record.ts';

/** Opens an empty log for one test, as often as there are sidecars in it. Each is closed at the test's end. */
export type OpenLog = (settings?: Partial<TaskLogSettings>) => Promise<TaskLog>;

/** An engine under test. */
export interface Engine {
  readonly name: string;
  /** Whether tasks that run still take room in their queue. */
  readonly runningTakesRoom?: boolean;
  /** An empty log that no other test sees; what it opens is closed at the end of `t`. */
  place(t: Pick<Test, 'teardown'>): Promise<(settings: TaskLogSettings) => Promise<TaskLog>>;
}

/** Leases that end soon; a test whose lease must hold asks for a longer one. */
export const SETTINGS: TaskLogSettings = {
  leaseMs: 400,
  maxRuns: 3,
  retryDelay: { baseMs: 20, maxMs: 100 },
  maxQueuedPerAgent: 1_000,
  maxQueuedPerCaller: 100,
  maxQueuedBytes: 64 << 20,
  maxQueuedBytesPerCaller: 32 << 20,
  maxAgeMs: 3_600_000,
  resultsMaxAgeMs: 3_600_000,
  resultsMaxBytes: 64 << 20,
  deadMaxAgeMs: 3_600_000,
};

/** A lease that no pause of a loaded machine outlasts. */
export const LONG_LEASE_MS = 60_000;

export async function openerOf(t: Pick<Test, 'teardown'>, engine: Engine): Promise<OpenLog> {
  const open = await engine.place(t);
  return async (settings = {}) => {
    const log = await open({ ...SETTINGS, ...settings });
    t.teardown(() => log.close());
    return log;
  };
}

export const keyOf = (name: string): TaskKey => createHash('sha256').update(name).digest('base64url');

export function newTask(name: string, changes: Partial<NewTask> = {}): NewTask {
  return {
    key: keyOf(name),
    digest: keyOf(`digest of ${name}`),
    agentType: 'research',
    publisher: 'tests',
    caller: '',
    timeLeftMs: Number.POSITIVE_INFINITY,
    payload: Buffer.from(`request ${name}`),
    ...changes,
  };
}

export const ANEW = { joinEndedForMs: 0 };
export const JOIN = { joinEndedForMs: Number.POSITIVE_INFINITY };

/** Submits tasks that must be stored. */
export async function store(log: TaskLog, ...tasks: readonly NewTask[]): Promise<TaskRecord[]> {
  const records: TaskRecord[] = [];
  for (const task of tasks) {
    const submitted = await log.submit(task, JOIN);
    if (submitted.outcome !== 'stored') throw new Error(`not stored: ${outcomeOf(submitted)}`);
    records.push(submitted.record);
  }
  return records;
}

export const outcomeOf = (submitted: Submitted): string =>
  submitted.outcome === 'refused' ? submitted.reason : submitted.outcome;

/** A signal that ends what never comes. */
export const patience = (): AbortSignal => AbortSignal.timeout(PATIENCE_MS);

/** Takes a task that must come. */
export async function takeOne(
  log: TaskLog,
  holder = 'holder',
  agentTypes: readonly string[] = ['research'],
): Promise<TaskLease> {
  const lease = await log.take(agentTypes, holder, patience());
  if (lease === undefined) throw new Error(`no task of ${agentTypes.join(', ')} came`);
  return lease;
}

/** Takes a task and begins it, as a sidecar does. */
export async function runOne(log: TaskLog, holder?: string): Promise<TaskLease> {
  const lease = await takeOne(log, holder);
  await lease.begin();
  return lease;
}

export const answer = (text: string, status = 0): { status: number; payload: Buffer } => ({
  status,
  payload: Buffer.from(text),
});

/** Whether nothing can be taken: a take that may take what is there already comes back without. */
export async function takesNothing(
  log: TaskLog,
  agentTypes: readonly string[] = ['research'],
): Promise<boolean> {
  const end = new AbortController();
  const taken = log.take(agentTypes, 'idle', end.signal);
  // Answers come in order, or at least much faster than this.
  await Promise.race([taken, sleep(100)]);
  end.abort();
  return (await taken) === undefined;
}

/** Each event in one line: `running 1`, `chunks 1: 1-2`, `done 1`. */
export function textOf(event: TaskEvent): string {
  if (event.kind === 'state') return `${event.record.state} ${event.record.run}`;
  const { run, firstSequence, count } = event.batch;
  return `chunks ${run}: ${firstSequence}-${firstSequence + count - 1}`;
}

/** Watches a task to its end in the background. */
export class Watcher {
  readonly events: TaskEvent[] = [];
  readonly ended: Promise<void>;
  private wake: () => void = () => {};

  constructor(log: TaskLog, key: TaskKey, afterSequence = 0, signal = patience()) {
    this.ended = this.read(log.watch(key, afterSequence, signal));
    this.ended.catch(() => {});
  }

  get texts(): string[] {
    return this.events.map(textOf);
  }

  /** Waits for an event, which may have come already. */
  async until(text: string): Promise<void> {
    while (!this.texts.includes(text)) {
      const next = new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      const hasEnded = await Promise.race([next, this.ended.then(() => true)]);
      if (hasEnded === true && !this.texts.includes(text))
        throw new Error(`no ${text} in ${this.texts.join(', ')}`);
    }
  }

  private async read(events: AsyncIterable<TaskEvent>): Promise<void> {
    for await (const event of events) {
      this.events.push(event);
      this.wake();
    }
  }
}

/** The error with which a promise rejects. */
export async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

/** Waits for the abort of a signal and returns its reason. */
export function abortOf(signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return resolve(signal.reason);
    const end = patience();
    signal.addEventListener('abort', () => resolve(signal.reason), { once: true });
    end.addEventListener('abort', () => reject(new Error('the signal did not abort')), { once: true });
  });
}
