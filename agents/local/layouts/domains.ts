/** One domain a service: a service has several agents in one process, which a task's agent type tells apart. */
import type { Layout, Member } from './layout.ts';

const support = (replica: number): Member => ({
  name: `support-${replica}`,
  service: 'support',
  types: ['triage', 'billing', 'refunds'],
  file: 'agents/domains/support/agent.ts',
});

export const domains: Layout = {
  name: 'domains',
  about:
    'a domain a service: two replicas of support, each with the agents triage, billing and refunds in one process',
  members: [support(1), support(2)],
  usualAgent: 'triage',
  questions: [
    ['triage', 'Why is there a second charge on my invoice?'],
    ['billing', 'Which plan am I on?'],
    ['refunds', 'Can I have my money back for last month?'],
    ['triage', 'I want my money back'],
  ],
};
