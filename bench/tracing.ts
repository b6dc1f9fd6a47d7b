// `node bench/tracing.ts [--rounds N] [--seconds N] [--only NAME,NAME]`: what tracing costs, beside Envoy with its own.
//
// Every target is measured in interleaved rounds of one run, with the load, the upstream and the collector on one core
// and the proxy alone on the other. The collector reads what comes and counts bytes, so that it is never what limits.
import { readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
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
    seconds: { type: 'string', default: '3' },
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
  pid: number;
  /** What has become of spans so far; undefined where nobody can say. */
  spans: () => Promise<Record<string, number>>;
}

const cleanup = new Cleanup();
try {
  const lacking = skipWithout('taskset', 'h2load', 'nghttpd');
  if (lacking !== false) throw new Error(lacking);
  const loadBefore = loadavg()[0]!;
  const fixture = writeFixture(cleanup);
  const upstreamPort = await startUpstream(cleanup, loadCore, fixture.folder);
  const collectorPort = await startCollector();
  const targets: Target[] = [];
  for (const [side, config] of Object.entries(configs(upstreamPort))) {
    for (const percent of [0, 1, 100]) {
      const name = `outrigger ${side} ${percent}%`;
      if (only.length === 0 || only.includes(name)) targets.push(await startOutrigger(name, config, percent));
    }
  }
  if (skipWithout('envoy') === false) {
    for (const percent of [0, 100]) {
      const name = `envoy ${percent}%`;
      if (only.length === 0 || only.includes(name)) targets.push(await startEnvoy(name, percent));
    }
  }
  const rows = new Map(
    targets.map(({ name }) => [
      name,
      { rate: [] as number[], perCpu: [] as number[], cpu: [] as number[], spans: '' },
    ]),
  );
  await sleep(3_000);
  for (let round = 0; round < rounds; round++) {
    for (const target of targets) {
      const { name, port, pid } = target;
      const before = cpuMicroseconds(pid);
      const startedMs = performance.now();
      const wide = await runLoad(cleanup, fixture, port, loadCore, {
        connections: 4,
        streams: 25,
        seconds,
        document: fixture.small,
      });
      const share = (cpuMicroseconds(pid) - before) / 1_000 / (performance.now() - startedMs);
      const steadyBefore = cpuMicroseconds(pid);
      const steady = await runLoad(cleanup, fixture, port, loadCore, {
        connections: 8,
        streams: 1,
        callsPerSecond: 1_500,
        seconds,
        document: fixture.small,
      });
      const row = rows.get(name)!;
      row.rate.push(wide.callsPerSecond);
      row.perCpu.push(wide.callsPerSecond / share);
      row.cpu.push((cpuMicroseconds(pid) - steadyBefore) / steady.calls);
      row.spans = JSON.stringify(await target.spans());
      console.log(
        `round ${round + 1}, ${name}: ${Math.round(wide.callsPerSecond)} calls/s, ${Math.round(wide.callsPerSecond / share)} a CPU second, ${row.cpu.at(-1)!.toFixed(0)} µs, ${row.spans}`,
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
  console.log(
    '| target, sampled | calls/s, 4 x 25 | calls in a second of CPU time | CPU µs a call at 1,500/s | spans |',
  );
  console.log('| --- | --- | --- | --- | --- |');
  for (const [name, { rate, perCpu, cpu, spans }] of rows)
    console.log(`| ${name} | ${show(rate)} | ${show(perCpu)} | ${show(cpu)} | ${spans} |`);

  function configs(upstreamPort: number): Record<string, Record<string, unknown>> {
    return {
      // The load sends one task again and again, which would else be run once.
      inbound: { inbound: { app: `127.0.0.1:${upstreamPort}`, tasks: { deduplicate: false } } },
      outbound: {
        outbound: {
          routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
          clusters: { upstream: { endpoints: [`127.0.0.1:${upstreamPort}`], timeout: '60s' } },
        },
      },
    };
  }

  async function startOutrigger(
    name: string,
    config: Record<string, unknown>,
    percent: number,
  ): Promise<Target> {
    const inbound = 'inbound' in config;
    const tracing = {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collectorPort}`,
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: `${percent / 100}`,
    };
    const sidecar = await startSidecar(cleanup, config, {
      launcher: [requireTool('taskset'), '-c', `${targetCore}`],
      until: inbound ? 'ready' : 'live',
      limitMs: 60_000,
      env: { NODE_ENV: 'production', ...(percent === 0 ? {} : tracing) },
    });
    const spans = async (): Promise<Record<string, number>> => {
      const page = await (await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`)).text();
      const counts = [...page.matchAll(/^outrigger_spans_total\{outcome="(\w+)"\} (\d+)/gm)];
      return Object.fromEntries(counts.map(([, outcome, count]) => [outcome, Number(count)]));
    };
    return { name, port: inbound ? sidecar.inboundPort : sidecar.outboundPort, pid: sidecar.pid, spans };
  }

  async function startEnvoy(name: string, percent: number): Promise<Target> {
    const port = await freePort();
    const plain = readFileSync(join(import.meta.dirname, 'peers', 'envoy.yaml'), 'utf8');
    const traced = readFileSync(join(import.meta.dirname, 'peers', 'envoy-tracing.yaml'), 'utf8');
    const [inConnectionManager, inClusters] = traced.split('---\n') as [string, string];
    const config =
      percent === 0
        ? plain
        : `${plain.replace('                codec_type: HTTP2\n', `                codec_type: HTTP2\n${inConnectionManager}`)}${inClusters}`;
    const file = join(fixture.folder, `envoy-${percent}.yaml`);
    writeFileSync(
      file,
      config
        .replaceAll('LISTEN_PORT', `${port}`)
        .replaceAll('UPSTREAM_PORT', `${upstreamPort}`)
        .replaceAll('COLLECTOR_PORT', `${collectorPort}`),
    );
    const started = startProcess(cleanup, requireTool('taskset'), [
      ...['-c', `${targetCore}`, requireTool('envoy'), '-c', file, '--concurrency', '1', '-l', 'error'],
      '--use-dynamic-base-id',
    ]);
    await waitUntil(`${name} listened`, () => canConnect(port), { limitMs: 15_000 }).catch((error) => {
      throw new Error(`${error.message}; it said: ${started.logs().slice(-1_000)}`);
    });
    return { name, port, pid: started.pid, spans: async () => ({}) };
  }

  /** Reads what is sent to it, and nothing else. */
  async function startCollector(): Promise<number> {
    const port = await freePort();
    const program = `
      require('node:http').createServer((request, response) => {
        request.on('data', () => {});
        request.on('end', () => response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end());
      }).listen(${port}, '127.0.0.1');`;
    startProcess(cleanup, requireTool('taskset'), ['-c', `${loadCore}`, process.execPath, '-e', program]);
    await waitUntil('the collector listened', () => canConnect(port));
    return port;
  }
} finally {
  await cleanup.run();
}
