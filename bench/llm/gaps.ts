// A thousand streams of four events a second: how much longer the gaps at the client are than those at the provider, which
// writes the time of each event into it.
import { Agent, request as httpRequest } from 'node:http';
import { cpuMicroseconds } from '../measuring/cpu.ts';
import { percentile } from '../measuring/statistics.ts';
import type { System } from './systems.ts';

export interface Gaps {
  readonly streams: number;
  readonly complete: number;
  readonly events: number;
  /** How much longer a gap is at the client. */
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly mostMs: number;
  /** Of one core; undefined where nothing is in between. */
  readonly cpuPercent: number | undefined;
}

const EVERY_MS = 250;

export async function measureGaps({ baseUrl, pid }: System, streams: number, seconds: number): Promise<Gaps> {
  const agent = new Agent({ keepAlive: false });
  const added: number[] = [];
  const beganMs = performance.now();
  const beganUs = pid === undefined ? 0 : cpuMicroseconds(pid);
  const ends = await Promise.all(
    Array.from({ length: streams }, () => follow(baseUrl, agent, (seconds * 1_000) / EVERY_MS, added)),
  );
  const cpuUs = pid === undefined ? 0 : cpuMicroseconds(pid) - beganUs;
  added.sort((a, b) => a - b);
  return {
    streams,
    complete: ends.filter((isWhole) => isWhole).length,
    events: added.length,
    p99Ms: percentile(added, 0.99),
    p999Ms: percentile(added, 0.999),
    mostMs: added.at(-1) ?? Number.NaN,
    cpuPercent: pid === undefined ? undefined : cpuUs / 10 / (performance.now() - beganMs),
  };
}

/** @param added receives, of each gap, how much longer it was here than at the provider */
function follow(baseUrl: string, agent: Agent, pieces: number, added: number[]): Promise<boolean> {
  const body = JSON.stringify({ model: 'm', stream: true, n: pieces, seed: EVERY_MS, messages: [] });
  return new Promise((resolve) => {
    let rest = '';
    let sentMs = 0;
    let hereMs = 0;
    const headers = { 'content-type': 'application/json' };
    const request = httpRequest(
      `${baseUrl}/chat/completions`,
      { method: 'POST', agent, headers },
      (response) => {
        response.setEncoding('latin1').on('data', (part: string) => {
          const nowMs = performance.now();
          const events = (rest + part).split('\n\n');
          rest = events.pop() ?? '';
          for (const event of events) {
            const at = /"content":"at ([\d.]+) /.exec(event)?.[1];
            if (at === undefined) continue;
            if (hereMs > 0) added.push(nowMs - hereMs - (Number(at) - sentMs));
            sentMs = Number(at);
            hereMs = nowMs;
          }
          if (events.some((event) => event.includes('[DONE]'))) resolve(true);
        });
        response.on('close', () => resolve(false));
      },
    );
    request.on('error', () => resolve(false));
    request.end(body);
  });
}
