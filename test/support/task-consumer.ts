// A sidecar's data plane that takes tasks from a log in a file, and a log of its own for the one who submits.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type DataPlane, readConfig, startDataPlane } from '../../scripts/harness/data-plane.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { LogUnavailableError } from '../../sidecar/bus/log/log-errors.ts';
import type { TaskEvent, TaskLog } from '../../sidecar/bus/log/task-log.ts';
import { hasEnded, type TaskKey, type TaskRecord } from '../../sidecar/bus/log/task-record.ts';
import { newTask, type TaskOrder } from '../../sidecar/bus/message/new-task.ts';
import { decodeResult, type ResultPayload } from '../../sidecar/bus/message/payload.ts';
import { type Sealer, UNSEALED } from '../../sidecar/bus/message/sealer.ts';
import { openLog } from '../../sidecar/bus/open-log.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { taskRequest } from './upstream.ts';

type Section = Record<string, unknown>;

export interface Order {
  id?: string;
  input?: string;
  path?: string;
  type?: string;
  publisher?: string;
  scope?: string;
  fields?: readonly string[];
  timeLeftMs?: number;
}

/** A new folder for logs; it is removed at the end of the test. */
export function logFile(t: Pick<Test, 'teardown'>): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bus-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'tasks.db');
}

/** Submits tasks and reads what became of them. */
export class Submitter {
  readonly log: TaskLog;
  /** The keys of the tasks, by their ids. */
  readonly keys = new Map<string, TaskKey>();
  private readonly sealer: Sealer;

  constructor(log: TaskLog, sealer: Sealer = UNSEALED) {
    this.log = log;
    this.sealer = sealer;
  }

  /** @param bus a file, or a URL as in `bus.url` */
  static async open(t: Pick<Test, 'teardown'>, bus: string, consume: Section = {}): Promise<Submitter> {
    const url = bus.startsWith('/') ? `file:${bus}` : bus;
    const config = await readConfig({ bus: { url, consume } });
    const log = await openLog(config.bus, url, '');
    t.teardown(() => log.close());
    return new Submitter(log);
  }

  async submit(order: Order = {}, joinEndedForMs = 0): Promise<TaskRecord> {
    const { id = 'task-1', input = 'work', path = PROCESS_TASK_PATH, type = 'research' } = order;
    const { publisher = '', scope = '', fields = [], timeLeftMs = Number.POSITIVE_INFINITY } = order;
    const message = taskRequest({ id, type, input });
    const task: TaskOrder = { path, agentType: type, publisher, scope, fields, message, timeLeftMs };
    const made = newTask(task, this.sealer);
    this.keys.set(id, made.key);
    const submitted = await retried(() => this.log.submit(made, { joinEndedForMs }));
    if (submitted.outcome === 'refused') throw new Error(`refused: ${submitted.reason}`);
    return submitted.record;
  }

  async ended(key: TaskKey): Promise<TaskRecord> {
    return await waitUntil(`task ${key} has ended`, async () => {
      const record = await this.log.get(key);
      return record !== undefined && hasEnded(record) && record;
    });
  }

  /** As `ended`, by the log's own events. */
  async watched(key: TaskKey): Promise<TaskRecord> {
    return await retried(async () => {
      let last: TaskRecord | undefined;
      for await (const event of this.log.watch(key, 0, new AbortController().signal))
        if (event.kind === 'state') last = event.record;
      if (last === undefined || !hasEnded(last)) throw new LogUnavailableError('the watch has ended', false);
      return last;
    });
  }

  async isIn(state: TaskRecord['state'], key: TaskKey): Promise<TaskRecord> {
    return await waitUntil(`task ${key} is ${state}`, async () => {
      const record = await this.log.get(key);
      return record?.state === state && record;
    });
  }

  resultOf({ result }: TaskRecord): ResultPayload {
    if (result === undefined) throw new Error('the task has no result');
    return decodeResult(this.sealer.open(result.short ?? Buffer.alloc(0)));
  }

  /** All events until the task's end. */
  async story(key: TaskKey): Promise<TaskEvent[]> {
    const events: TaskEvent[] = [];
    for await (const event of this.log.watch(key, 0, new AbortController().signal)) events.push(event);
    return events;
  }
}

/** Asks a log that is away again. */
async function retried<T>(ask: () => Promise<T>): Promise<T> {
  return await waitUntil('the log answers', async () => {
    try {
      return { answer: await ask() };
    } catch (error) {
      if (error instanceof LogUnavailableError) return undefined;
      throw error;
    }
  }).then(({ answer }) => answer);
}

export interface ConsumingPlane extends DataPlane {
  /** How runs ended without a result, in order: `lost`, `dead`, `given back`, `fenced`, each with why. */
  readonly events: readonly string[];
  /** Tasks that the agent began, and results. */
  counts(): { delivered: number; settled: number };
}

/** A sidecar that takes tasks for `research` from this file. */
export async function startConsumer(
  t: Pick<Test, 'teardown'>,
  file: string,
  content: { inbound: Section; bus?: Section & { consume?: Section } } & Section,
): Promise<ConsumingPlane> {
  const consume = { agent_types: ['research'], ...content.bus?.consume };
  const events: string[] = [];
  const plane = await startDataPlane(
    t,
    { name: 'agent', ...content, bus: { url: `file:${file}`, ...content.bus, consume } },
    {
      onTaskLost: (_record, cause, isDead) => events.push(`${isDead ? 'dead' : 'lost'}: ${cause}`),
      onTaskGivenBack: (_record, because) => events.push(`given back: ${because}`),
      onTaskFenced: (_record, because) => events.push(`fenced: ${because}`),
      onBusDefect: (error) => events.push(`defect: ${String(error)}`),
    },
  );
  const counts = (): { delivered: number; settled: number } => {
    for (const [agentType, found] of plane.sidecar.busSide.bus.counts.entries())
      if (agentType === 'research') return { delivered: found.delivered, settled: found.settled };
    return { delivered: 0, settled: 0 };
  };
  return { ...plane, events, counts };
}
