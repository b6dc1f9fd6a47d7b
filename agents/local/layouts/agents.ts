/** One agent a service: a user's task goes to the agent of its type. */
import { type Layout, type Member, simpleAgent, toolRunner } from './layout.ts';

const agent = (type: string, replica: number): Member => ({
  ...simpleAgent(type, replica),
  usesTools: 'grpc',
});

export const agents: Layout = {
  name: 'agents',
  about: 'an agent a service: two research agents, a writing and a code agent, and a tool runner',
  members: [agent('research', 1), agent('research', 2), agent('writing', 1), agent('code', 1), toolRunner],
  usualAgent: 'research',
  questions: [
    ['research', 'Why do circuit breakers matter?'],
    ['writing', 'Write a haiku on draining a server'],
    ['research', 'Compare retries and hedging'],
    ['code', 'Write a function that retries with back-off'],
    ['research', 'What is 6 * (3 + 4)?'],
  ],
};
