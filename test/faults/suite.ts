// Scenarios and comparisons as tests, and at the end a table of what each fault cost.
import t from 'tap';
import type { Comparison } from '../../scripts/harness/faults/comparisons.ts';
import { compare, measure } from '../../scripts/harness/faults/measured.ts';
import { Fleet } from '../../scripts/harness/faults/mesh.ts';
import type { Scenario } from '../../scripts/harness/faults/one-fault.ts';
import { outrigger } from '../../scripts/harness/faults/outrigger.ts';
import type { Row } from '../../scripts/harness/faults/row.ts';
import { LEGEND, markdown, tableOf } from '../../scripts/harness/faults/table.ts';

/** @param report gets the tables as Markdown when all have run */
export function testFaults(
  scenarios: readonly Scenario[],
  comparisons: readonly Comparison[],
  report: (text: string) => void = () => {},
): void {
  const fleet = new Fleet(t, outrigger);
  const rows: Row[] = [];
  const compared: string[][] = [];

  for (const scenario of scenarios) {
    t.test(scenario.name, async (t) => {
      const row = await measure(scenario, fleet, t);
      rows.push(row);
      for (const { bar, holds } of row.bars) t.ok(holds, bar, { row });
    });
  }

  for (const comparison of comparisons) {
    t.test(comparison.name, async (t) => {
      const { found, better } = await compare(comparison, fleet, t);
      compared.push([comparison.name, comparison.peer, found]);
      t.ok(better, `${found}, where Envoy has ${comparison.peer}`);
    });
  }

  t.teardown(() => {
    const parts: string[] = [];
    if (rows.length > 0) {
      const faults = tableOf(
        ['fault'],
        rows.map((row) => [[row.fault], row]),
      );
      parts.push(faults, LEGEND);
    }
    if (compared.length > 0) parts.push(markdown(['measured', 'Envoy', 'Outrigger'], compared));
    const text = `${parts.join('\n\n')}\n`;
    // Not to the standard output, which is for results alone: the runner would keep the table to itself.
    process.stderr.write(`\n${text}`);
    report(text);
  });
}
