// `node bench/single/nats-tasks.ts [SECONDS]`: tasks a second through a NATS server (`bus.url: nats://…`), with 32 in flight, beside a
// bare program on the same client that makes the same writes: a request, and a key written three times at the revision before. Then the
// time from a submit to the take of another process at 50 tasks/s, evenly spread. Publisher and consumer are two processes on one core, NATS has another.
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AckPolicy, jetstream, jetstreamManager, RetentionPolicy } from '@nats-io/jetstream';
import { connect, headers } from '@nats-io/transport-node';
import { freePort } from '../../scripts/harness/free-port.ts';
import { DEFAULT_LOG_SETTINGS } from '../../scripts/harness/task-log-settings.ts';
import { requireTool, tool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { TaskLog } from '../../sidecar/bus/log/task-log.ts';
import { openNatsLog } from '../../sidecar/bus/nats/nats-task-log.ts';

const IN_FLIGHT = 32;
const PAYLOAD_BYTES = 400;
const HEAD_BYTES = 600;
const ROUNDS = 2;
const OUR_CORE = '0';
const NATS_CORE = '1';

interface Job {
  readonly kind: 'ours' | 'bare';
  readonly port: number;
  readonly role: 'publisher' | 'consumer';
  readonly seconds: number;
  readonly ratePerSecond?: number;
}

interface Report {
  readonly tasks: number;
  readonly delays: readonly number[];
  /** While it worked. */
  readonly cpuMs: number;
}

/** One end of a program: publishes a task and waits for its end, or answers tasks until the signal. */
interface Side {
  publish(key: string, payload: Buffer): Promise<void>;
  consume(onTask: (payload: Uint8Array) => void, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;

async function ours(port: number): Promise<Side> {
  const log: TaskLog = await openNatsLog({ servers: [`127.0.0.1:${port}`], settings: DEFAULT_LOG_SETTINGS });
  return {
    async publish(key, payload) {
      const task = {
        key,
        digest: key,
        agentType: 'echo',
        publisher: 'p',
        caller: '',
        timeLeftMs: 60_000,
        payload,
      };
      const { outcome } = await log.submit(task, { joinEndedForMs: 0, isWatched: true });
      if (outcome !== 'stored') throw new Error(`${key} was ${outcome}`);
      for await (const event of log.watch(key, 0, AbortSignal.timeout(60_000)))
        if (event.kind === 'state' && event.record.state === 'done') return;
      throw new Error(`${key} has no result`);
    },
    async consume(onTask, signal) {
      const place = async (): Promise<void> => {
        for (;;) {
          const lease = await log.take(['echo'], 'c', signal);
          if (lease === undefined) return;
          const payload = await lease.request();
          onTask(payload);
          await lease.begin();
          await lease.settle({ status: 0, payload });
        }
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, place));
    },
    close: () => log.close(),
  };
}

/** No lease, no turns, no limits: what is left is what NATS costs. */
async function bare(port: number): Promise<Side> {
  const nc = await connect({ servers: `127.0.0.1:${port}`, noAsyncTraces: true });
  const jsm = await jetstreamManager(nc);
  const js = jetstream(nc);
  const queue = { name: 'Q', subjects: ['q'], retention: RetentionPolicy.Workqueue };
  const keys = { name: 'K', subjects: ['k.*'], max_msgs_per_subject: 1, allow_direct: true };
  for (const config of [queue, keys]) await jsm.streams.add(config).catch(() => {});
  await jsm.consumers
    .add('Q', { durable_name: 'C', ack_policy: AckPolicy.Explicit, max_ack_pending: -1 })
    .catch(() => {});
  const head = 'x'.repeat(HEAD_BYTES);
  const write = async (key: string, revision: number, body: Uint8Array): Promise<number> => {
    const fields = headers();
    fields.set('Head', head);
    const expect = { lastSubjectSequence: revision };
    return (await js.publish(`k.${key}`, body, { expect, headers: fields })).seq;
  };
  return {
    async publish(key, payload) {
      const ended = new Promise<void>((resolve) => {
        const subscription = nc.subscribe(`end.${key}`, {
          callback: () => {
            subscription.unsubscribe();
            resolve();
          },
        });
      });
      const revision = await write(key, 0, Buffer.alloc(0));
      const fields = headers();
      fields.set('Key', key);
      fields.set('Revision', String(revision));
      await js.publish('q', payload, { msgID: key, headers: fields });
      await ended;
    },
    async consume(onTask, signal) {
      const consumer = await js.consumers.get('Q', 'C');
      const messages = await consumer.consume({ max_messages: IN_FLIGHT });
      signal.addEventListener('abort', () => void messages.close());
      for await (const message of messages) {
        void (async () => {
          const key = message.headers!.get('Key');
          const running = await write(key, Number(message.headers!.get('Revision')), Buffer.alloc(0));
          onTask(message.data);
          await write(key, running, message.data);
          nc.publish(`end.${key}`, message.data);
          message.ack();
        })();
      }
    },
    close: () => nc.close(),
  };
}

async function perform({ kind, port, role, seconds, ratePerSecond }: Job): Promise<Report> {
  const side = await (kind === 'ours' ? ours : bare)(port);
  const delays: number[] = [];
  let tasks = 0;
  const cpu = process.cpuUsage();
  if (role === 'consumer') {
    const end = new AbortController();
    const consuming = side.consume((payload) => {
      const sentMs = Buffer.from(payload).readDoubleLE();
      if (sentMs > 0) delays.push(nowMs() - sentMs);
    }, end.signal);
    // The publisher waits a second before, and for the last tasks behind.
    await sleep(seconds * 1_000 + 2_500);
    end.abort();
    await consuming;
  } else {
    await sleep(1_000);
    let next = 0;
    const publish = async (sentMs: number): Promise<void> => {
      const payload = Buffer.alloc(PAYLOAD_BYTES);
      payload.writeDoubleLE(sentMs);
      await side.publish(`${kind}-${process.pid}-${next++}`, payload);
      tasks++;
    };
    // The first one makes the queue, and its time is nobody's.
    await publish(0);
    const publishers = ratePerSecond === undefined ? IN_FLIGHT : 8;
    const startMs = nowMs();
    const endMs = startMs + seconds * 1_000;
    const publishInTurn = async (at: number): Promise<void> => {
      for (let turn = at; ; turn += publishers) {
        // Each task has a time of its own: publishers that waited for one another would send bursts from then on.
        if (ratePerSecond !== undefined)
          await sleep(Math.max(0, startMs + (1_000 * turn) / ratePerSecond - nowMs()));
        if (nowMs() >= endMs) return;
        await publish(nowMs());
      }
    };
    await Promise.all(Array.from({ length: publishers }, (_, at) => publishInTurn(at)));
  }
  const { user, system } = process.cpuUsage(cpu);
  await side.close();
  return { tasks, delays, cpuMs: (user + system) / 1_000 };
}

function inProcess(job: Job): Promise<Report> {
  const pinned = tool('taskset') !== undefined && availableParallelism() > 1;
  const child = fork(fileURLToPath(import.meta.url), ['--job', JSON.stringify(job)]);
  if (pinned)
    spawn(requireTool('taskset'), ['-a', '-p', '-c', OUR_CORE, String(child.pid)], { stdio: 'ignore' });
  return new Promise((resolve, reject) => {
    child.once('message', (report) => resolve(report as Report));
    // Behind its last message, which its exit may overtake.
    child.once('disconnect', () => reject(new Error('a process ended without its report')));
  });
}

async function run(job: Omit<Job, 'role'>): Promise<readonly Report[]> {
  return await Promise.all([
    inProcess({ ...job, role: 'consumer' }),
    inProcess({ ...job, role: 'publisher' }),
  ]);
}

/** Prints what both programs needed, and returns the tasks a second. */
function tell(title: string, seconds: number, reports: readonly Report[]): number {
  const tasks = reports.reduce((sum, report) => sum + report.tasks, 0);
  const delays = reports.flatMap((report) => report.delays).sort((a, b) => a - b);
  const at = (part: number): string => (delays[Math.floor(delays.length * part)] ?? Number.NaN).toFixed(2);
  const perSecond = tasks / seconds;
  const cpuMs = reports.reduce((sum, report) => sum + report.cpuMs, 0) / tasks;
  console.log(
    `${title}: ${perSecond.toFixed(0)} tasks/s, submit to agent p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, ${cpuMs.toFixed(2)} ms of CPU a task without NATS (load ${loadavg()[0]!.toFixed(1)})`,
  );
  return perSecond;
}

async function measure(seconds: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-nats-tasks-'));
  const port = await freePort();
  const args = [requireTool('nats-server'), '-a', '127.0.0.1', '-p', String(port), '-js', '-sd', folder];
  const server =
    tool('taskset') === undefined
      ? spawn(args[0]!, args.slice(1), { stdio: 'ignore' })
      : spawn(requireTool('taskset'), ['-c', NATS_CORE, ...args], { stdio: 'ignore' });
  try {
    await waitUntil('NATS answers', async () => {
      const nc = await connect({ servers: `127.0.0.1:${port}` });
      await nc.close();
      return true;
    });
    const first = tell('bare', seconds, await run({ kind: 'bare', port, seconds }));
    const second = tell('ours', seconds, await run({ kind: 'ours', port, seconds }));
    console.log(`ours makes ${((second / first) * 100).toFixed(0)} % of the bare program's tasks`);
    // In turns, so that whatever else the machine does befalls both.
    const paced: Record<Job['kind'], Report[]> = { bare: [], ours: [] };
    for (let round = 0; round < ROUNDS; round++)
      for (const kind of ['bare', 'ours'] as const)
        paced[kind].push(...(await run({ kind, port, seconds: seconds / ROUNDS, ratePerSecond: 50 })));
    for (const kind of ['bare', 'ours'] as const) tell(`${kind}, 50 tasks/s`, seconds, paced[kind]);
  } finally {
    server.kill('SIGKILL');
    await once(server, 'exit');
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[2] === '--job') {
  process.send!(await perform(JSON.parse(process.argv[3]!) as Job), () => process.disconnect());
} else await measure(Number(process.argv[2] ?? 5));
