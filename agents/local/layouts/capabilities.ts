/** One capability a service: orchestrators take the tasks, and call the agents and tools that they need. */
import { type Layout, type Member, simpleAgent, toolRunner } from './layout.ts';

const orchestrator = (replica: number): Member => ({
  ...simpleAgent('orchestrator', replica),
  usesTools: 'mcp',
});

export const capabilities: Layout = {
  name: 'capabilities',
  about:
    'a capability a service: orchestrators, three agents that they call, a tool runner, and the LLM egress as a service',
  members: [
    orchestrator(1),
    orchestrator(2),
    simpleAgent('research', 1),
    simpleAgent('writing', 1),
    simpleAgent('code', 1),
    toolRunner,
  ],
  llmReplicas: 2,
  usualAgent: 'orchestrator',
  outlives: true,
  notices: [
    'This layout turns on the bus and the journal: tasks with their inputs, and the answers of models, are stored while the system runs. ' +
      "Of prompts the journal keeps digests only; but what the orchestrator asks of another agent is that task's input.",
  ],
  questions: [
    ['orchestrator', 'Compare retries and hedging'],
    ['orchestrator', 'Why do circuit breakers matter?'],
    ['orchestrator', 'What is 6 * (3 + 4)?'],
    ['orchestrator', 'Write a function that retries with back-off'],
  ],
};
