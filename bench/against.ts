// `npm run bench:against -- DIR [inbound] [outbound] [pair] [llm] [--within 3] [--blocks 24] [--loads NAME,NAME]
// [--traced PERCENT] [--there-inbound JSON]`: what a call costs in CPU time here, as a ratio to the checkout in DIR. The loads are in
// `against/costs.ts`. With `--there-inbound` the inbound listener there has these settings: with DIR `.` this shows what a
// feature costs, as `--there-inbound '{"tasks":{"linger":"0s"}}'` does for streams that can be resumed.
//
// A block starts both sidecars anew, on one core, and measures them at the same time, some rounds of each load: what slows
// the machine for some seconds slows both, and how V8 happened to compile one process is one value of many. Which one
// starts first changes with each block. Blocks follow until the 95 % interval of each ratio is narrower than asked for.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Checkout, loads, type Side, sides, startSide } from './against/costs.ts';
import { checkMachine } from './measuring/machine.ts';
import { meanRatio, type Ratio } from './measuring/statistics.ts';
import { Cleanup } from './world/cleanup.ts';

const { values, positionals } = parseArgs({
  options: {
    within: { type: 'string', default: '3' },
    blocks: { type: 'string', default: '24' },
    loads: { type: 'string', default: '4x25,750/s' },
    traced: { type: 'string', default: '0' },
    'there-inbound': { type: 'string', default: '{}' },
  },
  allowPositionals: true,
});
const [folder, ...named] = positionals;
const withinPercent = Number(values.within);
const mostBlocks = Number(values.blocks);
const calls = { loads: values.loads.split(','), tracedPercent: Number(values.traced) };
const thereInbound = settingsIn(values['there-inbound']);
const wanted: Side[] = named.length === 0 ? [...sides] : sides.filter((side) => named.includes(side));
if (
  folder === undefined ||
  !existsSync(join(folder, 'sidecar', 'bin.mjs')) ||
  wanted.length < named.length ||
  thereInbound === undefined ||
  !(withinPercent > 0) ||
  !(calls.tracedPercent >= 0 && calls.tracedPercent <= 100) ||
  !calls.loads.every((name) => name in loads) ||
  !(mostBlocks >= 2)
) {
  console.error(
    `bench:against DIR [${sides.join('] [')}] [--within PERCENT] [--blocks N] [--loads ${Object.keys(loads).join(',')}] [--traced PERCENT] [--there-inbound JSON]: DIR is another checkout, installed`,
  );
  process.exit(64);
}
checkMachine();
const there: Checkout = { folder: resolve(folder), inbound: thereInbound };
const here: Checkout = { folder: join(import.meta.dirname, '..'), inbound: {} };
const least = 4;
/** Of each load in a block. */
const ROUNDS = 5;

for (const side of wanted) {
  const ratios = new Map<string, number[]>();
  for (let block = 1; block <= mostBlocks; block++) {
    for (const [name, ratio] of await measureBlock(side, block % 2 === 0)) {
      const known = ratios.get(name) ?? [];
      known.push(ratio);
      ratios.set(name, known);
    }
    if (block < 2) continue;
    const means = [...ratios].map(([name, all]) => [name, meanRatio(all)] as const);
    const line = means.map(([name, mean]) => `${name} ${describe(mean)}`).join('; ');
    console.log(`${side}, block ${block}: ${line}`);
    if (block >= least && means.every(([, { low, high }]) => (high - low) * 100 <= withinPercent)) break;
  }
}

/** For each kind of load, the CPU time that this checkout's sidecar spends on a call, divided by the other's. */
async function measureBlock(side: Side, thereFirst: boolean): Promise<Map<string, number>> {
  const cleanup = new Cleanup();
  try {
    const round = await startSide(side, cleanup, thereFirst ? [there, here] : [here, there], calls);
    const logarithms = new Map<string, number[]>();
    for (let at = 0; at < ROUNDS; at++) {
      const costs = await round();
      const [ours, theirs] = thereFirst ? [costs[1]!, costs[0]!] : [costs[0]!, costs[1]!];
      ours.forEach(({ name, microseconds }, load) => {
        const all = logarithms.get(name) ?? [];
        all.push(Math.log(microseconds / theirs[load]!.microseconds));
        logarithms.set(name, all);
      });
    }
    return new Map(
      [...logarithms].map(([name, all]) => [name, Math.exp(all.reduce((sum, one) => sum + one, 0) / ROUNDS)]),
    );
  } finally {
    await cleanup.run();
  }
}

function describe({ ratio, low, high }: Ratio): string {
  return `${ratio.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
}

/** Undefined for what is no object in JSON. */
function settingsIn(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
