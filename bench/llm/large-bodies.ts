// Measures large requests through one process: the memory that they take, and how long small requests wait for them.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { System } from './systems.ts';

export interface LargeBodiesResult {
  readonly requests: number;
  readonly served: number;
  readonly refused: number;
  /** Of the refused, those without a `retry-after`. */
  readonly withoutTime: number;
  readonly residentBeforeMiB: number;
  readonly residentMostMiB: number;
  /** Small requests that the egress answers itself, one after the other, all the while: the slowest. */
  readonly slowestSmallMs: number;
  readonly medianSmallMs: number;
}

const MIB = 1_048_576;

interface Answered {
  readonly status: number;
  readonly hasTime: boolean;
}

export async function measureLargeBodies(
  { baseUrl, pid }: System,
  requests: number,
  bodyBytes: number,
): Promise<LargeBodiesResult> {
  const url = `data:image/png;base64,${'A'.repeat(bodyBytes)}`;
  const content = [{ type: 'image_url', image_url: { url } }];
  const body = Buffer.from(JSON.stringify({ model: 'm', messages: [{ role: 'user', content }] }));
  // Outside of its API: the answer comes from the egress itself, so it tells how busy that is and not the provider.
  const pinger = new Worker(new URL('pinger.ts', import.meta.url), {
    workerData: { url: new URL('/small', baseUrl).href },
  });
  await once(pinger, 'message');
  const before = residentMiB(pid!);
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, residentMiB(pid!));
  }, 20);
  const answers = await Promise.all(Array.from({ length: requests }, () => ask(baseUrl, body)));
  if (requests === 0) await sleep(ALONE_MS);
  pinger.postMessage('end');
  const [times] = (await once(pinger, 'message')) as [number[]];
  clearInterval(watch);
  const refused = answers.filter(({ status }) => status !== 200);
  return {
    requests,
    served: requests - refused.length,
    refused: refused.length,
    withoutTime: refused.filter(({ hasTime }) => !hasTime).length,
    residentBeforeMiB: before,
    residentMostMiB: most,
    slowestSmallMs: times.at(-1) ?? 0,
    medianSmallMs: times[Math.floor(times.length / 2)] ?? 0,
  };
}

export function largeBodiesTable(
  rows: readonly (readonly [what: string, result: LargeBodiesResult])[],
): string {
  const head = [
    '| requests at once | served | refused, without a time | resident before, at most | small ones meanwhile: median, slowest |',
    '| --- | --- | --- | --- | --- |',
  ];
  const lines = rows.map(
    ([what, one]) =>
      `| ${what} | ${one.served} | ${one.refused}, ${one.withoutTime} | ${one.residentBeforeMiB.toFixed(0)} MiB, ${one.residentMostMiB.toFixed(0)} MiB | ${one.medianSmallMs.toFixed(1)} ms, ${one.slowestSmallMs.toFixed(0)} ms |`,
  );
  return [...head, ...lines].join('\n');
}

function ask(baseUrl: string, body: Buffer): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      `${baseUrl}/chat/completions`,
      {
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', 'content-length': body.length },
      },
      (response) => {
        response.resume();
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            hasTime: response.headers['retry-after'] !== undefined,
          }),
        );
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** How long we measure the small requests without large ones: the time that the machine itself adds. */
const ALONE_MS = 3_000;

/** From /proc: this is for Linux. */
function residentMiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

/** A large body in bytes. */
export const SIZES = { large: 10 * MIB, largest: 31 * MIB } as const;
