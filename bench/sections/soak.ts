// A long run at a steady rate through two sidecars, as between two pods, with their memory watched.
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from '../../scripts/harness/memory.ts';
import { describeMachine } from '../measuring/machine.ts';
import type { Section } from '../measuring/procedure.ts';
import type { SectionResult, SectionRow } from '../measuring/results.ts';
import { type Line, lineThrough } from '../measuring/statistics.ts';
import { paths } from '../traffic/answers.ts';
import { type Measured, runTraffic } from '../traffic/run.ts';
import { Fleet } from '../world/fleet.ts';
import type { Target } from '../world/setup.ts';
import { startTarget } from '../world/targets.ts';

const MIB = 1 << 20;
/** Memory of the first part is that of a process that finds its size. */
const SETTLED_FROM = 1 / 3;
const BLOCKS = 10;
const SAMPLES = 240;
/** As Prometheus does. */
const SCRAPE_MS = 15_000;
/** Streams beside the unary calls, each of so many chunks; one every so many calls. */
const STREAM_CHUNKS = 50;
const CALLS_A_STREAM = 20;

export interface SoakOptions {
  seconds: number;
  callsPerSecond: number;
  image: boolean;
  log: (line: string) => void;
}

/** Its report is the common one; it is measured by `soak` and not by the procedure. */
export const soakSection: Section = {
  name: 'soak',
  title: 'A long run',
  about:
    'Tasks with new header values at a steady rate, and streams beside them, through an outbound and an inbound sidecar. The bench scrapes their ' +
    'metrics every 15 s and samples resident memory over the whole run. The slope is that of the last two ' +
    'thirds, with the 95 % interval of a line through the means of ten blocks.',
  targets: ['outrigger outbound', 'outrigger inbound'],
  measures: {
    seconds: { title: 'seconds', better: 'more', digits: 0, aside: true },
    calls: { title: 'calls', better: 'more', digits: 0, aside: true },
    first: { title: 'MiB after a third', better: 'less', digits: 1 },
    last: { title: 'MiB at the end', better: 'less', digits: 1 },
    slope: { title: 'MiB a minute', better: 'less', digits: 3 },
    interval: { title: '± of that', better: 'less', digits: 3, aside: true },
  },
  measure: async () => {},
};

export async function soak({ seconds, callsPerSecond, image, log }: SoakOptions): Promise<SectionResult> {
  const fleet = await Fleet.start({ image });
  try {
    const { world } = fleet;
    const result: SectionResult = {
      ...describeMachine('soak'),
      build: image ? 'image' : 'sources',
      rounds: 1,
      seconds,
      rows: [],
    };
    const inbound = await startTarget('outrigger inbound', world.setup);
    const outbound = await startTarget('outrigger outbound', {
      ...world.setup,
      endpoints: [`127.0.0.1:${inbound.port}`],
    });
    const sampled = [outbound, inbound].map((target) => ({ target, mib: [] as number[] }));
    const common = {
      seconds,
      warmUpSeconds: 1,
      connections: 8,
      streams: 100,
      uniqueHeaders: 'literal',
    } as const;
    let ended = false;
    const traffic = Promise.all([
      runTraffic(world.cleanup, outbound, { ...common, callsPerSecond }),
      runTraffic(world.cleanup, outbound, {
        ...common,
        ...{ callsPerSecond: callsPerSecond / CALLS_A_STREAM, path: paths.stream, chunks: STREAM_CHUNKS },
      }),
    ]).finally(() => {
      ended = true;
    });
    // Its rejection is looked at below.
    traffic.catch(() => {});
    const everyMs = (seconds * 1_000) / SAMPLES;
    let scrapedMs = performance.now();
    let saidMs = scrapedMs;
    while (!ended) {
      await sleep(everyMs);
      for (const { target, mib } of sampled) mib.push(residentBytes(target.pids[0]!) / MIB);
      if (performance.now() - scrapedMs > SCRAPE_MS) {
        scrapedMs = performance.now();
        await Promise.all(sampled.map(({ target }) => scrape(target)));
      }
      if (performance.now() - saidMs > 30_000) {
        saidMs = performance.now();
        log(
          `soak: ${sampled.map(({ target, mib }) => `${target.name} ${mib.at(-1)!.toFixed(1)} MiB`).join(', ')}`,
        );
      }
    }
    const made = await traffic;
    for (const { target, mib } of sampled)
      result.rows.push(rowOf(target, mib.slice(0, SAMPLES), everyMs / 60_000, seconds, made));
    return result;
  } finally {
    await fleet.end();
  }
}

function rowOf(
  target: Target,
  mib: number[],
  minutesASample: number,
  seconds: number,
  made: readonly Measured[],
): SectionRow {
  const settled = mib.slice(Math.floor(mib.length * SETTLED_FROM));
  const { slope, interval } = slopeOf(settled, minutesASample);
  const calls = made.reduce((sum, { calls }) => sum + calls, 0);
  return {
    target: target.name,
    variant: '',
    values: {
      ...{ seconds: [seconds], calls: [calls], first: [settled[0]!], last: [settled.at(-1)!] },
      ...{ slope: [slope], interval: [interval], mib: mib.map((value) => Number(value.toFixed(2))) },
    },
  };
}

/** A line through the means of blocks: neighbouring samples say the same, so they are no ten pieces of evidence. */
export function slopeOf(samples: readonly number[], minutesASample: number): Line {
  const size = Math.floor(samples.length / BLOCKS);
  const points = Array.from({ length: BLOCKS }, (_, block) => {
    const part = samples.slice(block * size, (block + 1) * size);
    const mean = part.reduce((sum, value) => sum + value, 0) / part.length;
    return [(block + 0.5) * size * minutesASample, mean] as const;
  });
  return lineThrough(points);
}

async function scrape({ metricsPort }: Target): Promise<void> {
  await (
    await fetch(`http://127.0.0.1:${metricsPort}/metrics`, {
      signal: AbortSignal.timeout(10_000),
    })
  ).text();
}
