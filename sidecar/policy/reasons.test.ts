// Every reason has its verdict, its safety and its lines in the documents and on the dashboard: the table defines them
// all.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { statusName } from '../grpc/status.ts';
import { factsOf, REASONS } from './reasons.ts';
import { VERDICTS, type VerdictReason } from './verdicts.ts';

const root = join(import.meta.dirname, '..', '..');
const reasons = Object.entries(REASONS);

t.test('the document of a call has each line of the table of reasons', async (t) => {
  const markdown = readFileSync(join(root, 'docs/life-of-a-call.md'), 'utf8');
  const table = /^\| reason .*\n\|[ -|]*\n((?:\|.*\n)+)/m.exec(markdown)?.[1] ?? '';
  const rows = table
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  t.strictSame(
    rows,
    reasons.map(([name, { status, app, turnedAway, when }]) => {
      const seen = app === 'untouched' ? `not seen${turnedAway ? ' *' : ''}` : 'may have seen';
      return [`\`${name}\``, statusName(status), seen, when];
    }),
  );
});

t.test('the dashboard has words for each reason and each verdict', async (t) => {
  // Plain JavaScript for browsers, without type declarations.
  const words = join(root, 'sidecar/listeners/dashboard/words.js');
  const { explainReason, explainVerdict } = (await import(words)) as Record<string, (name: string) => string>;
  for (const [name] of reasons) t.match(explainReason!(name), /^[A-Z].*\.$/, name);
  for (const reason of Object.keys(VERDICTS) as VerdictReason[])
    t.not(explainVerdict!(reason), reason.replaceAll('_', ' '), reason);
});

t.test('the facts of each reason fit together', async (t) => {
  for (const [name, facts] of reasons) {
    t.equal(factsOf(name), facts);
    t.not(facts.status, 0, name);
    t.ok(facts.httpStatus >= 400, name);
    if (facts.turnedAway) t.equal(facts.app, 'untouched', `${name}: another endpoint may be asked at once`);
    t.notOk(facts.turnedAway && facts.final, name);
  }
  for (const name of ['', 'of_a_newer_version', 'constructor', 'toString']) t.equal(factsOf(name), undefined);
});
