// The CPU time that a sidecar spends on a call, side by side for several checkouts.
import { Agent, request } from 'node:http';
import type { Cleanup } from '../cleanup.ts';
import { cpuMicroseconds } from '../cpu.ts';
import { warmUp } from '../fleet.ts';
import { startOutrigger, startProvider } from '../llm/systems.ts';
import { LOAD_CORE, TARGET_CORE } from '../start.ts';
import { startTarget, type Target } from '../targets.ts';
import { runTraffic, type Traffic } from '../traffic/run.ts';
import { startWorld } from '../world.ts';

export const sides = ['inbound', 'outbound', 'llm'] as const;
export type Side = (typeof sides)[number];

export interface Cost {
  /** Of the load. */
  readonly name: string;
  /** User and system time a call. */
  readonly microseconds: number;
}

const WARM_UP_SECONDS = 3;
/** Compiled anew for calls that come evenly; see `sections/rates.ts`. */
const SETTLE_SECONDS = 8;
const PACED: Traffic = { connections: 4, streams: 100, seconds: 2, warmUpSeconds: 0.3, callsPerSecond: 750 };
const LOADS: Readonly<Record<string, Traffic>> = {
  '4x25': { connections: 4, streams: 25, seconds: 2, warmUpSeconds: 0.3 },
  'at 750/s': PACED,
};
const LLM_REQUESTS = 5_000;

/** Measures all checkouts' sidecars at the same time: the costs of each, in the order of the checkouts. */
export type Round = () => Promise<Cost[][]>;

/** Starts each checkout's sidecar on one core, where what slows one of them slows the others. */
export async function startSide(side: Side, cleanup: Cleanup, checkouts: readonly string[]): Promise<Round> {
  return side === 'llm' ? startEgresses(cleanup, checkouts) : startListeners(side, cleanup, checkouts);
}

async function startListeners(
  side: 'inbound' | 'outbound',
  cleanup: Cleanup,
  checkouts: readonly string[],
): Promise<Round> {
  const world = await startWorld(cleanup);
  const targets: Target[] = [];
  for (const checkout of checkouts) {
    const target = await startTarget(`outrigger ${side}`, { ...world.setup, checkout });
    await warmUp(world, target, WARM_UP_SECONDS);
    targets.push(target);
  }
  const load = (traffic: Traffic) =>
    Promise.all(targets.map((target) => runTraffic(cleanup, target, traffic)));
  await load({ ...PACED, seconds: SETTLE_SECONDS });
  return async () => {
    const costs: Cost[][] = targets.map(() => []);
    for (const [name, traffic] of Object.entries(LOADS)) {
      const measured = await load(traffic);
      measured.forEach(({ cpuMicroseconds: spent, calls }, at) => {
        costs[at]!.push({ name, microseconds: spent / calls });
      });
    }
    return costs;
  };
}

async function startEgresses(cleanup: Cleanup, checkouts: readonly string[]): Promise<Round> {
  const url = await startProvider(cleanup, LOAD_CORE);
  const egresses: { ask: (stream: boolean) => Promise<void>; pid: number }[] = [];
  for (const checkout of checkouts) {
    const { baseUrl, pid } = await startOutrigger(cleanup, url, TARGET_CORE, {}, checkout);
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    cleanup.teardown(() => agent.destroy());
    egresses.push({ pid: pid!, ask: (stream) => askMany(`${baseUrl}/chat/completions`, agent, stream) });
  }
  const round: Round = async () => {
    const costs: Cost[][] = egresses.map(() => []);
    for (const [name, stream] of [
      ['plain', false],
      ['streamed', true],
    ] as const) {
      const before = egresses.map(({ pid }) => cpuMicroseconds(pid));
      await Promise.all(egresses.map(({ ask }) => ask(stream)));
      egresses.forEach(({ pid }, at) => {
        costs[at]!.push({ name, microseconds: (cpuMicroseconds(pid) - before[at]!) / LLM_REQUESTS });
      });
    }
    return costs;
  };
  await round();
  await round();
  return round;
}

/** Eight at a time. */
async function askMany(url: string, agent: Agent, stream: boolean): Promise<void> {
  const body = JSON.stringify({
    model: 'm',
    stream,
    n: 20,
    messages: [{ role: 'user', content: 'How does an outrigger keep a canoe up? '.repeat(8) }],
  });
  let left = LLM_REQUESTS;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await ask(url, agent, body);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

function ask(url: string, agent: Agent, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const asked = request(url, { method: 'POST', agent, headers }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`the egress answered ${response.statusCode}`));
      response.resume();
      response.on('end', resolve);
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}
