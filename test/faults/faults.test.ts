// Every fault that the sidecar is there for: real processes, real sockets, and at the end a table of what each cost.
// FAULT_TABLE=FILE also writes it into that Markdown file, between its two marks.
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { comparisons } from './comparisons.ts';
import { Fleet } from './mesh.ts';
import { outrigger } from './outrigger.ts';
import type { Row } from './row.ts';
import { scenarios } from './scenarios.ts';
import { between, LEGEND, markdown, tableOf } from './table.ts';

t.setTimeout(290_000);

const fleet = new Fleet(t, outrigger);
const rows: Row[] = [];
const compared: string[][] = [];

for (const scenario of scenarios) {
  t.test(scenario.name, async (t) => {
    const row = await scenario.run(fleet, t);
    rows.push(row);
    for (const { bar, holds } of row.bars) t.ok(holds, bar, { row });
  });
}

for (const comparison of comparisons) {
  t.test(comparison.name, async (t) => {
    const { found, better } = await comparison.run(fleet, t);
    compared.push([comparison.name, comparison.peer, found]);
    t.ok(better, `${found}, where Envoy has ${comparison.peer}`);
  });
}

t.teardown(() => {
  const faults = tableOf(
    ['fault'],
    rows.map((row) => [[row.fault], row]),
  );
  const report = `${faults}\n\n${LEGEND}\n\n${markdown(['measured', 'Envoy', 'Outrigger'], compared)}\n`;
  // Not to the standard output, which is for results alone: the runner would keep the table to itself.
  process.stderr.write(`\n${report}`);
  const file = process.env['FAULT_TABLE'];
  if (file !== undefined && file !== '') writeFileSync(file, between(readFileSync(file, 'utf8'), report));
});
