// `npm run cuts`: a stream of 200 chunks, cut at every byte that the wire carries in either direction. Each must arrive as
// one that was not cut, from one run. Says, too, how soon a stream goes on after a cut.
import { faultOf, startScene } from './scene.ts';

const LIMIT_MS = 50;

const teardowns: (() => unknown)[] = [];
const t = { teardown: (teardown: () => unknown): void => void teardowns.unshift(teardown) };

/** `--step N`: only each Nth byte. */
const at = process.argv.indexOf('--step');
const step = at < 0 ? 1 : Number(process.argv[at + 1]);
if (!Number.isInteger(step) || step < 1) throw new Error('--step takes a whole number from 1');

const faults: string[] = [];
const gaps: number[] = [];
let cuts = 0;
for (const id of ['', 'task']) {
  const scene = await startScene(t);
  const fresh = (n: string): { id: string; input: string } => ({ id: id && `${id} ${n}`, input: n });
  const whole = await scene.ask(undefined, fresh('whole'));
  const before = { ...scene.cutter.carried };
  await scene.ask(undefined, fresh('measured'));
  const after = { ...scene.cutter.carried };
  for (const from of ['client', 'server'] as const) {
    const bytes = after[from] - before[from];
    for (let atByte = 1; atByte <= bytes; atByte += step) {
      const runs = scene.runs();
      const cutsBefore = scene.cutter.cuts;
      const call = await scene.ask({ from, atByte }, fresh(`${from} ${atByte}`));
      const fault = faultOf(scene, whole, call, scene.runs() - runs);
      if (fault !== undefined) faults.push(`${id || 'no id'}, ${from} byte ${atByte}: ${fault}`);
      // A cut behind the last byte of the stream has no effect on it.
      if (scene.cutter.cuts === cutsBefore) continue;
      cuts++;
      gaps.push(longestSilence(call.arrivedAtMs, scene.cutter.cutAtMs));
    }
    console.log(`${id || 'no id'}, from the ${from}: ${bytes} bytes, ${faults.length} faults so far`);
  }
}
for (const teardown of teardowns) await teardown();

/** What was on its way to the caller still arrives behind the cut, so the longest silence is the wait for the rest. */
function longestSilence(arrivedAtMs: readonly number[], sinceMs: number): number {
  let longest = 0;
  let beforeMs = sinceMs;
  for (const atMs of arrivedAtMs) {
    if (atMs <= sinceMs) continue;
    longest = Math.max(longest, atMs - beforeMs);
    beforeMs = atMs;
  }
  return longest;
}

gaps.sort((one, other) => one - other);
const median = gaps[gaps.length >> 1] ?? Number.NaN;
console.log(`${cuts} cuts, ${cuts - faults.length} streams as without one`);
console.log(`the longest silence behind a cut: ${median.toFixed(1)} ms (median of ${gaps.length})`);
for (const fault of faults.slice(0, 20)) console.log(fault);
if (faults.length > 0 || !(median <= LIMIT_MS)) process.exitCode = 1;
