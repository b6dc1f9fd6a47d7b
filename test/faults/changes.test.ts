// Replicas that come and go, overload, and chains of agents, as real processes.
import t from 'tap';
import { chainScenarios } from './scenarios-chain.ts';
import { changeScenarios } from './scenarios-changes.ts';
import { overloadScenarios } from './scenarios-overload.ts';
import { testFaults } from './suite.ts';

t.setTimeout(290_000);

testFaults([...changeScenarios, ...overloadScenarios, ...chainScenarios], []);
