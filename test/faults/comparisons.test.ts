// What the peers' defects were found by, as real processes.
import t from 'tap';
import { comparisons } from './comparisons.ts';
import { testFaults } from './suite.ts';

t.setTimeout(290_000);

testFaults([], comparisons);
