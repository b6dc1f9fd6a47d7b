// `node bench/tls.ts [--rounds N] [--seconds N] [--only NAME,NAME]`: what mutual TLS costs, beside Envoy with the same.
//
// Three ways, each in interleaved rounds of one run, with load and upstream on one core and what is measured on the other:
//
//     out     h2load ──plain──▶ proxy ──mutual TLS──▶ nghttpd            (the upstream asks for the certificate)
//     in      h2load ──TLS──▶ proxy ──plain──▶ nghttpd                   (h2load has no certificate to show)
//     pair    h2load ──plain──▶ proxy ──mutual TLS──▶ proxy ──plain──▶ nghttpd     (both on the one core)
//
// All speak TLS 1.3 with AES-128-GCM and ECDSA P-256 certificates of one authority, made for the run.
import { readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { TestAuthority } from '../test/support/certificates.ts';
import { freePort } from '../test/support/free-port.ts';
import { canConnect } from '../test/support/net.ts';
import { startProcess } from '../test/support/process.ts';
import { startSidecar } from '../test/support/sidecar.ts';
import { requireTool, skipWithout } from '../test/support/tool.ts';
import { waitUntil } from '../test/support/wait-until.ts';
import { Cleanup } from './cleanup.ts';
import { cpuMicroseconds } from './cpu.ts';
import { writeFixture } from './fixture.ts';
import { runLoad } from './h2load.ts';
import { summarize } from './statistics.ts';
import { startUpstream } from './targets.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const only = values.only.split(',').filter((name) => name !== '');

const loadCore = 0;
const targetCore = 1;

interface Target {
  name: string;
  port: number;
  pids: readonly number[];
  /** What h2load speaks to it. */
  scheme: 'http' | 'https';
}

/** Which sides of a proxy speak TLS. */
interface Sides {
  readonly downstream: boolean;
  readonly upstream: boolean;
}

const cleanup = new Cleanup();
try {
  const lacking = skipWithout('taskset', 'h2load', 'nghttpd');
  if (lacking !== false) throw new Error(lacking);
  const loadBefore = loadavg()[0]!;
  const fixture = writeFixture(cleanup);
  const files = await writeCertificates(fixture.folder);
  const plainUpstream = await startUpstream(cleanup, loadCore, fixture.folder);
  const tlsUpstream = await startTlsUpstream();
  const starts: Record<string, () => Promise<Target>> = {
    'outrigger out': () => outrigger('out'),
    'outrigger in': () => outrigger('in'),
    'outrigger pair': () => pairOf('outrigger', (sides, upstream) => startOutrigger(sides, upstream, true)),
  };
  if (skipWithout('envoy') === false) {
    starts['envoy out'] = () => envoy('out');
    starts['envoy in'] = () => envoy('in');
    starts['envoy pair'] = () =>
      pairOf('envoy', (sides, upstream) =>
        startEnvoy(sides.upstream ? 'pair-out' : 'pair-in', sides, upstream),
      );
  }
  const targets: Target[] = [];
  for (const [name, start] of Object.entries(starts))
    if (only.length === 0 || only.includes(name)) targets.push(await start());
  const rows = new Map(
    targets.map(({ name }) => [
      name,
      { rate: [] as number[], perCpu: [] as number[], large: [] as number[] },
    ]),
  );
  await sleep(2_000);
  // Compiled code first: on a busy machine the usual warm-up is over before a process has had a second of its core.
  for (const { port, scheme } of targets)
    for (const document of [fixture.small, fixture.large])
      await runLoad(cleanup, fixture, port, loadCore, {
        connections: 4,
        streams: 8,
        seconds: 5,
        document,
        scheme,
      });
  for (let round = 0; round < rounds; round++) {
    for (const { name, port, pids, scheme } of targets) {
      const cpu = (): number => pids.reduce((sum, pid) => sum + cpuMicroseconds(pid), 0);
      const before = cpu();
      const startedMs = performance.now();
      const load = { connections: 4, streams: 25, seconds, document: fixture.small, scheme };
      const wide = await runLoad(cleanup, fixture, port, loadCore, load);
      const share = (cpu() - before) / 1_000 / (performance.now() - startedMs);
      const largeLoad = { connections: 4, streams: 4, seconds, document: fixture.large, scheme };
      const large = await runLoad(cleanup, fixture, port, loadCore, largeLoad);
      const row = rows.get(name)!;
      row.rate.push(wide.callsPerSecond);
      row.perCpu.push(wide.callsPerSecond / share);
      row.large.push(large.callsPerSecond);
      console.log(
        `round ${round + 1}, ${name}: ${Math.round(wide.callsPerSecond)} calls/s, ${Math.round(wide.callsPerSecond / share)} a CPU second, ${Math.round(large.callsPerSecond)} MiB/s`,
      );
    }
    // Each round begins with another target.
    targets.push(targets.shift()!);
  }
  const show = (list: number[]): string => {
    const { median, min, max } = summarize(list);
    return `${Math.round(median).toLocaleString('en-US')} (${Math.round(min).toLocaleString('en-US')}–${Math.round(max).toLocaleString('en-US')})`;
  };
  console.log(
    `\n${new Date().toISOString()}, ${rounds} rounds of ${seconds} s, load average before ${loadBefore.toFixed(2)}\n`,
  );
  console.log('| target | calls/s, 4 x 25 | calls in a second of CPU time | answers of 1 MiB, a second |');
  console.log('| --- | --- | --- | --- |');
  for (const [name, { rate, perCpu, large }] of rows)
    console.log(`| ${name} | ${show(rate)} | ${show(perCpu)} | ${show(large)} |`);
  for (const way of ['out', 'in', 'pair']) {
    const [ours, theirs] = [rows.get(`outrigger ${way}`), rows.get(`envoy ${way}`)];
    if (ours === undefined || theirs === undefined) continue;
    const ratio = (key: 'rate' | 'perCpu'): string =>
      (summarize(ours[key]).median / summarize(theirs[key]).median).toFixed(1);
    console.log(
      `${way}: ${ratio('rate')} times Envoy's calls/s, ${ratio('perCpu')} times in a second of CPU time`,
    );
  }

  async function outrigger(way: 'out' | 'in'): Promise<Target> {
    const sides = { downstream: way === 'in', upstream: way === 'out' };
    const { port, pid } = await startOutrigger(sides, way === 'out' ? tlsUpstream : plainUpstream, false);
    return { name: `outrigger ${way}`, port, pids: [pid], scheme: way === 'in' ? 'https' : 'http' };
  }

  async function envoy(way: 'out' | 'in'): Promise<Target> {
    const sides = { downstream: way === 'in', upstream: way === 'out' };
    const upstream = way === 'out' ? tlsUpstream : plainUpstream;
    const { port, pid } = await startEnvoy(way, sides, upstream, false);
    return { name: `envoy ${way}`, port, pids: [pid], scheme: way === 'in' ? 'https' : 'http' };
  }

  async function pairOf(
    name: string,
    start: (sides: Sides, upstreamPort: number) => Promise<{ port: number; pid: number }>,
  ): Promise<Target> {
    const beside = await start({ downstream: true, upstream: false }, plainUpstream);
    const before = await start({ downstream: false, upstream: true }, beside.port);
    return { name: `${name} pair`, port: before.port, pids: [beside.pid, before.pid], scheme: 'http' };
  }

  async function startOutrigger(
    { downstream }: Sides,
    upstreamPort: number,
    mutual: boolean,
  ): Promise<{ port: number; pid: number }> {
    const { cert, key, ca } = files;
    const clientCa = mutual ? { client_ca: ca } : {};
    const tls = { ca, cert, key, server_name: 'localhost' };
    const config = downstream
      ? {
          inbound: {
            app: `127.0.0.1:${upstreamPort}`,
            // The load sends one task again and again, which would else be run once.
            tasks: { deduplicate: false },
            tls: { cert, key, ...clientCa },
          },
        }
      : {
          outbound: {
            routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
            clusters: { upstream: { endpoints: [`127.0.0.1:${upstreamPort}`], timeout: '60s', tls } },
          },
        };
    const sidecar = await startSidecar(cleanup, config, {
      launcher: [requireTool('taskset'), '-c', `${targetCore}`],
      until: downstream ? 'ready' : 'live',
      limitMs: 30_000,
      env: { NODE_ENV: 'production' },
    });
    return { port: downstream ? sidecar.inboundPort : sidecar.outboundPort, pid: sidecar.pid };
  }

  async function startEnvoy(
    name: string,
    { downstream, upstream }: Sides,
    upstreamPort: number,
    mutual = true,
  ): Promise<{ port: number; pid: number }> {
    const port = await freePort();
    const read = (file: string): string => readFileSync(join(import.meta.dirname, 'peers', file), 'utf8');
    const [inFilterChain, inCluster] = read('envoy-tls.yaml').split('---\n') as [string, string];
    let config = read('envoy.yaml');
    if (downstream) {
      const socket = mutual
        ? inFilterChain
        : inFilterChain.replace('              require_client_certificate: true\n', '');
      config = config.replace('        - filters:\n', `        - name: only\n${socket}          filters:\n`);
    }
    if (upstream) config += inCluster;
    const file = join(fixture.folder, `envoy-${name}.yaml`);
    writeFileSync(
      file,
      config
        .replaceAll('LISTEN_PORT', `${port}`)
        .replaceAll('UPSTREAM_PORT', `${upstreamPort}`)
        .replaceAll('CERT_FILE', files.cert)
        .replaceAll('KEY_FILE', files.key)
        .replaceAll('CA_FILE', files.ca),
    );
    const started = startProcess(cleanup, requireTool('taskset'), [
      ...['-c', `${targetCore}`, requireTool('envoy'), '-c', file, '--concurrency', '1', '-l', 'error'],
      '--use-dynamic-base-id',
    ]);
    await waitUntil(`envoy ${name} listened`, () => canConnect(port), { limitMs: 30_000 }).catch((error) => {
      throw new Error(`${error.message}; it said: ${started.logs().slice(-1_000)}`);
    });
    return { port, pid: started.pid };
  }

  async function startTlsUpstream(): Promise<number> {
    const port = await freePort();
    startProcess(cleanup, requireTool('taskset'), [
      ...[
        '-c',
        `${loadCore}`,
        requireTool('nghttpd'),
        '-a',
        '127.0.0.1',
        '-d',
        fixture.folder,
        '--verify-client',
      ],
      ...['--trailer', 'grpc-status: 0', `${port}`, files.key, files.cert],
    ]);
    await waitUntil('nghttpd listened', () => canConnect(port));
    return port;
  }

  async function writeCertificates(folder: string): Promise<{ cert: string; key: string; ca: string }> {
    const authority = await TestAuthority.make('bench');
    const { cert, key } = await authority.issue({
      names: ['localhost', '127.0.0.1', 'spiffe://bench/workload'],
    });
    const paths = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key'), ca: join(folder, 'ca.crt') };
    writeFileSync(paths.cert, cert);
    writeFileSync(paths.key, key);
    writeFileSync(paths.ca, authority.ca);
    return paths;
  }
} finally {
  await cleanup.run();
}
