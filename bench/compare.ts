// The sidecar beside its peers: the same load, upstream and core for each, in interleaved rounds.
import { cpus, loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from '../test/support/memory.ts';
import { RawClient } from '../test/support/raw-grpc.ts';
import { skipWithout } from '../test/support/tool.ts';
import { Cleanup } from './cleanup.ts';
import { cpuMicroseconds } from './cpu.ts';
import { type Fixture, writeFixture } from './fixture.ts';
import { runLoad } from './h2load.ts';
import { type Summary, summarize } from './statistics.ts';
import { startUpstream, type Target, targets } from './targets.ts';

export interface CompareOptions {
  rounds: number;
  /** Of each measurement. */
  seconds: number;
  /** Names of targets; all that can be had when empty. */
  only: readonly string[];
  log: (line: string) => void;
}

/** What is measured of each target in each round. */
export const measures = {
  wide: { title: 'calls/s, 4 connections x 25 streams', better: 'more' },
  many: { title: 'calls/s, 64 x 1', better: 'more' },
  perCpu: { title: 'calls in a second of CPU time, 4 x 25', better: 'more' },
  cpu: { title: 'CPU µs a call at 1,500/s', better: 'less' },
  mean: { title: 'mean ms at 1,500/s', better: 'less' },
  large: { title: '1 MiB answers, MiB/s', better: 'more' },
} as const;

export type Measure = keyof typeof measures;

export interface Row {
  name: string;
  readyMs?: number;
  /** Resident memory before any load and after all of it, in MiB. */
  idleMiB?: number;
  loadedMiB?: number;
  results: Partial<Record<Measure, Summary>>;
  /** Why it has no results. */
  missing?: string;
}

export interface Comparison {
  at: string;
  processor: string;
  cores: number;
  /** Load average of the machine before it began: well above 0, and the figures are somebody else's, too. */
  loadBefore: number;
  rounds: number;
  seconds: number;
  rows: Row[];
}

const loadCore = 0;
const targetCore = 1;
const steadyCallsPerSecond = 1_500;
/** After this long a process that has started is idle. */
const settleMs = 3_000;

export async function compare({ rounds, seconds, only, log }: CompareOptions): Promise<Comparison> {
  if (process.platform !== 'linux' || cpus().length < 2) {
    throw new Error(
      'this bench pins processes to cores and reads /proc: it needs Linux with two cores or more',
    );
  }
  const lacking = skipWithout('taskset', 'h2load', 'nghttpd');
  if (lacking !== false) throw new Error(lacking);

  const loadBefore = loadavg()[0]!;
  const cleanup = new Cleanup();
  try {
    const fixture = writeFixture(cleanup);
    const upstreamPort = await startUpstream(cleanup, loadCore, fixture.folder);
    const rows: Row[] = [];
    const running: { row: Row; target: Target; values: Record<Measure, number[]> }[] = [];
    for (const [name, { missing, start }] of Object.entries(targets)) {
      if (only.length > 0 && !only.includes(name)) continue;
      const row: Row = { name, results: {} };
      rows.push(row);
      const reason = missing();
      if (reason !== false) {
        row.missing = reason;
        log(`${name}: left out (${reason})`);
        continue;
      }
      const target = await start({ cleanup, upstreamPort, core: targetCore, folder: fixture.folder });
      if (target.readyMs !== undefined) row.readyMs = target.readyMs;
      running.push({ row, target, values: { wide: [], many: [], perCpu: [], cpu: [], mean: [], large: [] } });
    }
    await sleep(settleMs);
    for (const { row, target } of running) {
      if (target.pid !== undefined) row.idleMiB = residentBytes(target.pid) / (1 << 20);
      await proveItWorks(fixture, target);
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const { target, values } of running) {
        const measured = await measure(cleanup, fixture, target, seconds);
        for (const [name, value] of Object.entries(measured)) values[name as Measure].push(value);
        log(`round ${round + 1} of ${rounds}, ${target.name}: ${describe(measured)}`);
      }
      // Each round begins with another target, so that none always follows the same neighbour.
      running.push(running.shift()!);
    }
    for (const { row, target, values } of running) {
      for (const [name, list] of Object.entries(values)) {
        if (list.length > 0) row.results[name as Measure] = summarize(list);
      }
      if (target.pid !== undefined) row.loadedMiB = residentBytes(target.pid) / (1 << 20);
    }
    const processor = cpus()[0]!.model;
    return {
      at: new Date().toISOString(),
      processor,
      cores: cpus().length,
      loadBefore,
      rounds,
      seconds,
      rows,
    };
  } finally {
    await cleanup.run();
  }
}

/** One real call first, byte for byte: what is not the right answer must not be measured. */
async function proveItWorks(fixture: Fixture, target: Target): Promise<void> {
  const own = new Cleanup();
  try {
    const client = new RawClient(own, target.port);
    for (const document of [fixture.small, fixture.large]) {
      const path = document.path;
      const outcome = await client.unary(fixture.request.subarray(5), {
        path,
        deadline: Date.now() + 10_000,
      });
      if (outcome.code !== 0 || outcome.response?.equals(document.body.subarray(5)) !== true) {
        throw new Error(`${target.name} answers ${path} with ${outcome.code} ${outcome.details}`);
      }
    }
  } finally {
    await own.run();
  }
}

async function measure(
  cleanup: Cleanup,
  fixture: Fixture,
  { port, pid }: Target,
  seconds: number,
): Promise<Partial<Record<Measure, number>>> {
  const run = (load: Omit<Parameters<typeof runLoad>[4], 'document'>, document = fixture.small) =>
    runLoad(cleanup, fixture, port, loadCore, { ...load, document });
  const spentBy = (): number => (pid === undefined ? 0 : cpuMicroseconds(pid));

  const wideBefore = spentBy();
  const wideStartedMs = performance.now();
  const wide = await run({ connections: 4, streams: 25, seconds });
  // How much of a core the process really had: other work on the machine takes time from it, not speed.
  const share = (spentBy() - wideBefore) / 1_000 / (performance.now() - wideStartedMs);
  const many = await run({ connections: 64, streams: 1, seconds });
  const steadyBefore = spentBy();
  // One stream a connection and evenly paced: what an idle agent system looks like.
  const steady = await run({
    connections: 8,
    streams: 1,
    callsPerSecond: steadyCallsPerSecond,
    seconds: seconds + 1,
  });
  const steadySpent = spentBy() - steadyBefore;
  const large = await run({ connections: 4, streams: 4, seconds }, fixture.large);
  return {
    wide: wide.callsPerSecond,
    many: many.callsPerSecond,
    ...(pid === undefined ? {} : { perCpu: wide.callsPerSecond / share, cpu: steadySpent / steady.calls }),
    mean: steady.meanMs,
    large: large.callsPerSecond,
  };
}

function describe(measured: Partial<Record<Measure, number>>): string {
  return Object.entries(measured)
    .map(([name, value]) => `${name} ${value.toFixed(value < 10 ? 2 : 0)}`)
    .join(', ');
}
