/**
 * How long a sidecar takes from its start to its first answer on /healthz/live, and what memory it then idles with: from
 * its sources, and as the image's bundle. The variants take turns, so that a busy machine is busy for all of them.
 *
 *     node scripts/bundle.mjs --compile && node bench/ready.ts [ROUNDS]
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const root = join(import.meta.dirname, '..');
const bundle = join(root, 'dist', 'outrigger.mjs');
const rounds = Number(process.argv[2] ?? 10);
const healthPort = 19_501;
const limitMs = 30_000;
/** The sidecar collects what its start has left behind two seconds after it. */
const idleMs = 4_000;

const variants: Readonly<Record<string, readonly string[]>> = {
  'sources (main.ts)': [join(root, 'sidecar', 'main.ts')],
  'sources (bin.mjs)': [join(root, 'sidecar', 'bin.mjs')],
  bundle: [bundle],
  'bundle, --max-semi-space-size=4': ['--max-semi-space-size=4', bundle],
};

interface Run {
  readonly readyMs: number;
  readonly residentMiB: number;
}

async function start(args: readonly string[]): Promise<Run> {
  const anywhere = ['inbound', 'outbound', 'llm', 'admin', 'metrics'].map(
    (name) => `--${name}.listen=127.0.0.1:0`,
  );
  const startedMs = performance.now();
  const child = spawn(
    process.execPath,
    [...args, 'run', `--health.listen=127.0.0.1:${healthPort}`, ...anywhere],
    {
      stdio: 'ignore',
    },
  );
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    while (!(await isLive())) {
      if (child.exitCode !== null || performance.now() - startedMs > limitMs)
        throw new Error(`${args.join(' ')} did not start; is port ${healthPort} free?`);
      await sleep(2);
    }
    const readyMs = performance.now() - startedMs;
    await sleep(idleMs);
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    return { readyMs, residentMiB: Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]) / 1024 };
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

function isLive(): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get({ host: '127.0.0.1', port: healthPort, path: '/healthz/live' }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('error', () => resolve(false));
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

if (!existsSync(bundle)) throw new Error('dist/ is missing: run node scripts/bundle.mjs --compile first');
const runs = new Map(Object.keys(variants).map((name) => [name, [] as Run[]]));
for (let round = 0; round < rounds; round++) {
  for (const [name, args] of Object.entries(variants)) runs.get(name)!.push(await start(args));
}
console.log('| variant | ready, median | ready, best | idle memory, median |\n| --- | --- | --- | --- |');
for (const [name, of] of runs) {
  const ready = of.map(({ readyMs }) => readyMs);
  const resident = median(of.map(({ residentMiB }) => residentMiB));
  console.log(
    `| ${name} | ${median(ready).toFixed(0)} ms | ${Math.min(...ready).toFixed(0)} ms | ${resident.toFixed(0)} MiB |`,
  );
}
