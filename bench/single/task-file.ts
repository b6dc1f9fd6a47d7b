// `node bench/single/task-file.ts [SECONDS]`: tasks a second through a task file (`bus.url: file:…`), with 32 in flight: submit, take,
// begin, extend, settle, watch, each stored before it is answered. In one process, and with publisher and consumers in two or four;
// then the time from a submit to the take of another process, and what waiting costs.
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DEFAULT_LOG_SETTINGS } from '../../scripts/harness/task-log-settings.ts';
import { openLocalTaskLog } from '../../sidecar/bus/local/local-task-log.ts';
import type { TaskLog } from '../../sidecar/bus/log/task-log.ts';

const IN_FLIGHT = 32;
const PAYLOAD_BYTES = 400;

/** What one process does, and for how long. */
interface Job {
  readonly file: string;
  readonly name: string;
  /** Tasks in flight, and consumers that wait for tasks. */
  readonly publishers: number;
  readonly consumers: number;
  /** Publishes at this rate instead of as fast as tasks end. */
  readonly ratePerSecond?: number;
  readonly seconds: number;
}

interface Report {
  readonly tasks: number;
  readonly cpuMs: number;
  /** Milliseconds from submit to take, of the tasks that this process took. */
  readonly delays: readonly number[];
}

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;

async function perform({ file, name, publishers, consumers, ratePerSecond, seconds }: Job): Promise<Report> {
  const log = await openLocalTaskLog(file, DEFAULT_LOG_SETTINGS);
  const idle = new AbortController();
  const delays: number[] = [];
  const consuming = Array.from({ length: consumers }, () => consume(log, name, idle.signal, delays));
  // Every process is up before anything is counted.
  await sleep(1_000);
  const cpu = process.cpuUsage();
  const endMs = nowMs() + seconds * 1_000;
  let tasks = 0;
  let next = 0;
  const publish = async (at: number): Promise<void> => {
    // Spread, so that a rate is no series of bursts.
    if (ratePerSecond !== undefined) await sleep((1_000 * at) / ratePerSecond);
    while (nowMs() < endMs) {
      await publishOne(log, `${name} ${next++}`);
      tasks++;
      if (ratePerSecond !== undefined) await sleep((1_000 * publishers) / ratePerSecond);
    }
  };
  await Promise.all([...Array.from({ length: publishers }, (_, at) => publish(at)), sleep(seconds * 1_000)]);
  const { user, system } = process.cpuUsage(cpu);
  // The others may still wait for what this one takes.
  await sleep(500);
  idle.abort();
  await Promise.all(consuming);
  await log.close();
  return { tasks, cpuMs: (user + system) / 1_000, delays };
}

async function publishOne(log: TaskLog, key: string): Promise<void> {
  const payload = Buffer.alloc(PAYLOAD_BYTES);
  payload.writeDoubleLE(nowMs());
  const task = {
    key,
    digest: key,
    agentType: 'echo',
    publisher: '',
    caller: '',
    timeLeftMs: 60_000,
    payload,
  };
  const { outcome } = await log.submit(task, { joinEndedForMs: 0 });
  if (outcome !== 'stored') throw new Error(`${key} was ${outcome}`);
  let state = '';
  for await (const event of log.watch(key, 0, AbortSignal.timeout(60_000)))
    if (event.kind === 'state') state = event.record.state;
  if (state !== 'done') throw new Error(`${key} ended as ${state}`);
}

async function consume(log: TaskLog, name: string, signal: AbortSignal, delays: number[]): Promise<void> {
  for (;;) {
    const lease = await log.take(['echo'], name, signal);
    if (lease === undefined) return;
    const payload = await lease.request();
    delays.push(nowMs() - payload.readDoubleLE());
    await lease.begin();
    await lease.settle({ status: 0, payload });
  }
}

async function run(
  title: string,
  jobs: readonly Omit<Job, 'file' | 'name' | 'seconds'>[],
  seconds: number,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-task-file-'));
  const file = join(folder, 'tasks.db');
  // The tables are made before the others come.
  await (await openLocalTaskLog(file, DEFAULT_LOG_SETTINGS)).close();
  let logBytes = 0;
  const timer = setInterval(() => {
    logBytes = Math.max(logBytes, statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0);
  }, 50);
  try {
    const reports = await Promise.all(
      jobs.map((job, at) => inProcess({ ...job, file, name: `p${at}`, seconds })),
    );
    const tasks = reports.reduce((sum, report) => sum + report.tasks, 0);
    const cpuMs = reports.reduce((sum, report) => sum + report.cpuMs, 0);
    const delays = reports.flatMap((report) => report.delays).sort((a, b) => a - b);
    const at = (part: number): string => (delays[Math.floor(delays.length * part)] ?? Number.NaN).toFixed(2);
    console.log(
      `${title}: ${(tasks / seconds).toFixed(0)} tasks/s, ` +
        `${tasks === 0 ? `${((cpuMs / seconds / 1_000) * 100).toFixed(2)} % of a core` : `${(cpuMs / tasks).toFixed(2)} ms CPU a task`}, ` +
        `submit to take p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, write-ahead log ${(logBytes / 2 ** 20).toFixed(1)} MiB at most`,
    );
  } finally {
    clearInterval(timer);
    rmSync(folder, { recursive: true, force: true });
  }
}

function inProcess(job: Job): Promise<Report> {
  const child = fork(fileURLToPath(import.meta.url), ['--job', JSON.stringify(job)]);
  return new Promise((resolve, reject) => {
    child.once('message', (report) => resolve(report as Report));
    child.once('exit', (code) => reject(new Error(`a process ended with ${code}`)));
  });
}

if (process.argv[2] === '--job') {
  // A long report is still on its way when `send` returns.
  process.send!(await perform(JSON.parse(process.argv[3]!) as Job), () => process.disconnect());
} else {
  const seconds = Number(process.argv[2] ?? 5);
  const both = { publishers: IN_FLIGHT, consumers: IN_FLIGHT };
  await run('one process', [both], seconds);
  await run(
    'publisher and consumer',
    [
      { publishers: IN_FLIGHT, consumers: 0 },
      { publishers: 0, consumers: IN_FLIGHT },
    ],
    seconds,
  );
  const quarter = { publishers: IN_FLIGHT / 4, consumers: IN_FLIGHT / 4 };
  await run('four processes', [quarter, quarter, quarter, quarter], seconds);
  const slow = { publishers: 8, consumers: 0, ratePerSecond: 50 };
  await run('50 tasks/s to another process', [slow, { publishers: 0, consumers: 8 }], seconds);
  await run('nothing to do, 8 consumers wait', [{ publishers: 0, consumers: 8 }], seconds);
}
