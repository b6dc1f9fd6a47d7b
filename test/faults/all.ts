// `npm run faults`: every fault that the sidecar is there for, in one run with one table. FAULT_TABLE=FILE also writes that
// into this Markdown file, between its two marks. `npm test` runs the same in several files.
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { comparisons } from './comparisons.ts';
import { scenarios } from './scenarios.ts';
import { testFaults } from './suite.ts';
import { between } from './table.ts';

t.setTimeout(1_200_000);

testFaults(scenarios, comparisons, (report) => {
  const file = process.env['FAULT_TABLE'];
  if (file !== undefined && file !== '') writeFileSync(file, between(readFileSync(file, 'utf8'), report));
});
