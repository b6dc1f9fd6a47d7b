// `npm run faults`: every fault that the sidecar is there for, in one run with one table. FAULT_TABLE=FILE also writes that
// into this Markdown file, between its two marks. `npm test` runs the same in several files.
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { comparisons } from '../../scripts/harness/faults/comparisons.ts';
import { scenarios } from '../../scripts/harness/faults/scenarios.ts';
import { between } from '../../scripts/harness/faults/table.ts';
import { testFaults } from './suite.ts';

t.setTimeout(1_200_000);

testFaults(scenarios, comparisons, {
  report: (report) => {
    const file = process.env['FAULT_TABLE'];
    if (file !== undefined && file !== '') writeFileSync(file, between(readFileSync(file, 'utf8'), report));
  },
});
