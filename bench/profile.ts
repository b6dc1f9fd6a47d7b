// `npm run bench:profile -- [options]`: where a sidecar's CPU time goes under a load, as a flame graph.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { asker } from '../scripts/harness/llm/asker.ts';
import { startOutrigger, startProvider } from './llm/systems.ts';
import { cpuMicroseconds } from './measuring/cpu.ts';
import { checkMachine } from './measuring/machine.ts';
import { type CpuProfile, hottest, readProfile } from './profile/cpu-profile.ts';
import { flameGraph } from './profile/flame-graph.ts';
import { inspector } from './profile/inspector.ts';
import { paths } from './traffic/answers.ts';
import { runTraffic, type Traffic } from './traffic/run.ts';
import { Cleanup } from './world/cleanup.ts';
import { Fleet, warmUp } from './world/fleet.ts';
import { LOAD_CORE, TARGET_CORE } from './world/start.ts';
import { startTarget } from './world/targets.ts';

const HELP = `npm run bench:profile -- [options]

  --target NAME    outrigger inbound (the default), outrigger outbound, outrigger llm, node:http2, grpc-js
  --load NAME      wide (4 x 25, the default), many (64 x 1), thousand (10 x 100), literal and indexed (new header values),
                   headers (30 more), chunks, large (1 MiB answers), uploads (1 MiB requests), paced (1,500/s);
                   for outrigger llm: plain (the default), streamed
  --seconds N      the profile's length (5), after a warm-up
  --interval N     microseconds between samples (200)
  --checkout DIR   another checkout, installed, for outrigger llm
`;
const loads: Readonly<Record<string, Traffic>> = {
  wide: { connections: 4, streams: 25 },
  many: { connections: 64, streams: 1 },
  thousand: { connections: 10, streams: 100 },
  literal: { connections: 4, streams: 25, uniqueHeaders: 'literal' },
  indexed: { connections: 4, streams: 25, uniqueHeaders: 'indexed' },
  headers: { connections: 4, streams: 25, extraHeaders: 30 },
  chunks: { connections: 4, streams: 25, path: paths.stream, chunks: 2_000 },
  large: { connections: 4, streams: 4, path: paths.large },
  uploads: { connections: 4, streams: 4, inputBytes: 1 << 20 },
  paced: { connections: 8, streams: 100, callsPerSecond: 1_500 },
};
const profiled = ['outrigger inbound', 'outrigger outbound', 'outrigger llm', 'node:http2', 'grpc-js'];
const LLM_LOADS = ['plain', 'streamed'];
const LLM_WARM_UP_REQUESTS = 10_000;
const LLM_REQUESTS_A_SECOND = 1_500;

const { values } = parseArgs({
  options: {
    target: { type: 'string', default: 'outrigger inbound' },
    load: { type: 'string' },
    seconds: { type: 'string', default: '5' },
    interval: { type: 'string', default: '200' },
    checkout: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const isLlm = values.target === 'outrigger llm';
const loadName = values.load ?? (isLlm ? 'plain' : 'wide');
const isLoad = isLlm ? LLM_LOADS.includes(loadName) : loads[loadName] !== undefined;
const seconds = Number(values.seconds);
const interval = Number(values.interval);
if (values.help || !isLoad || !profiled.includes(values.target) || !(seconds > 0)) {
  console.log(HELP);
  process.exit(values.help ? 0 : 64);
}

checkMachine();
const folder = join(import.meta.dirname, 'results', 'profile');
mkdirSync(folder, { recursive: true });
if (isLlm) await profileEgress();
else await profileCalls(loads[loadName]!);
process.exit();

async function profileCalls(load: Traffic): Promise<void> {
  const fleet = await Fleet.start();
  try {
    const { world } = fleet;
    const { flag, open } = await inspector();
    const target = await startTarget(values.target, { ...world.setup, nodeArgs: [flag] });
    // Otherwise most samples would show code that V8 has not compiled yet.
    await warmUp(world, target, 3);
    const profiler = await open();
    await profiler.start(interval);
    const result = await runTraffic(world.cleanup, target, { ...load, seconds, warmUpSeconds: 0.5 });
    const profile = await profiler.stop();
    const rate = `${Math.round(result.callsPerSecond).toLocaleString('en-US')} calls/s`;
    write(profile, `${rate}, ${(result.cpuMicroseconds / result.calls).toFixed(1)} µs of CPU a call`);
  } finally {
    await fleet.end();
  }
}

/** A number of requests that takes about the wanted time. */
async function profileEgress(): Promise<void> {
  const cleanup = new Cleanup();
  try {
    const url = await startProvider(cleanup, LOAD_CORE);
    const { flag, open } = await inspector();
    const started = { checkout: values.checkout, env: { NODE_OPTIONS: flag } };
    const { baseUrl, pid } = await startOutrigger(cleanup, url, TARGET_CORE, {}, started);
    const ask = asker(cleanup, baseUrl);
    const isStreamed = loadName === 'streamed';
    await ask(LLM_WARM_UP_REQUESTS, isStreamed);
    const profiler = await open();
    const requests = Math.ceil(seconds * LLM_REQUESTS_A_SECOND);
    const beforeUs = cpuMicroseconds(pid!);
    await profiler.start(interval);
    await ask(requests, isStreamed);
    const profile = await profiler.stop();
    const eachUs = (cpuMicroseconds(pid!) - beforeUs) / requests;
    write(profile, `${requests} requests, ${eachUs.toFixed(1)} µs of CPU a request`);
  } finally {
    await cleanup.run();
  }
}

function write(profile: CpuProfile, result: string): void {
  const root = readProfile(profile);
  const name = `${values.target}-${loadName}`.replaceAll(/[^a-z0-9]+/g, '-');
  const title = `${values.target}, ${loadName}: ${result}`;
  writeFileSync(join(folder, `${name}.html`), flameGraph(title, root));
  // For the developer tools of a browser or an editor.
  writeFileSync(join(folder, `${name}.cpuprofile`), JSON.stringify(profile));
  console.log(`${title}\n`);
  for (const { name, place, share } of hottest(root).slice(0, 60))
    console.log(`${(100 * share).toFixed(1).padStart(5)} %  ${name}${place === '' ? '' : `  ${place}`}`);
  console.log(`\nwritten: ${relative(process.cwd(), join(folder, `${name}.html`))} and .cpuprofile`);
}
