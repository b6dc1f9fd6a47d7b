/** One agent a service: a user's task goes to the agent of its type. */
import { type Layout, simpleAgent } from './layout.ts';

export const agents: Layout = {
  name: 'agents',
  about: 'an agent a service: two research agents, a writing and a code agent',
  members: [
    simpleAgent('research', 1),
    simpleAgent('research', 2),
    simpleAgent('writing', 1),
    simpleAgent('code', 1),
  ],
  usualAgent: 'research',
  questions: [
    ['research', 'Why do circuit breakers matter?'],
    ['writing', 'Write a haiku on draining a server'],
    ['research', 'Compare retries and hedging'],
    ['code', 'Write a function that retries with back-off'],
  ],
};
