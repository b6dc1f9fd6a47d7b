// docs/size-it.md: its figures are those of the measurements that it names, and its keys, metrics and commands exist.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { schemaOfKey } from '../../scripts/harness/config-schema.ts';
import { readResult, rowOf, summaryOf } from '../measuring/results.ts';

const root = join(import.meta.dirname, '..', '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const page = read('docs/size-it.md');

/** The first number of the row that begins so. */
function said(row: string): number {
  const line = page.split('\n').find((one) => one.startsWith(`| ${row}`));
  if (line === undefined) throw new Error(`the page has no row "${row}"`);
  return Number(/\d[\d.]*/.exec(line.split('|')[2]!)![0]);
}

/** The median of a measure of `npm run bench`, as the page's sidecar: inbound. */
function measured(section: string, measure: string, variant = ''): number {
  const row = rowOf(readResult(section), 'outrigger inbound', variant);
  const summary = summaryOf(row, measure);
  if (summary === undefined) throw new Error(`${section}.json has no ${measure}`);
  return summary.median;
}

t.test('the rounded figures are those of the bench', async (t) => {
  for (const [row, figure] of [
    ['the process, in the image', measured('memory', 'idle', 'image')],
    ['a stream that is open and silent', measured('memory', 'stream', 'image') / 1024],
    ['a small unary call, when calls are few', measured('rates', 'cpu200') / 1000],
    ['the same at 1,500 a second', measured('rates', 'cpu1500') / 1000],
    ['a MiB of messages', 1000 / measured('large', 'answers')],
  ] as const) {
    const ratio = said(row) / figure;
    t.ok(ratio > 0.7 && ratio < 1.4, `${row}: ${said(row)}, measured ${figure.toFixed(3)}`);
  }
});

t.test('the metrics, the annotations and the options of the load tool exist', async (t) => {
  const metrics = read('docs/observability.md');
  const [, measureIt = ''] = page.split('## Measure it');
  const names = [...measureIt.matchAll(/`(?:\w+\()?((?:process|nodejs|outrigger)_\w+)/g)].map(
    ([, name]) => name!,
  );
  t.ok(names.length >= 6);
  for (const name of names) t.match(metrics, `\`${name}\``);
  const kubernetes = read('docs/kubernetes.md');
  for (const [, name] of page.matchAll(/outrigger\.dev\/([\w-]+):/g)) t.match(kubernetes, `\`${name}\``);
  const usage = execFileSync(process.execPath, [join(root, 'bench/load/main.ts'), '--help'], {
    encoding: 'utf8',
  });
  const options = [...page.matchAll(/^npm run load -- (.*)$/gm)].flatMap(
    ([, line]) => line!.match(/--[\w-]+/g)!,
  );
  t.ok(options.length > 5);
  for (const option of options) t.match(usage, option);
});

t.test('each key that it names exists', async (t) => {
  const keys = [...page.matchAll(/`((?:inbound|outbound|llm)\.[\w.*]+)`/g)].map(([, key]) => key!);
  t.ok(keys.length > 5);
  for (const key of keys) t.ok(schemaOfKey(key), key);
});
