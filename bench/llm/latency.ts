// The time to the first byte of an answer directly, through the egress, and through other proxies, in turns on warm connections.
import { Agent, request as httpRequest } from 'node:http';
import { summarize } from '../measuring/statistics.ts';
import { API_KEYS, type System } from './systems.ts';

export interface Latency {
  readonly name: string;
  /** To the first byte of the body, in milliseconds. */
  readonly medianMs: number;
  readonly p99Ms: number;
  /** Against the direct request of the same turn. */
  readonly addedMedianMs: number;
}

export async function measureLatency(
  direct: System,
  others: readonly System[],
  rounds: number,
): Promise<Latency[]> {
  const agents = new Map(
    [direct, ...others].map(({ name }) => [name, new Agent({ keepAlive: true, maxSockets: 1 })]),
  );
  const samples = new Map([direct, ...others].map(({ name }) => [name, [] as number[]]));
  const warmUp = Math.ceil(rounds / 5);
  for (let round = 0; round < rounds + warmUp; round++) {
    for (const system of [direct, ...others]) {
      const ms = await firstByteMs(system, agents.get(system.name)!);
      if (round >= warmUp) samples.get(system.name)!.push(ms);
    }
  }
  for (const agent of agents.values()) agent.destroy();
  const base = samples.get(direct.name)!;
  return [direct, ...others].map(({ name }) => {
    const values = samples.get(name)!;
    const sorted = [...values].sort((a, b) => a - b);
    return {
      name,
      medianMs: summarize(values).median,
      p99Ms: sorted[Math.floor(sorted.length * 0.99)]!,
      addedMedianMs: summarize(values.map((value, i) => value - base[i]!)).median,
    };
  });
}

const BODY = JSON.stringify({
  model: 'm',
  stream: true,
  n: 3,
  messages: [
    {
      role: 'user',
      content: 'What is an outrigger canoe, and why does it stay up in rough water? '.repeat(15),
    },
  ],
});

function firstByteMs({ name, baseUrl }: System, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(BODY),
      authorization: `Bearer ${API_KEYS[name] ?? 'x'}`,
    };
    const startedMs = performance.now();
    let firstMs = 0;
    const request = httpRequest(
      `${baseUrl}/chat/completions`,
      { method: 'POST', agent, headers },
      (response) => {
        response.on('data', () => {
          if (firstMs === 0) firstMs = performance.now() - startedMs;
        });
        response.on('end', () => {
          if (response.statusCode === 200) resolve(firstMs);
          else reject(new Error(`${name} answered ${response.statusCode}`));
        });
      },
    );
    request.on('error', reject);
    request.end(BODY);
  });
}
