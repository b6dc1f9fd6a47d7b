// All scenarios, in the order of the table.
import type { Scenario } from './one-fault.ts';
import { answerScenarios } from './scenarios-answers.ts';
import { chainScenarios } from './scenarios-chain.ts';
import { changeScenarios } from './scenarios-changes.ts';
import { overloadScenarios } from './scenarios-overload.ts';
import { silenceScenarios } from './scenarios-silence.ts';

export const scenarios: readonly Scenario[] = [
  ...silenceScenarios,
  ...answerScenarios,
  ...changeScenarios,
  ...overloadScenarios,
  ...chainScenarios,
];
