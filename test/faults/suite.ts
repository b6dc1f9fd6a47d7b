// Scenarios and comparisons as tests, and at the end a table of what each fault cost.
import t from 'tap';
import type { Comparison } from '../../scripts/harness/faults/comparisons.ts';
import { compare, measure } from '../../scripts/harness/faults/measured.ts';
import { Fleet } from '../../scripts/harness/faults/mesh.ts';
import type { Scenario } from '../../scripts/harness/faults/one-fault.ts';
import { outrigger } from '../../scripts/harness/faults/outrigger.ts';
import type { Row } from '../../scripts/harness/faults/row.ts';
import { LEGEND, markdown, tableOf } from '../../scripts/harness/faults/table.ts';

export interface FaultOptions {
  /** Scenarios at a time, each with replicas of its own: most of their time they wait. */
  readonly lanes?: number;
  /** Gets the tables as Markdown when all have run. */
  readonly report?: (text: string) => void;
}

export function testFaults(
  scenarios: readonly Scenario[],
  comparisons: readonly Comparison[],
  { lanes = 1, report = () => {} }: FaultOptions = {},
): void {
  t.jobs = lanes;
  const free: Fleet[] = [];
  const inFleet = async <T>(run: (fleet: Fleet) => Promise<T>): Promise<T> => {
    const fleet = free.pop() ?? new Fleet(t, outrigger);
    try {
      return await run(fleet);
    } finally {
      free.push(fleet);
    }
  };
  const rows: Row[] = [];
  const compared: string[][] = [];

  for (const scenario of scenarios) {
    // What is not buffered has the process to itself.
    t.test(scenario.name, { buffered: lanes > 1 && scenario.alone !== true }, async (t) => {
      const row = await inFleet((fleet) => measure(scenario, fleet, t));
      rows.push(row);
      for (const { bar, holds } of row.bars) t.ok(holds, bar, { row });
    });
  }

  for (const comparison of comparisons) {
    t.test(comparison.name, async (t) => {
      const { found, better } = await inFleet((fleet) => compare(comparison, fleet, t));
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
