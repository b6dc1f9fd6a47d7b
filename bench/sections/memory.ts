// Resident memory of processes that were just started: idle, with streams that nothing happens on, and under load.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from '../../test/support/memory.ts';
import type { Run, Section } from '../procedure.ts';
import { startTarget } from '../targets.ts';
import { holdStreams } from '../traffic/run.ts';

const MIB = 1 << 20;
const FEW = { connections: 1, streams: 100 };
const MANY = { connections: 100, streams: 100 };
const SAMPLE_MS = 50;

const bundle = join(import.meta.dirname, '..', '..', 'dist', 'outrigger.mjs');
const processes = ['envoy', 'haproxy', 'nginx', 'outrigger inbound', 'outrigger outbound'];

export const memory: Section = {
  name: 'memory',
  title: 'Resident memory',
  about:
    'Of processes that were just started, one after the other: some seconds after their start, with 10,000 streams over ' +
    '100 connections that have each had their first chunk and then wait, and at most while calls go through at 4 x 25. ' +
    'The bytes of an idle stream are what 10,000 take beyond 100, its share of its connection included.',
  targets: processes,
  quickTargets: processes.filter((name) => name !== 'nginx'),
  rounds: 3,
  fresh: true,
  measures: {
    idle: { title: 'MiB, idle', better: 'less', digits: 1 },
    streams: { title: 'MiB, 10,000 idle streams', better: 'less' },
    stream: { title: 'bytes an idle stream', better: 'less' },
    loaded: { title: 'MiB, under load', better: 'less' },
  },
  measure: async (run) => {
    const settleMs = run.quick ? 1_500 : 4_000;
    await sleep(settleMs);
    run.record('idle', resident(run) / MIB);
    const few = await whileHeld(run, FEW, settleMs / 2);
    const many = await whileHeld(run, MANY, settleMs / 2);
    run.record('streams', many / MIB);
    run.record('stream', (many - few) / (MANY.connections * MANY.streams - FEW.connections * FEW.streams));
    run.record('loaded', (await mostUnderLoad(run)) / MIB);
  },
};

export const readiness: Section = {
  name: 'ready',
  title: 'Time to ready',
  about:
    'From the start of the process to its first accepted connection (peers), to `/healthz/ready` (inbound) or ' +
    '`/healthz/live` (outbound); `bundle` is what the image runs.',
  targets: processes,
  quickTargets: processes.filter((name) => name !== 'nginx'),
  variants: ['', 'bundle'],
  rounds: 5,
  fresh: true,
  applies: (target, variant) => variant === '' || target.startsWith('outrigger'),
  lacks: (_, variant) =>
    variant === 'bundle' && !existsSync(bundle) ? 'run node scripts/bundle.mjs --compile first' : false,
  start: (world, name, variant) =>
    startTarget(name, variant === 'bundle' ? { ...world.setup, program: bundle } : world.setup),
  measures: { ready: { title: 'ms to ready', better: 'less', digits: 0 } },
  measure: async ({ target, record }) => record('ready', target.readyMs!),
};

async function whileHeld(run: Run, shape: typeof MANY, settleMs: number): Promise<number> {
  const held = await holdStreams(run.world.cleanup, run.target.port, shape);
  try {
    await sleep(settleMs);
    return resident(run);
  } finally {
    await held.end();
  }
}

async function mostUnderLoad(run: Run): Promise<number> {
  let most = 0;
  const sampling = setInterval(() => {
    most = Math.max(most, resident(run));
  }, SAMPLE_MS);
  try {
    await run.traffic({ connections: 4, streams: 25, seconds: run.quick ? 1 : 3 * run.seconds });
    return most;
  } finally {
    clearInterval(sampling);
  }
}

function resident({ target }: Run): number {
  return target.pids.reduce((sum, pid) => sum + residentBytes(pid), 0);
}
