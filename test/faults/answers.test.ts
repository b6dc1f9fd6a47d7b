// Replicas that answer badly or late, as real processes.
import t from 'tap';
import { answerScenarios } from '../../scripts/harness/faults/scenarios-answers.ts';
import { testFaults } from './suite.ts';

t.setTimeout(290_000);

testFaults(answerScenarios, [], { lanes: 2 });
