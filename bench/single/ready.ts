/**
 * How long a sidecar takes from its start to its first answer on /healthz/live, what CPU time the start took, and what
 * memory it then idles with: from its sources, as the image's bundle, and Envoy with one worker beside them. The variants
 * take turns, so that a busy machine is busy for all of them; CPU time is the steadier figure there.
 *
 *     node scripts/bundle.mjs --compile && node bench/single/ready.ts [ROUNDS]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { requireTool, skipWithout } from '../../scripts/harness/tool.ts';
import { Cleanup } from '../world/cleanup.ts';
import { envoyConfig } from '../world/peers/envoy.ts';

const root = join(import.meta.dirname, '..', '..');
const bundle = join(root, 'dist', 'outrigger.mjs');
const rounds = Number(process.argv[2] ?? 10);
const port = 19_501;
const limitMs = 30_000;
/** The sidecar collects the garbage of its start two seconds later. */
const idleMs = 4_000;

interface Variant {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly isReady: () => Promise<boolean>;
}

interface Run {
  readonly readyMs: number;
  readonly cpuMs: number;
  readonly residentMiB: number;
  /** Memory that is this process's alone: what is mapped from its program's file is shared, and can be dropped. */
  readonly anonymousMiB: number;
}

function sidecar(args: readonly string[], env: Variant['env'] = {}): Variant {
  const anywhere = ['inbound', 'outbound', 'llm', 'admin', 'metrics'].map(
    (name) => `--${name}.listen=127.0.0.1:0`,
  );
  const run = ['run', `--health.listen=127.0.0.1:${port}`, ...anywhere];
  return { command: process.execPath, args: [...args, ...run], env, isReady: isLive };
}

/** What the Dockerfile starts: the flags of its first line and its environment are read from there. */
function asTheImage(): Variant {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
  const flags = /#!\/usr\/local\/bin\/node ([^|]*)\|/.exec(dockerfile)![1]!.trim().split(' ');
  const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
  const env = [...last.matchAll(/\b(NODE_ENV|MALLOC_\w+)=(\S+)/g)].map(([, name, value]) => [name, value]);
  return sidecar([...flags, bundle], Object.fromEntries(env));
}

function envoy(folder: string): Variant {
  const file = join(folder, 'envoy.json');
  const setup = { cleanup: new Cleanup(), endpoints: [`127.0.0.1:${port + 1}`], folder };
  writeFileSync(file, JSON.stringify(envoyConfig(port, setup)));
  const launcher = requireTool('envoy');
  // What PyPI installs is a script in Python around the program; its start is none of Envoy's.
  const [program = launcher] = globSync(
    join(dirname(launcher), '..', 'lib', '*', 'site-packages', 'envoy', '_bin', 'envoy'),
  );
  const args = ['-c', file, '--concurrency', '1', '-l', 'error', '--use-dynamic-base-id'];
  return { command: program, args, isReady: isListening };
}

async function start({ command, args, env, isReady }: Variant): Promise<Run> {
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: 'ignore', env: { ...process.env, ...env } });
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    while (!(await isReady())) {
      if (child.exitCode !== null || performance.now() - startedMs > limitMs)
        throw new Error(`${command} ${args.join(' ')} did not start; is port ${port} free?`);
      await sleep(5);
    }
    const readyMs = performance.now() - startedMs;
    const cpuMs = cpuMsOf(child);
    await sleep(idleMs);
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    const mib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)![1]) / 1024;
    return { readyMs, cpuMs, residentMiB: mib('VmRSS'), anonymousMiB: mib('RssAnon') };
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

/** Of all its threads, to the microsecond. */
function cpuMsOf({ pid }: ChildProcess): number {
  const nanoseconds = readdirSync(`/proc/${pid}/task`).map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
  );
  return nanoseconds.reduce((sum, ns) => sum + ns, 0) / 1e6;
}

/** By a bare socket: Node's HTTP client would take a good part of the machine that is being measured. */
function isLive(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.write('GET /healthz/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n');
    });
    socket.on('data', (answer) => {
      socket.destroy();
      resolve(answer.includes(' 200 '));
    });
    socket.on('error', () => resolve(false));
  });
}

function isListening(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

if (!existsSync(bundle)) throw new Error('dist/ is missing: run node scripts/bundle.mjs --compile first');
const folder = mkdtempSync(join(tmpdir(), 'outrigger-ready-'));
try {
  const missing = skipWithout('envoy');
  if (missing !== false) console.error(`without Envoy: ${missing}`);
  const variants: Readonly<Record<string, Variant>> = {
    'from the sources': sidecar([join(root, 'sidecar', 'main.ts')]),
    'the bundle, as the image runs it': asTheImage(),
    ...(missing === false ? { 'Envoy, one worker': envoy(folder) } : {}),
  };
  const runs = new Map(Object.keys(variants).map((name) => [name, [] as Run[]]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, variant] of Object.entries(variants)) runs.get(name)!.push(await start(variant));
  }
  console.log('| what | ready, median | ready, best | CPU of the start | idle memory | of it its own |');
  console.log('| --- | --- | --- | --- | --- | --- |');
  for (const [name, of] of runs) {
    const ready = of.map(({ readyMs }) => readyMs);
    const figures = [
      `${median(ready).toFixed(0)} ms`,
      `${Math.min(...ready).toFixed(0)} ms`,
      `${median(of.map(({ cpuMs }) => cpuMs)).toFixed(0)} ms`,
      `${median(of.map(({ residentMiB }) => residentMiB)).toFixed(0)} MiB`,
      `${median(of.map(({ anonymousMiB }) => anonymousMiB)).toFixed(0)} MiB`,
    ];
    console.log(`| ${name} | ${figures.join(' | ')} |`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
