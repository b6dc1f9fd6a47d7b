// `node bench/single/metrics-scrape.ts`: measures the time of `/metrics` with 1,000 endpoints, and its effect on calls.
//
// A real sidecar with 1,000 endpoints in 10 clusters, each of which has answered with two codes. Calls come evenly,
// by turns without and with a scrape four times a second, sixty times as often as Prometheus usually scrapes.

import { once } from 'node:events';
import { connect, createServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { parseExposition } from '../../scripts/harness/exposition.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { summarize } from '../measuring/statistics.ts';
import { Cleanup } from '../world/cleanup.ts';

const CLUSTERS = 10;
const ENDPOINTS_A_CLUSTER = 100;
const CALLS_A_SECOND = 500;
const ROUNDS = 5;
const ROUND_MS = 4_000;
const SCRAPE_EVERY_MS = 250;

interface Round {
  callsMs: number[];
  scrapesMs: number[];
}

if (isMainThread) await main();
else await scrapeUntilEnd();

async function main(): Promise<void> {
  const all = new Cleanup();
  try {
    const sidecar = await start(all);
    const call = caller(sidecar, all);
    await visitEveryEndpoint(call);
    const page = parseExposition(await scrape(sidecar.metricsPort));
    const attempts = page.all('outrigger_attempts_total').length;
    if (attempts < 2 * CLUSTERS * ENDPOINTS_A_CLUSTER)
      throw new Error(`only ${attempts} lines of attempts: some endpoint got no call`);
    const rounds = { without: [] as Round[], with: [] as Round[] };
    for (let i = 0; i < ROUNDS; i++) {
      rounds.without.push(await measure(sidecar, call, false));
      rounds.with.push(await measure(sidecar, call, true));
    }
    const body = await scrape(sidecar.metricsPort);
    print(body, rounds);
  } finally {
    await all.run();
  }
}

async function start(cleanup: Cleanup): Promise<Sidecar> {
  const upstream = createServer((request: Http2ServerRequest, response: Http2ServerResponse) => {
    const status = request.headers['fail'] === undefined ? '0' : '14';
    response.stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': status },
      { endStream: true },
    );
  });
  await new Promise<void>((resolve) => upstream.listen(0, '0.0.0.0', resolve));
  cleanup.teardown(() => upstream.close());
  const { port } = upstream.address() as AddressInfo;
  const clusters: Record<string, unknown> = {};
  for (let i = 0; i < CLUSTERS; i++) {
    // Linux answers on every address of 127/8.
    const endpoints = Array.from({ length: ENDPOINTS_A_CLUSTER }, (_, k) => `127.1.${i}.${k + 1}:${port}`);
    clusters[`c${i}`] = {
      endpoints,
      balancer: 'round_robin',
      circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
      outlier_detection: { max_ejection_percent: 0 },
    };
  }
  return startSidecar(cleanup, { outbound: { clusters } }, { until: 'live' });
}

type Caller = (cluster: string, fail: boolean) => Promise<number>;

/** Makes one call and gives its milliseconds. */
function caller({ outboundPort }: Sidecar, cleanup: Cleanup): Caller {
  const session = connect(`http://127.0.0.1:${outboundPort}`);
  cleanup.teardown(() => session.destroy());
  return (cluster, fail) =>
    new Promise((resolve, reject) => {
      const startedMs = performance.now();
      const stream = session.request({
        ':method': 'POST',
        ':path': '/bench.Service/Method',
        ':authority': cluster,
        'content-type': 'application/grpc',
        te: 'trailers',
        ...(fail ? { fail: '1' } : {}),
      });
      stream.on('error', reject).on('close', () => resolve(performance.now() - startedMs));
      stream.resume().end(Buffer.alloc(5));
    });
}

async function visitEveryEndpoint(call: Caller): Promise<void> {
  for (let k = 0; k < 3 * ENDPOINTS_A_CLUSTER; k++)
    await Promise.all(
      Array.from({ length: CLUSTERS }, (_, i) => call(`c${i}`, k >= 1.5 * ENDPOINTS_A_CLUSTER)),
    );
}

async function scrape(metricsPort: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`, {
    headers: { accept: 'application/openmetrics-text;version=1.0.0' },
  });
  return response.text();
}

/** In a thread of its own: the scraper's work with the page must not delay the calls. */
async function scrapeUntilEnd(): Promise<void> {
  const metricsPort = workerData as number;
  let ended = false;
  parentPort!.once('message', () => (ended = true));
  const scrapesMs: number[] = [];
  // The first one loads what it needs to ask.
  await scrape(metricsPort);
  parentPort!.postMessage('ready');
  while (!ended) {
    const startedMs = performance.now();
    await scrape(metricsPort);
    scrapesMs.push(performance.now() - startedMs);
    await sleep(SCRAPE_EVERY_MS);
  }
  parentPort!.postMessage(scrapesMs);
}

async function measure(sidecar: Sidecar, call: Caller, scrapes: boolean): Promise<Round> {
  const scraper = scrapes
    ? new Worker(new URL(import.meta.url), { workerData: sidecar.metricsPort })
    : undefined;
  // The measurement excludes the start of the thread.
  if (scraper !== undefined) await once(scraper, 'message');
  const callsMs: number[] = [];
  const running: Promise<void>[] = [];
  const startedMs = performance.now();
  for (let n = 0; performance.now() < startedMs + ROUND_MS; n++) {
    const waitMs = startedMs + (n * 1000) / CALLS_A_SECOND - performance.now();
    if (waitMs > 1) await sleep(waitMs);
    running.push(call(`c${n % CLUSTERS}`, false).then((ms) => void callsMs.push(ms)));
  }
  await Promise.all(running);
  if (scraper === undefined) return { callsMs, scrapesMs: [] };
  const scrapesMs = new Promise<number[]>((resolve, reject) => {
    scraper.once('message', resolve).once('error', reject);
  });
  scraper.postMessage('end');
  return { callsMs, scrapesMs: await scrapesMs };
}

function print(body: string, rounds: { without: Round[]; with: Round[] }): void {
  const lines = body.split('\n').length;
  const scrapes = rounds.with.flatMap(({ scrapesMs }) => scrapesMs);
  const endpoints = CLUSTERS * ENDPOINTS_A_CLUSTER;
  console.log(`${endpoints} endpoints: ${lines} lines, ${(body.length / 1024).toFixed(0)} KiB`);
  console.log(`load before: ${loadavg()[0]!.toFixed(2)}; ${ROUNDS} rounds of ${ROUND_MS / 1000} s each way`);
  console.log(
    `a scrape takes ${summarize(scrapes).median.toFixed(1)} ms (median of ${scrapes.length}), p99 ${percentile(scrapes, 99).toFixed(1)} ms, at most ${Math.max(...scrapes).toFixed(1)} ms`,
  );
  for (const kind of ['without', 'with'] as const) {
    const figures = [50, 90, 99].map((percent) => {
      const { median } = summarize(rounds[kind].map(({ callsMs }) => percentile(callsMs, percent)));
      return `p${percent} ${median.toFixed(2)} ms`;
    });
    console.log(`calls ${kind} scrapes: ${figures.join(', ')} (medians over the rounds)`);
  }
}

function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))]!;
}
