// Replicas that die or fall silent, as real processes.
import t from 'tap';
import { silenceScenarios } from '../../scripts/harness/faults/scenarios-silence.ts';
import { testFaults } from './suite.ts';

t.setTimeout(290_000);

testFaults(silenceScenarios, [], { lanes: 2 });
