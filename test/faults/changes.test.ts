// Replicas that come and go, overload, and chains of agents, as real processes.
import t from 'tap';
import { chainScenarios } from '../../scripts/harness/faults/scenarios-chain.ts';
import { changeScenarios } from '../../scripts/harness/faults/scenarios-changes.ts';
import { overloadScenarios } from '../../scripts/harness/faults/scenarios-overload.ts';
import { testFaults } from './suite.ts';

t.setTimeout(290_000);

testFaults([...changeScenarios, ...overloadScenarios, ...chainScenarios], [], { lanes: 2 });
