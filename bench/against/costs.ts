// The CPU time that a sidecar spends on a call, side by side for several checkouts.

import { type Ask, asker } from '../../scripts/harness/llm/asker.ts';
import { startOutrigger, startProvider } from '../llm/systems.ts';
import { cpuMicroseconds } from '../measuring/cpu.ts';
import { paths } from '../traffic/answers.ts';
import { runTraffic, type Traffic } from '../traffic/run.ts';
import type { Cleanup } from '../world/cleanup.ts';
import { warmUp } from '../world/fleet.ts';
import type { Target } from '../world/setup.ts';
import { LOAD_CORE, TARGET_CORE } from '../world/start.ts';
import { startPair, startTarget } from '../world/targets.ts';
import { startWorld } from '../world/world.ts';

export const sides = ['inbound', 'outbound', 'pair', 'llm'] as const;
export type Side = (typeof sides)[number];

interface Cost {
  /** Of the load. */
  readonly name: string;
  /** User and system time a call. */
  readonly microseconds: number;
}

const WARM_UP_SECONDS = 3;
/** Compiled anew for calls that come evenly; see `sections/rates.ts`. */
const SETTLE_SECONDS = 8;
const PACED: Traffic = { connections: 4, streams: 100, seconds: 2, warmUpSeconds: 0.3, callsPerSecond: 750 };
const WIDE: Traffic = { connections: 4, streams: 25, seconds: 2, warmUpSeconds: 0.3 };
/** By their names on the command line, which are those of rows of `npm run bench`. */
export const loads: Readonly<Record<string, Traffic>> = {
  '4x25': WIDE,
  '750/s': PACED,
  chunks: { ...WIDE, path: paths.stream, chunks: 2_000 },
  stream: { ...WIDE, path: paths.stream, chunks: 200 },
  'stream-without-ids': { ...WIDE, path: paths.stream, chunks: 200, withoutIds: true },
  tokens: { connections: 4, streams: 2, seconds: 4, warmUpSeconds: 1, path: paths.tokens, chunks: 200 },
  large: { ...WIDE, streams: 4, path: paths.large },
  'unique-headers': { ...WIDE, uniqueHeaders: 'literal' },
  'unique-headers-indexed': { ...WIDE, uniqueHeaders: 'indexed' },
};

/** Chooses the loads that measure the calls of both listeners. */
export interface Calls {
  /** Names of {@link loads}. */
  readonly loads: readonly string[];
  /** Of the calls, so many percent are traced; 0 starts the sidecars without tracing. */
  readonly tracedPercent: number;
}
const LLM_REQUESTS = 1_500;
/** Of a round of the egress. */
const LLM_TURNS = 4;

/** What is measured. */
export interface Checkout {
  readonly folder: string;
  /** Settings of the inbound listener beside those of the bench. */
  readonly inbound: object;
}

/** Measures all checkouts' sidecars side by side: the costs of each, in the order of the checkouts. */
export type Round = () => Promise<Cost[][]>;

/** Starts each checkout's sidecar on one core, where other work on the machine slows all of them alike. */
export async function startSide(
  side: Side,
  cleanup: Cleanup,
  checkouts: readonly Checkout[],
  calls: Calls,
): Promise<Round> {
  return side === 'llm' ? startEgresses(cleanup, checkouts) : startListeners(side, cleanup, checkouts, calls);
}

async function startListeners(
  side: Exclude<Side, 'llm'>,
  cleanup: Cleanup,
  checkouts: readonly Checkout[],
  calls: Calls,
): Promise<Round> {
  const world = await startWorld(cleanup);
  const { tracedPercent: percent } = calls;
  const tracing = percent === 0 ? {} : { tracing: { percent, collectorPort: world.collectorPort } };
  const targets: Target[] = [];
  for (const { folder: checkout, inbound } of checkouts) {
    const setup = { ...world.setup, ...tracing, checkout, inbound };
    const target = side === 'pair' ? await startPair(setup) : await startTarget(`outrigger ${side}`, setup);
    await warmUp(world, target, WARM_UP_SECONDS);
    targets.push(target);
  }
  const load = (traffic: Traffic) =>
    Promise.all(targets.map((target) => runTraffic(cleanup, target, traffic)));
  await load({ ...PACED, seconds: SETTLE_SECONDS });
  return async () => {
    const costs: Cost[][] = targets.map(() => []);
    for (const name of calls.loads) {
      const measured = await load(loads[name]!);
      measured.forEach(({ cpuMicroseconds: spent, calls: made }, at) => {
        costs[at]!.push({ name, microseconds: spent / made });
      });
    }
    return costs;
  };
}

async function startEgresses(cleanup: Cleanup, checkouts: readonly Checkout[]): Promise<Round> {
  const url = await startProvider(cleanup, LOAD_CORE);
  const egresses: { ask: Ask; pid: number }[] = [];
  for (const { folder: checkout } of checkouts) {
    const { baseUrl, pid } = await startOutrigger(cleanup, url, TARGET_CORE, {}, { checkout });
    egresses.push({ pid: pid!, ask: asker(cleanup, baseUrl) });
  }
  const spent = async ({ ask, pid }: (typeof egresses)[number], stream: boolean): Promise<number> => {
    const before = cpuMicroseconds(pid);
    await ask(LLM_REQUESTS, stream);
    return (cpuMicroseconds(pid) - before) / LLM_REQUESTS;
  };
  // By turns, and the least of them: with two of them at once how many requests one read brings changes from turn to turn,
  // and all that disturbs a turn makes it longer.
  const round: Round = async () => {
    const costs: Cost[][] = egresses.map(() => []);
    for (const [name, stream] of [
      ['plain', false],
      ['streamed', true],
    ] as const) {
      const least = egresses.map(() => Number.POSITIVE_INFINITY);
      for (let turn = 0; turn < LLM_TURNS; turn++) {
        const order = [...egresses.keys()];
        for (const at of turn % 2 === 0 ? order : order.reverse())
          least[at] = Math.min(least[at]!, await spent(egresses[at]!, stream));
      }
      egresses.forEach((_, at) => {
        costs[at]!.push({ name, microseconds: least[at]! });
      });
    }
    return costs;
  };
  await round();
  await round();
  return round;
}
