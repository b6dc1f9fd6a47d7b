// `node bench/single/llm-bodies.ts [REQUESTS] [MiB]`: requests of 10 MB, all at once, through `outrigger llm` in a container of so many
// MiB (512), before a provider that answers after a second: how many are refused, how long each takes, and the most memory it had.
// No container is made: the process gets the bound that it derives from one.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../scripts/harness/free-port.ts';
import { chatAnswer, sendJson, startLlmProvider } from '../../scripts/harness/llm/provider.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { bodyMemoryFor } from '../../sidecar/llm/limits/body-memory.ts';

const REQUESTS = Number(process.argv[2] ?? 200);
const CONTAINER_MIB = Number(process.argv[3] ?? 512);
const BYTES = 10_000_000;
const ANSWER_MS = 1_000;

const ends: (() => unknown)[] = [];
const owner = { teardown: (end: () => unknown) => void ends.unshift(end) };

const provider = await startLlmProvider();
const url = provider.script('slow', (_request, response) => {
  setTimeout(() => sendJson(response, 200, chatAnswer('x')), ANSWER_MS);
});
const [llm, admin, metrics, health] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
const file = join(tmpdir(), `llm-bodies-${process.pid}.yaml`);
writeFileSync(
  file,
  JSON.stringify({
    llm: {
      listen: `127.0.0.1:${llm}`,
      upstreams: [{ name: 'slow', url }],
      limits: { max_body_memory_bytes: bodyMemoryFor(CONTAINER_MIB * 1_048_576) },
    },
    admin: { listen: `127.0.0.1:${admin}` },
    metrics: { listen: `127.0.0.1:${metrics}` },
    health: { listen: `127.0.0.1:${health}` },
  }),
);
const main = join(import.meta.dirname, '..', '..', 'sidecar', 'main.ts');
// The image starts it so.
const flags = ['--max-semi-space-size=4', main, 'llm', '--config', file];
const service = startProcess(owner, process.execPath, flags, {});
await waitUntil('ready', async () => (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok);

const status = (field: string): number =>
  Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${service.pid}/status`, 'utf8'))![1]) /
  1024;

const agent = new Agent({ maxSockets: Number.POSITIVE_INFINITY });
const body = Buffer.from(
  JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'x'.repeat(BYTES - 100) }] }),
);
const ask = (): Promise<{ status: number; ms: number }> =>
  new Promise((resolve) => {
    const startedMs = performance.now();
    const done = (code: number) => resolve({ status: code, ms: performance.now() - startedMs });
    const request = httpRequest({
      port: llm,
      path: '/v1/chat/completions',
      method: 'POST',
      agent,
      headers: { 'content-type': 'application/json', 'content-length': body.length },
    });
    request.on('error', () => done(0));
    request.on('response', (response) => {
      response.resume();
      response.on('end', () => done(response.statusCode ?? 0));
    });
    request.end(body);
  });

console.log(`at rest ${status('VmRSS').toFixed(0)} MiB`);
const answers = await Promise.all(Array.from({ length: REQUESTS }, ask));
const times = answers.map(({ ms }) => ms).sort((a, b) => a - b);
const refused = answers.filter((one) => one.status !== 200);
console.log(
  `${REQUESTS} requests of ${BYTES / 1e6} MB: ${refused.length} refused, p50 ${(times[REQUESTS >> 1]! / 1000).toFixed(1)} s, longest ${(times.at(-1)! / 1000).toFixed(1)} s, most memory ${status('VmHWM').toFixed(0)} MiB of ${CONTAINER_MIB}`,
);
if (refused.length > 0) console.log(`statuses: ${[...new Set(refused.map((one) => one.status))].join()}`);
for (const end of ends) await end();
await provider.close();
rmSync(file);
agent.destroy();
