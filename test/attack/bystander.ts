// A caller that does nothing wrong, as a process of its own: node bystander.ts PORT. It reads lines: `calm` makes calls one
// after the other and answers their figures, `begin` calls until `end N`, which answers the figures of N calls or more.
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { taskRequest } from '../support/upstream.ts';

/** What some calls of a bystander came to. */
export interface BystanderFigures {
  readonly ok: number;
  readonly failed: readonly string[];
  readonly slowestMs: number;
  readonly p99Ms: number;
  /** By how much the latest timer of this process was late: the machine's business, not the sidecar's. */
  readonly latestTimerMs: number;
}

const WARM_UP_CALLS = 20;
const CALM_CALLS = 60;
/** A call without an answer for so long has failed. */
const DEADLINE_MS = 10_000;
/** Between two calls, so that the caller is none that takes a core itself. */
const PAUSE_MS = 5;
const TIMER_MS = 20;
/** When nobody answers, the calls that an attack is short of are not waited for. */
const LAST_CALLS_MS = 15_000;

class Measured {
  readonly durationsMs: number[] = [];
  readonly failed: string[] = [];
  latestTimerMs = 0;

  get figures(): BystanderFigures {
    const { failed, latestTimerMs } = this;
    const sorted = this.durationsMs.toSorted((a, b) => a - b);
    const p99Ms = sorted[Math.max(0, Math.ceil(sorted.length * 0.99) - 1)] ?? 0;
    return {
      ok: sorted.length - failed.length,
      failed: failed.slice(0, 20),
      slowestMs: sorted.at(-1) ?? 0,
      p99Ms,
      latestTimerMs,
    };
  }
}

const client = new RawClient({ teardown: () => {} }, Number(process.argv[2]), {
  // Found again soon after a connection is lost, as it would be by a caller that has others.
  'grpc.initial_reconnect_backoff_ms': 100,
});
let measured = new Measured();
let running: Promise<void> = Promise.resolve();
let isOver = (): boolean => true;
let tasks = 0;

async function call(into: Measured | undefined): Promise<void> {
  const id = `bystander-${process.pid}-${++tasks}`;
  const beganMs = performance.now();
  const words = `hello from ${id}`;
  const outcome = await client.unary(taskRequest({ id, type: 'echo', input: `echo ${words}` }), {
    path: PROCESS_TASK_PATH,
    deadline: Date.now() + DEADLINE_MS,
  });
  if (into === undefined) return;
  into.durationsMs.push(performance.now() - beganMs);
  if (outcome.code !== grpc.status.OK)
    into.failed.push(`call ${into.durationsMs.length}: ${grpc.status[outcome.code]}, ${outcome.details}`);
  else if (outcome.response?.includes(words) !== true)
    into.failed.push(`call ${into.durationsMs.length}: OK with another answer than its own`);
}

async function callUntil(over: () => boolean, into: Measured): Promise<void> {
  let dueMs = performance.now() + TIMER_MS;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    into.latestTimerMs = Math.max(into.latestTimerMs, nowMs - dueMs);
    dueMs = nowMs + TIMER_MS;
  }, TIMER_MS);
  while (!over()) {
    await call(into);
    await sleep(PAUSE_MS);
  }
  clearInterval(timer);
}

async function obey(line: string): Promise<void> {
  const [word, count = '0'] = line.split(' ');
  if (word === 'calm') {
    for (let calls = 0; calls < WARM_UP_CALLS; calls++) await call(undefined);
    const calm = new Measured();
    await callUntil(() => calm.durationsMs.length >= CALM_CALLS, calm);
    answer(calm);
  } else if (word === 'begin') {
    const began = new Measured();
    measured = began;
    isOver = () => false;
    running = callUntil(() => isOver(), began);
    answer(began);
  } else if (word === 'end') {
    const endAtMs = performance.now() + LAST_CALLS_MS;
    isOver = () => measured.durationsMs.length >= Number(count) || performance.now() > endAtMs;
    await running;
    answer(measured);
  } else throw new Error(`calm, begin or end; not ${JSON.stringify(line)}`);
}

function answer({ figures }: Measured): void {
  process.stdout.write(`${JSON.stringify(figures)}\n`);
}

const lines = createInterface({ input: process.stdin });
let obeyed = Promise.resolve();
lines.on('line', (line) => {
  obeyed = obeyed.then(() => obey(line));
});
// Its test has ended.
lines.on('close', () => process.exit(0));
