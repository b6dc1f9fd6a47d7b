// What the peers' defects were found by, as real processes.
import t from 'tap';
import { comparisons } from '../../scripts/harness/faults/comparisons.ts';
import { testFaults } from './suite.ts';

t.setTimeout(290_000);

testFaults([], comparisons, { lanes: 2 });
