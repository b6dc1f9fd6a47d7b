// `npm run bench -- [--quick] [--rows SECTION,SECTION] [--only TARGET,TARGET] [--rounds N] [--seconds N]`
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { checkMachine, measureSection } from './procedure.ts';
import { sectionReport } from './report.ts';
import { quickFolder, resultsFolder, writeResult } from './results.ts';
import { quickSections, sections } from './sections.ts';

const HELP = `npm run bench -- [options]

  --quick             one short round of the main rows, under three minutes
  --rows a,b          only these sections: ${sections.map(({ name }) => name).join(', ')}
  --only a,b          only these targets, by the beginning of their names: envoy, haproxy, nginx, outrigger …
  --rounds N          interleaved rounds (5; with --quick 1)
  --seconds N         of each measurement (2; with --quick 1)
`;
/** A quick run begins no section after this long. */
const QUICK_LIMIT_MS = 165_000;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    rows: { type: 'string', default: '' },
    only: { type: 'string', default: '' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const { quick } = values;
const rounds = positive('rounds', values.rounds, quick ? 1 : 5);
const seconds = positive('seconds', values.seconds, quick ? 1 : 2);
const only = list(values.only);
const wanted = list(values.rows);
for (const name of wanted)
  if (!sections.some((section) => section.name === name))
    fail(`--rows ${name}: there is no such section\n\n${HELP}`);
const chosen =
  wanted.length > 0 ? sections.filter(({ name }) => wanted.includes(name)) : quick ? quickSections : sections;

checkMachine();
const startedMs = performance.now();
const log = (line: string): void => console.log(line);
// A quick or partial run shows a tendency; only a whole one replaces the figures that the documents cite.
const folder = quick || only.length > 0 ? quickFolder : resultsFolder;
const reports: string[] = [];
let failures = 0;
for (const section of chosen) {
  if (quick && wanted.length === 0 && performance.now() - startedMs > QUICK_LIMIT_MS) {
    log(`${section.name}: left out, the time of a quick run is over`);
    continue;
  }
  const result = await measureSection(section, { rounds, seconds, quick, only, log });
  failures += result.rows.reduce((sum, row) => sum + (row.failures?.length ?? 0), 0);
  const path = writeResult(result, folder);
  reports.push(sectionReport(section, result));
  log(`\n${reports.at(-1)}\nwritten to ${relative(join(import.meta.dirname, '..'), path)}\n`);
}
if (reports.length > 1) log(`\n${reports.join('\n')}`);
log(`${Math.round((performance.now() - startedMs) / 1_000)} s`);
if (failures > 0) {
  console.error(`${failures} measurements failed; they are named above`);
  process.exitCode = 1;
}

function list(text: string): string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
}

function positive(option: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!(value > 0) || (option === 'rounds' && !Number.isInteger(value)))
    fail(`--${option} ${text}: give a number above 0`);
  return value;
}

function fail(message: string): never {
  console.error(message);
  process.exit(64);
}
