// Measures many simultaneous streams through one process on one core: stalls, memory and CPU time.
import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import type { System } from './systems.ts';

export interface StreamsResult {
  readonly streams: number;
  readonly complete: number;
  /** With a pause of more than a second where the provider's was a tenth of one. */
  readonly stalled: number;
  readonly longestPauseMs: number;
  readonly eventsPerSecond: number;
  readonly cpuPercent: number;
  readonly residentBeforeMiB: number;
  readonly residentMostMiB: number;
}

const PIECES = 100;
const EVERY_MS = 100;
const STALLED_MS = 1_000;

export async function measureStreams({ baseUrl, pid }: System, streams: number): Promise<StreamsResult> {
  const agent = new Agent({ keepAlive: false, maxSockets: streams });
  const numbers = () => (pid === undefined ? { residentMiB: 0, cpuSeconds: 0 } : processNumbers(pid));
  const before = numbers();
  let most = before.residentMiB;
  const watch = setInterval(() => {
    most = Math.max(most, numbers().residentMiB);
  }, 250);
  const startedMs = performance.now();
  const results = await Promise.all(Array.from({ length: streams }, () => follow(baseUrl, agent)));
  const seconds = (performance.now() - startedMs) / 1000;
  clearInterval(watch);
  const after = numbers();
  const events = results.reduce((sum, one) => sum + one.events, 0);
  return {
    streams,
    complete: results.filter(({ complete }) => complete).length,
    stalled: results.filter(({ longestPauseMs }) => longestPauseMs > STALLED_MS).length,
    longestPauseMs: Math.max(...results.map(({ longestPauseMs }) => longestPauseMs)),
    eventsPerSecond: events / seconds,
    cpuPercent: ((after.cpuSeconds - before.cpuSeconds) / seconds) * 100,
    residentBeforeMiB: before.residentMiB,
    residentMostMiB: most,
  };
}

interface Followed {
  readonly complete: boolean;
  readonly events: number;
  readonly longestPauseMs: number;
}

function follow(baseUrl: string, agent: Agent): Promise<Followed> {
  const body = JSON.stringify({ model: 'm', stream: true, n: PIECES, seed: EVERY_MS, messages: [] });
  return new Promise((resolve) => {
    let events = 0;
    let lastMs = 0;
    let longestPauseMs = 0;
    let tail = '';
    const request = httpRequest(
      `${baseUrl}/chat/completions`,
      { method: 'POST', agent, headers: { 'content-type': 'application/json' } },
      (response) => {
        lastMs = performance.now();
        response.setEncoding('latin1').on('data', (part: string) => {
          const nowMs = performance.now();
          longestPauseMs = Math.max(longestPauseMs, nowMs - lastMs);
          lastMs = nowMs;
          events += part.split('\n\n').length - 1;
          tail = (tail + part).slice(-32);
        });
        const done = (): void =>
          resolve({ complete: response.complete && tail.endsWith('[DONE]\n\n'), events, longestPauseMs });
        response.on('end', done);
        response.on('error', done);
      },
    );
    request.on('error', () => resolve({ complete: false, events, longestPauseMs: Number.POSITIVE_INFINITY }));
    request.end(body);
  });
}

export interface MemoryResult {
  readonly requests: number;
  readonly residentMiB: readonly number[];
}

/** Plain and streamed requests, one after the other on a few connections; resident memory after each fifth of them. */
export async function measureMemory({ baseUrl, pid }: System, requests: number): Promise<MemoryResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const residentMiB: number[] = [];
  for (let part = 0; part < 5; part++) {
    let left = requests / 5;
    const work = async (): Promise<void> => {
      while (left-- > 0) await ask(baseUrl, agent, left % 2 === 0);
    };
    await Promise.all(Array.from({ length: 16 }, work));
    residentMiB.push(processNumbers(pid!).residentMiB);
  }
  agent.destroy();
  return { requests, residentMiB };
}

function ask(baseUrl: string, agent: Agent, stream: boolean): Promise<void> {
  const body = JSON.stringify({
    model: 'm',
    stream,
    n: 20,
    messages: [{ role: 'user', content: 'x'.repeat(2_000) }],
  });
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      `${baseUrl}/chat/completions`,
      { method: 'POST', agent, headers: { 'content-type': 'application/json' } },
      (response) => {
        response.resume();
        response.on('end', resolve);
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** From /proc: this is for Linux. */
function processNumbers(pid: number): { residentMiB: number; cpuSeconds: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    residentMiB: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024,
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
  };
}
