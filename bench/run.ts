// `npm run bench -- [--quick] [--rows SECTION,SECTION] [--only TARGET,TARGET] [--rounds N] [--seconds N]`
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { parseDuration } from '../scripts/reports/units.ts';
import { checkMachine, describeMachine } from './measuring/machine.ts';
import { measureSection } from './measuring/procedure.ts';
import {
  quickFolder,
  readResult,
  resultsFolder,
  type SectionResult,
  writeResult,
} from './measuring/results.ts';
import { barsTable } from './report/document/aims.ts';
import { bars } from './report/document/bars.ts';
import { writeDocument } from './report/document/write.ts';
import { sectionReport } from './report/tables.ts';
import { quickSections, sections } from './sections/all.ts';
import { soak, soakSection } from './sections/soak.ts';
import { Fleet } from './world/fleet.ts';
import { imageIsMissing } from './world/image.ts';

const HELP = `npm run bench -- [options]

  --quick             one short round of the main rows, under three minutes
  --rows a,b          only these sections: ${sections.map(({ name }) => name).join(', ')}
  --only a,b          only these targets, by the beginning of their names: envoy, haproxy, nginx, outrigger …
  --rounds N          interleaved rounds (5; with --quick 1)
  --seconds N         of each measurement (2; with --quick 0.8)
  --image             the sidecar as its image has it (dist/, flags of the Dockerfile), not from its sources
  --missing           only sections that were not measured at this commit; an interrupted run goes on with it
  --soak              the long run alone
  --duration 10m      of the long run
  --rate N            its calls a second (1000)
`;
/** A quick run begins no section after this long. */
const QUICK_LIMIT_MS = 150_000;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    rows: { type: 'string', default: '' },
    only: { type: 'string', default: '' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    image: { type: 'boolean', default: false },
    missing: { type: 'boolean', default: false },
    soak: { type: 'boolean', default: false },
    duration: { type: 'string', default: '10m' },
    rate: { type: 'string' },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const { quick, image } = values;
const lacking = image && imageIsMissing();
if (lacking !== false) fail(lacking);
// A section may want another number than the usual one, unless one is given.
const rounds = values.rounds === undefined && !quick ? undefined : positive('rounds', values.rounds, 1);
const seconds = positive('seconds', values.seconds, quick ? 0.8 : 2);
const only = list(values.only);
const wanted = list(values.rows);
for (const name of wanted)
  if (!sections.some((section) => section.name === name)) fail(`--rows ${name}: unknown section\n\n${HELP}`);
const chosen =
  wanted.length > 0 ? sections.filter(({ name }) => wanted.includes(name)) : quick ? quickSections : sections;

checkMachine();
const startedMs = performance.now();
const root = join(import.meta.dirname, '..');
const log = (line: string): void => console.log(line);
// A quick or partial run shows a tendency; only a whole one replaces the figures that the documents cite.
const folder = quick || only.length > 0 ? quickFolder : resultsFolder;
if (values.soak) {
  const durationMs = parseDuration(values.duration);
  if (durationMs === undefined || durationMs < 10_000)
    fail(`--duration ${values.duration}: the minimum is 10s`);
  const callsPerSecond = positive('rate', values.rate, 1_000);
  const result = await soak({ seconds: durationMs / 1_000, callsPerSecond, image, log });
  // Only one of the length that the documents cite is kept with them.
  const path = writeResult(result, durationMs >= 600_000 ? resultsFolder : quickFolder);
  log(`\n${sectionReport(soakSection, result)}\nwritten to ${relative(root, path)}`);
  if (path.startsWith(join(resultsFolder, 'soak'))) log(`written: ${writeDocument()}`);
  process.exit(0);
}
const reports: string[] = [];
const made = new Map<string, SectionResult>();
let failures = 0;
const { commit } = describeMachine('');
// Full runs give each section processes of its own, so that none has another one's past.
const shared = quick ? await Fleet.start({ image }) : undefined;
for (const section of chosen) {
  if (quick && wanted.length === 0 && performance.now() - startedMs > QUICK_LIMIT_MS) {
    log(`${section.name}: omitted, because the time of a quick run is over`);
    continue;
  }
  if (values.missing && readResult(section.name, folder)?.commit === commit) {
    log(`${section.name}: measured at ${commit} already`);
    continue;
  }
  const result = await measureSection(section, { rounds, seconds, quick, image, only, log }, shared);
  failures += result.rows.reduce((sum, row) => sum + (row.failures?.length ?? 0), 0);
  const path = writeResult(result, folder);
  made.set(section.name, result);
  reports.push(sectionReport(section, result));
  log(`\n${reports.at(-1)}\nwritten to ${relative(root, path)}\n`);
}
await shared?.end();
if (reports.length > 1) log(`\n${reports.join('\n')}`);
const measured = bars((name) => made.get(name)).filter(({ findings }) => findings.length > 0);
if (measured.length > 0) log(`\n${barsTable(measured)}\n`);
if (made.size > 0 && folder === resultsFolder) log(`written: ${writeDocument()}`);
log(`${Math.round((performance.now() - startedMs) / 1_000)} s`);
if (failures > 0) {
  console.error(`${failures} measurements failed; the report above names them`);
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
    fail(`--${option} ${text}: write a number above 0`);
  return value;
}

function fail(message: string): never {
  console.error(message);
  process.exit(64);
}
