// `npm run bench -- [--quick] [--rounds N] [--seconds N] [--only NAME,NAME]`
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { compare } from './compare.ts';
import { reportOf } from './report.ts';
import { targets } from './targets.ts';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string', default: '' },
  },
});

const rounds = positive('rounds', values.rounds, values.quick ? 1 : 5);
const seconds = positive('seconds', values.seconds, values.quick ? 2 : 4);
const only = values.only.split(',').filter((name) => name !== '');
for (const name of only) {
  if (!(name in targets)) fail(`--only ${name}: there is ${Object.keys(targets).join(', ')}`);
}

const comparison = await compare({ rounds, seconds, only, log: (line) => console.log(line) });
const report = reportOf(comparison);
console.log(`\n${report}`);

// A quick or partial run shows a tendency; only a full one replaces the figures that the docs cite.
const name = values.quick || only.length > 0 ? 'compare.quick' : 'compare';
const folder = join(import.meta.dirname, 'results');
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(comparison, null, 2)}\n`);
writeFileSync(join(folder, `${name}.md`), `# The sidecar beside its peers\n\n${report}`);
console.log(`written to bench/results/${name}.json and .md`);

function positive(option: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) fail(`--${option} ${text}: give a whole number from 1`);
  return value;
}

function fail(message: string): never {
  console.error(message);
  process.exit(64);
}
