// Resident memory of processes that were just started: idle, with streams that nothing happens on, and under load.
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from '../../scripts/harness/memory.ts';
import type { Run, Section } from '../measuring/procedure.ts';
import { holdStreams, runTraffic } from '../traffic/run.ts';
import { imageIsMissing } from '../world/image.ts';
import type { Target } from '../world/setup.ts';
import { startTarget } from '../world/targets.ts';

const MIB = 1 << 20;
const FEW = { connections: 1, streams: 100 };
const MORE = { connections: 99, streams: 100 };
const SAMPLE_MS = 50;

const processes = ['envoy', 'haproxy', 'nginx', 'outrigger inbound', 'outrigger outbound'];

/** Outrigger from its sources, and as the image has it. */
const builds: Pick<Section, 'variants' | 'applies' | 'lacks' | 'start'> = {
  variants: ['', 'image'],
  applies: (target, variant) => variant === '' || target.startsWith('outrigger'),
  lacks: (_, variant) => variant === 'image' && imageIsMissing(),
  start: (world, name, variant) => startTarget(name, { ...world.setup, image: variant === 'image' }),
};

export const memory: Section = {
  name: 'memory',
  title: 'Resident memory',
  about:
    'For one freshly started process after the other: some seconds after its start; with 10,000 streams over ' +
    '100 connections, each silent after its first chunk; and, in another process, the maximum under calls at 4 x 25. ' +
    'The bytes of an idle stream are the memory of 10,000 streams beyond that of 100, so they include its share of the connection.',
  targets: processes,
  quickTargets: processes.filter((name) => name !== 'nginx' && name !== 'haproxy'),
  rounds: 3,
  fresh: true,
  ...builds,
  quickVariants: [''],
  measures: {
    idle: { title: 'MiB, idle', better: 'less', digits: 1 },
    streams: { title: 'MiB, 10,000 idle streams', better: 'less' },
    stream: { title: 'bytes an idle stream', better: 'less' },
    loaded: { title: 'MiB, under load', better: 'less' },
  },
  measure: async (run) => {
    const settleMs = run.quick ? 1_000 : 4_000;
    await sleep(settleMs);
    run.record('idle', residentOf(run.target) / MIB);
    const { few, many } = await whileHeld(run, settleMs / 2);
    run.record('streams', many / MIB);
    run.record('stream', (many - few) / (MORE.connections * MORE.streams));
    // Another process, whose memory has not grown for the streams.
    await run.target.stop();
    const target = await builds.start!(run.world, run.target.name, run.variant);
    try {
      run.record('loaded', (await mostUnderLoad(run, target)) / MIB);
    } finally {
      await target.stop();
    }
  },
};

export const readiness: Section = {
  name: 'ready',
  title: 'Time to ready',
  about:
    'From the start of the process to its first accepted connection (peers), to `/healthz/ready` (inbound) or ' +
    '`/healthz/live` (outbound); `image` is the bundle as the image runs it.',
  targets: processes,
  quickTargets: processes.filter((name) => name !== 'nginx'),
  rounds: 5,
  fresh: true,
  ...builds,
  measures: { ready: { title: 'ms to ready', better: 'less', digits: 0 } },
  measure: async ({ target, record }) => record('ready', target.readyMs!),
};

/** Resident bytes with the first hundred streams, and with all of them. */
async function whileHeld(run: Run, settleMs: number): Promise<{ few: number; many: number }> {
  const held = [];
  const resident: number[] = [];
  try {
    for (const shape of [FEW, MORE]) {
      held.push(await holdStreams(run.world.cleanup, run.target.port, shape));
      await sleep(settleMs);
      resident.push(residentOf(run.target));
    }
    return { few: resident[0]!, many: resident[1]! };
  } finally {
    for (const { end } of held) await end();
  }
}

async function mostUnderLoad({ world, quick, seconds }: Run, target: Target): Promise<number> {
  let most = 0;
  const sampling = setInterval(() => {
    most = Math.max(most, residentOf(target));
  }, SAMPLE_MS);
  try {
    await runTraffic(world.cleanup, target, {
      ...{ connections: 4, streams: 25, warmUpSeconds: 0.5 },
      seconds: quick ? 1 : 3 * seconds,
    });
    return most;
  } finally {
    clearInterval(sampling);
  }
}

function residentOf({ pids }: Target): number {
  return pids.reduce((sum, pid) => sum + residentBytes(pid), 0);
}
