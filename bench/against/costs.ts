// The CPU time that a sidecar spends on a call, side by side for several checkouts.
import { Agent, request } from 'node:http';
import type { Cleanup } from '../cleanup.ts';
import { cpuMicroseconds } from '../cpu.ts';
import { warmUp } from '../fleet.ts';
import { startOutrigger, startProvider } from '../llm/systems.ts';
import { LOAD_CORE, TARGET_CORE } from '../start.ts';
import { startTarget } from '../targets.ts';
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
const SETTLE_SECONDS = 10;
const PACED: Traffic = { connections: 8, streams: 100, seconds: 4, callsPerSecond: 1_500 };
const LOADS: Readonly<Record<string, Traffic>> = {
  '4x25': { connections: 4, streams: 25, seconds: 3 },
  'at 1,500/s': PACED,
};
const LLM_REQUESTS = 3_000;

/** Starts each checkout's sidecar. Calling a result measures that one. */
export async function costsOf(
  side: Side,
  cleanup: Cleanup,
  checkouts: readonly string[],
): Promise<(() => Promise<Cost[]>)[]> {
  return side === 'llm' ? llmCosts(cleanup, checkouts) : callCosts(side, cleanup, checkouts);
}

async function callCosts(
  side: 'inbound' | 'outbound',
  cleanup: Cleanup,
  checkouts: readonly string[],
): Promise<(() => Promise<Cost[]>)[]> {
  const world = await startWorld(cleanup);
  const measures: (() => Promise<Cost[]>)[] = [];
  for (const checkout of checkouts) {
    const target = await startTarget(`outrigger ${side}`, { ...world.setup, checkout });
    await warmUp(world, target, WARM_UP_SECONDS);
    await runTraffic(cleanup, target, { ...PACED, seconds: SETTLE_SECONDS, warmUpSeconds: 0 });
    measures.push(async () => {
      const costs: Cost[] = [];
      for (const [name, traffic] of Object.entries(LOADS)) {
        const { cpuMicroseconds: spent, calls } = await runTraffic(cleanup, target, traffic);
        costs.push({ name, microseconds: spent / calls });
      }
      return costs;
    });
  }
  return measures;
}

async function llmCosts(cleanup: Cleanup, checkouts: readonly string[]): Promise<(() => Promise<Cost[]>)[]> {
  const url = await startProvider(cleanup, LOAD_CORE);
  const measures: (() => Promise<Cost[]>)[] = [];
  for (const checkout of checkouts) {
    const { baseUrl, pid } = await startOutrigger(cleanup, url, TARGET_CORE, {}, checkout);
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    cleanup.teardown(() => agent.destroy());
    const measure = async (): Promise<Cost[]> => {
      const costs: Cost[] = [];
      for (const [name, stream] of [
        ['plain', false],
        ['streamed', true],
      ] as const) {
        const before = cpuMicroseconds(pid!);
        await askMany(`${baseUrl}/chat/completions`, agent, stream);
        costs.push({ name, microseconds: (cpuMicroseconds(pid!) - before) / LLM_REQUESTS });
      }
      return costs;
    };
    await measure();
    measures.push(measure);
  }
  return measures;
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
