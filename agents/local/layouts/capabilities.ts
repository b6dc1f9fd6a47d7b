/** One capability a service: orchestrators take the tasks, and call the agents and tools that they need. */
import { type Layout, simpleAgent } from './layout.ts';

export const capabilities: Layout = {
  name: 'capabilities',
  about: 'a capability a service: two orchestrators, which call a research, a writing and a code agent',
  members: [
    simpleAgent('orchestrator', 1),
    simpleAgent('orchestrator', 2),
    simpleAgent('research', 1),
    simpleAgent('writing', 1),
    simpleAgent('code', 1),
  ],
  usualAgent: 'orchestrator',
  outlives: true,
  notices: [
    'This layout turns on the bus and the journal: tasks with their inputs, and the answers of models, are stored while the system runs. ' +
      "Of prompts the journal keeps digests only; but what the orchestrator asks of another agent is that task's input.",
  ],
  questions: [
    ['orchestrator', 'Compare retries and hedging'],
    ['orchestrator', 'Why do circuit breakers matter?'],
    ['research', 'Why do drains matter?'],
    ['orchestrator', 'Write a function that retries with back-off'],
  ],
};
