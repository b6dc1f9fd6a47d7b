// docs/three-am.md names each alert, each kind of finding and each reason, and no other; its settings and flags exist.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import schema from '../sidecar/config/schema.json' with { type: 'json' };
import { REFUSAL_REASONS } from '../sidecar/llm/caller/refusals.ts';
import { FINDING_KINDS } from '../sidecar/policy/now/finding.ts';
import { REASONS } from '../sidecar/policy/reasons.ts';

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/three-am.md'), 'utf8');

/** The rows of the table below a heading, without its head; each has four cells. */
function rowsOf(heading: string): string[][] {
  const [, after = ''] = page.split(`\n## ${heading}\n`);
  const [section = ''] = after.split('\n## ');
  const rows = section
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(2)
    .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '')));
  t.ok(rows.length > 0, heading);
  for (const row of rows) {
    t.equal(row.length, 4, row.join(' | '));
    t.ok(
      row.every((cell) => cell.trim() !== ''),
      `${row[0]} says what it means, what to type and what to change`,
    );
  }
  return rows;
}

/** The names in backticks in the first cells. */
const namedIn = (rows: readonly string[][]): string[] =>
  rows.flatMap(([first = '']) => Array.from(first.matchAll(/`([^`]+)`/g), ([, name]) => name!)).sort();

t.test('each alert has a row', async (t) => {
  const rules = parse(readFileSync(join(root, 'k8s/observability/files/prometheus/rules.yaml'), 'utf8')) as {
    groups: { rules: { alert?: string }[] }[];
  };
  const alerts = rules.groups.flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? []));
  t.strictSame(namedIn(rowsOf('An alert fires')), alerts.sort());
});

t.test('each kind of finding has a row', async (t) => {
  t.strictSame(namedIn(rowsOf('A sidecar names a problem')), [...FINDING_KINDS].sort());
});

t.test('each reason has a row', async (t) => {
  t.strictSame(namedIn(rowsOf('A call fails with `outrigger-reason`')), Object.keys(REASONS).sort());
  t.strictSame(namedIn(rowsOf('A model request fails with `outrigger-reason`')), [...REFUSAL_REASONS].sort());
});

t.test('the settings that the page names exist', async (t) => {
  rowsOf('Other things you see');
  const text = JSON.stringify(schema);
  const settings = [...page.matchAll(/`((?:inbound|outbound|llm|drain|limits)\.[a-z_.[\]]+)`/g)].map(
    ([, name]) => name!,
  );
  t.ok(settings.length > 10);
  for (const name of settings) {
    const last = name.replace(/\[\]/g, '').split('.').at(-1)!;
    t.ok(text.includes(`"${last}":`), name);
  }
});
