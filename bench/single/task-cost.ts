/**
 * Measures the cost of tasks for the sidecar beside their agent: an agent of the repository asks the offline provider once for each task,
 * so that a task is a call and a model request. CPU time of the sidecar's process for each task, its resident memory and its
 * file descriptors, at several rates; then what idle connections of callers add.
 *
 *     node bench/single/task-cost.ts [SECONDS] [RATE,RATE,…]
 *     OUTRIGGER_TEST_SIDECAR=dist/outrigger.mjs node bench/single/task-cost.ts      after node scripts/bundle.mjs
 */
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProvider } from '../../agents/provider/server.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { runProcess, startProcess } from '../../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { cpuMicroseconds } from '../measuring/cpu.ts';
import { Cleanup } from '../world/cleanup.ts';

const root = join(import.meta.dirname, '..', '..');
const seconds = Number(process.argv[2] ?? 20);
const rates = (process.argv[3] ?? '1,10,50,100').split(',').map(Number);
const IDLE_CONNECTIONS = 500;
/** The sidecar collects garbage when it has been quiet for two seconds. */
const QUIET_MS = 4_000;

const cleanup = new Cleanup();
const folder = mkdtempSync(join(tmpdir(), 'outrigger-cost-'));
cleanup.teardown(() => rmSync(folder, { recursive: true, force: true }));

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** @returns CPU time in microseconds for each task */
async function load(sidecar: Sidecar, rate: number, forSeconds: number, stream: boolean): Promise<number> {
  const before = cpuMicroseconds(sidecar.pid);
  const options = ['--rate', `${rate}`, '--duration', `${forSeconds}s`, '--warmup', '0s', '--max-lag', '10s'];
  const { code, output } = await runProcess(
    cleanup,
    process.execPath,
    [
      join(root, 'bench/load/main.ts'),
      '--target',
      `127.0.0.1:${sidecar.inboundPort}`,
      ...options,
      ...(stream ? ['--stream'] : []),
      '--out',
      join(folder, 'load'),
    ],
    { limitMs: (forSeconds + 60) * 1000 },
  );
  if (code !== 0) throw new Error(`the load ended with ${code}:\n${output}`);
  return (cpuMicroseconds(sidecar.pid) - before) / (rate * forSeconds);
}

try {
  const provider = await startProvider('127.0.0.1', 0);
  cleanup.teardown(() => provider.close());
  const [app, llm] = await Promise.all([freePort(), freePort()]);
  startProcess(cleanup, process.execPath, [join(root, 'agents/research/agent.ts')], {
    env: { AGENT_LISTEN: `127.0.0.1:${app}`, OPENAI_BASE_URL: `http://127.0.0.1:${llm}/v1` },
  });
  const sidecar = await startSidecar(cleanup, {
    inbound: { app: `127.0.0.1:${app}` },
    llm: { listen: `127.0.0.1:${llm}`, upstreams: [{ name: 'offline', url: provider.baseUrl }] },
  });
  await sleep(QUIET_MS);
  const say = (what: string, more = ''): void =>
    console.log(
      `${what.padEnd(34)} ${residentMiB(sidecar.pid).toFixed(0).padStart(4)} MiB ${String(descriptors(sidecar.pid)).padStart(5)} descriptors ${more}`,
    );
  say('idle');
  await load(sidecar, 100, 10, false);
  for (const stream of [false, true]) {
    for (const rate of rates) {
      const micros = await load(sidecar, rate, seconds, stream);
      const core = ((micros * rate) / 10_000).toFixed(1);
      say(
        `${rate} ${stream ? 'streams' : 'tasks'} a second`,
        `${(micros / 1000).toFixed(2)} ms of CPU each, ${core} % of a core`,
      );
    }
  }
  await sleep(QUIET_MS);
  say('quiet again');
  const sessions: ClientHttp2Session[] = [];
  for (let i = 0; i < IDLE_CONNECTIONS; i++) {
    const session = connect(`http://127.0.0.1:${sidecar.inboundPort}`);
    session.on('error', () => {});
    await once(session, 'remoteSettings');
    sessions.push(session);
  }
  await sleep(QUIET_MS);
  say(`${IDLE_CONNECTIONS} idle connections of callers`);
  for (const session of sessions) session.destroy();
} finally {
  await cleanup.run();
}
