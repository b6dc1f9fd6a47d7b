// `npm run bench:llm [-- faults] [-- speed] [-- peers] [-- bodies] [-- --quick]`: the LLM egress beside the openai client alone, LiteLLM's
// proxy and Portkey's gateway. Writes what it measured into docs/llm-egress.md, between the marks of its tables; `--quick` measures
// for a short time, and only prints.
import { readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { faultTable, runFaults } from './llm/fault-table.ts';
import { largeBodiesTable, measureLargeBodies, SIZES } from './llm/large-bodies.ts';
import { measureLatency } from './llm/latency.ts';
import { measurePeers } from './llm/peers.ts';
import { measureMemory, measureStreams } from './llm/streams.ts';
import { startLiteLlm, startOutrigger, startProvider } from './llm/systems.ts';
import { Cleanup } from './world/cleanup.ts';

const DOCUMENT = join(import.meta.dirname, '..', 'docs', 'llm-egress.md');
const TARGET_CORE = 1;
const OTHER_CORE = 0;

const isQuick = process.argv.includes('--quick');
const wanted = process.argv.slice(2).filter((part) => part !== '--quick');
const wants = (part: string): boolean => wanted.length === 0 || wanted.includes(part);
const cleanup = new Cleanup();
try {
  if (wants('faults')) write('faults', faultTable(await runFaults(cleanup, TARGET_CORE)));
  await cleanup.run();
  if (wants('speed')) write('speed', await measureSpeed());
  await cleanup.run();
  if (wants('peers'))
    write('peers', await measurePeers(cleanup, [TARGET_CORE, OTHER_CORE], isQuick ? 5 : 30));
  await cleanup.run();
  if (wants('bodies')) write('bodies', await measureBodies());
} finally {
  await cleanup.run();
}
process.exit();

/** With the memory for bodies that a container of 512 MiB gives. */
async function measureBodies(): Promise<string> {
  const url = await startProvider(cleanup, OTHER_CORE);
  const limits = { max_body_memory_bytes: 134_217_728 };
  const outrigger = await startOutrigger(cleanup, url, TARGET_CORE, { limits });
  const none = await measureLargeBodies(outrigger, 0, SIZES.largest);
  const one = await measureLargeBodies(outrigger, 1, SIZES.largest);
  const many = await measureLargeBodies(outrigger, 100, SIZES.large);
  return [
    `Load average while it was measured: ${loadavg()[0]!.toFixed(1)}.`,
    '',
    largeBodiesTable([
      ['none', none],
      ['1 of 31 MiB', one],
      ['100 of 10 MiB', many],
    ]),
  ].join('\n');
}

async function measureSpeed(): Promise<string> {
  const url = await startProvider(cleanup, OTHER_CORE);
  const direct = { name: 'direct', baseUrl: url, pid: undefined };
  const outrigger = await startOutrigger(cleanup, url, TARGET_CORE);
  const ours = await measureLatency(direct, [outrigger], isQuick ? 200 : 2_000);
  const streams = await measureStreams(outrigger, 500);
  const without = await measureStreams(direct, 500);
  const memory = await measureMemory(outrigger, isQuick ? 2_000 : 20_000);
  const litellm = await startLiteLlm(cleanup, { m: url }, TARGET_CORE);
  const theirs = litellm === undefined ? [] : await measureLatency(direct, [litellm], 200);
  const rows = [...ours, ...theirs.filter(({ name }) => name !== 'direct')].map(
    ({ name, medianMs, p99Ms, addedMedianMs }) =>
      `| ${name} | ${medianMs.toFixed(2)} ms | ${p99Ms.toFixed(2)} ms | ${name === 'direct' ? '' : `${addedMedianMs.toFixed(2)} ms`} |`,
  );
  return [
    `Load average while it was measured: ${loadavg()[0]!.toFixed(1)}.`,
    '',
    '| to the first byte of a stream | median | 99th percentile | added, at the median |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
    '| 500 streams at once, an event every 100 ms each | through the egress, on one core | direct |',
    '| --- | --- | --- |',
    `| came to their end | ${streams.complete} of ${streams.streams} | ${without.complete} |`,
    `| stalled (a pause of more than a second) | ${streams.stalled} | ${without.stalled} |`,
    `| longest pause | ${streams.longestPauseMs.toFixed(0)} ms | ${without.longestPauseMs.toFixed(0)} ms |`,
    `| events passed on | ${streams.eventsPerSecond.toFixed(0)} a second | ${without.eventsPerSecond.toFixed(0)} a second |`,
    `| CPU | ${streams.cpuPercent.toFixed(0)} % of a core | |`,
    `| resident memory before, at most | ${streams.residentBeforeMiB.toFixed(0)} MiB, ${streams.residentMostMiB.toFixed(0)} MiB | |`,
    '',
    `Resident memory after each fifth of ${memory.requests} requests: ${memory.residentMiB.map((mib) => mib.toFixed(0)).join(', ')} MiB.`,
  ].join('\n');
}

function write(name: string, text: string): void {
  console.log(`\n${text}\n`);
  if (isQuick) return;
  const document = readFileSync(DOCUMENT, 'utf8');
  const begin = `<!-- measured: ${name} -->`;
  const end = `<!-- end: ${name} -->`;
  const from = document.indexOf(begin);
  const to = document.indexOf(end);
  if (from < 0 || to < 0) throw new Error(`docs/llm-egress.md has no marks for ${name}`);
  writeFileSync(DOCUMENT, `${document.slice(0, from + begin.length)}\n\n${text}\n\n${document.slice(to)}`);
}
