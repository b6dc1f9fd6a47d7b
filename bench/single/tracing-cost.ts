// `node bench/single/tracing-cost.ts [inbound|outbound] [--seconds N]`: the CPU time that tracing takes from a call.
//
// One process relays under one steady load, and tracing is switched every half second between off, 1 % and 100 %: the
// same code, warmed up the same, with the same neighbours on the machine. So it tells small differences apart where
// comparing two processes, or two moments, only shows the weather.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startDataPlane } from '../../scripts/harness/data-plane.ts';
import { startTracing, type Tracing } from '../../sidecar/observers/tracing/start.ts';
import { DEFAULT_TRACING } from '../../sidecar/telemetry/tracing/settings.ts';
import { summarize } from '../measuring/statistics.ts';
import { trafficOptions } from '../traffic/run.ts';
import { Cleanup } from '../world/cleanup.ts';
import { LOAD_CORE, startPinned } from '../world/start.ts';
import { startCollector, startUpstream } from '../world/world.ts';

const { values, positionals } = parseArgs({
  options: { seconds: { type: 'string', default: '60' } },
  allowPositionals: true,
});
const side = positionals[0] === 'inbound' ? 'inbound' : 'outbound';
const seconds = Number(values.seconds);
/** After a switch, calls that began before it are still under way. */
const settleMs = 60;
const periodMs = 400;
const warmUpMs = 3_000;

const cleanup = new Cleanup();
try {
  const upstream = `127.0.0.1:${await startUpstream(cleanup)}`;
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = `http://127.0.0.1:${await startCollector(cleanup)}`;
  const plane = await startDataPlane(cleanup, {
    llm: { listen: '127.0.0.1:0' },
    inbound: { app: upstream },
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: { upstream: { endpoints: [upstream] } },
    },
  });
  const { context, stats } = plane.sidecar[side];
  const port = side === 'inbound' ? plane.inboundPort : plane.outboundPort;
  const traffic = { connections: 4, streams: 25, seconds: seconds + 60 };
  const program = join(import.meta.dirname, '..', 'traffic', 'main.ts');
  const load = startPinned(cleanup, LOAD_CORE, [
    process.execPath,
    program,
    JSON.stringify(trafficOptions(port, traffic)),
  ]);
  const modes: { name: string; tracing: Tracing | undefined; perCall: number[] }[] = [
    { name: 'off', tracing: undefined, perCall: [] },
    { name: '1 %', tracing: await tracingAt(0.01), perCall: [] },
    { name: '100 %', tracing: await tracingAt(1), perCall: [] },
  ];
  await sleep(warmUpMs);
  const endMs = performance.now() + seconds * 1_000;
  for (let i = 0; performance.now() < endMs; i++) {
    const mode = modes[i % modes.length]!;
    context.tracer = mode.tracing?.tracer;
    await sleep(settleMs);
    const cpu = process.cpuUsage();
    const calls = stats.totalCalls;
    await sleep(periodMs);
    const { user, system } = process.cpuUsage(cpu);
    const made = stats.totalCalls - calls;
    if (made > 0) mode.perCall.push((user + system) / made);
  }
  load.kill('SIGKILL');
  const base = summarize(modes[0]!.perCall).median;
  console.log(`${side}, ${seconds} s:`);
  for (const { name, perCall, tracing } of modes) {
    const { median, values } = summarize(perCall);
    const quarter = [...values].sort((a, b) => a - b)[values.length >> 2]!;
    const counts = tracing === undefined ? '' : JSON.stringify(tracing.counts);
    console.log(
      `${name.padEnd(6)} ${median.toFixed(1)} µs a call, ${(median / base).toFixed(2)} times off; a quarter of the periods below ${quarter.toFixed(1)} ${counts}`,
    );
  }
  for (const { tracing } of modes) await tracing?.stop(500);
} finally {
  await cleanup.run();
}

function tracingAt(ratio: number): Promise<Tracing> {
  const settings = { ...DEFAULT_TRACING, sampler: { parentBased: true, ratio } };
  const silent = { warn: console.error, info: console.error };
  return startTracing(settings, { name: 'bench', version: '1', outriggerVersion: '1' }, silent);
}
