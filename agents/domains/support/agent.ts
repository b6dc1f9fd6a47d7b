/** The support domain: three agents in one process, which a task's `agent_type` tells apart. */
import { serveDomain } from 'outrigger/agent';
import { deskAgent } from './desk.ts';
import { triage } from './triage.ts';

const billing =
  deskAgent(`You are a billing agent. Answer questions about invoices, charges, plans and payments in
two or three sentences. Say which document shows it. Never promise money back: that is for refunds.`);

const refunds =
  deskAgent(`You are a refunds agent. Say whether the request is a case for a refund, what is needed to
decide it, and what happens next, in two or three sentences. Never state an amount that was not given.`);

await serveDomain({
  name: 'support-agent',
  version: '1.0.0',
  agents: { triage, billing, refunds },
});
