// `npm run fuzz -- --minutes 60 --seed N`: attacks a whole system for so long. Exit code 1 when something did not hold.
import { parseArgs } from 'node:util';
import { runFuzz } from './driver.ts';
import { EPISODE_NAMES } from './episodes.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    episode: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const USAGE = `npm run fuzz -- [--minutes N] [--seed N] [--episode N] [--only NAME] [--json]
  --minutes   how long, in slices of a minute; 1 by default
  --seed      decides what is sent; a random one by default. It is printed, and so is that of each slice
  --episode   one conversation, over and over for a minute, by the number that a report names
  --only      episodes of one kind: ${EPISODE_NAMES.join(', ')}
  --json      prints what was attacked and what did not hold as a line of JSON, too`;

/** 32 bits; undefined for what is no such number. */
function numberOf(text: string): number | undefined {
  const value = Number(text);
  return /^\d+$/.test(text) && value <= 0xffff_ffff ? value : undefined;
}

const minutes = Number(values.minutes);
const seed = numberOf(values.seed ?? `${Math.floor(Math.random() * 2 ** 32)}`);
const episode = values.episode === undefined ? undefined : numberOf(values.episode);
const isWrong =
  !(minutes > 0 && minutes <= 1_440) ||
  seed === undefined ||
  (values.episode !== undefined && episode === undefined) ||
  (values.only !== undefined && !EPISODE_NAMES.includes(values.only));

if (values.help || isWrong) {
  console.log(USAGE);
  process.exit(values.help ? 0 : 64);
}

const endings: (() => unknown)[] = [];
const ends = { teardown: (end: () => unknown) => void endings.unshift(end) };
const slices = episode === undefined ? Math.ceil(minutes) : 1;
const sliceMs = Math.min(minutes, 1) * 60_000;
console.log(`seed ${seed}`);
const report = await runFuzz(ends as Parameters<typeof runFuzz>[0], {
  seed,
  slices,
  sliceMs,
  episode,
  only: values.only,
  log: (line) => console.log(`${new Date().toISOString()} ${line}`),
});
// Before the processes are ended: a reader need not wait for that.
if (values.json) {
  const { episodes, violations } = report;
  console.log(JSON.stringify({ episodes: Object.fromEntries(episodes), violations }));
}
for (const end of endings) await end();
console.log(
  report.violations.length === 0
    ? `all held for ${slices} slices`
    : `not held; run it again with --seed ${seed}`,
);
process.exit(report.violations.length === 0 ? 0 : 1);
