/** Metrics of the agents that one app serves side by side: the places of each (`inbound.agent_types`). */
import type { MeasuredAgentType } from './metrics-source.ts';
import type { AddMetric } from './sampled-metric.ts';

export function addAgentTypes(add: AddMetric, agentTypes: () => Iterable<MeasuredAgentType>): void {
  const gauges: [name: string, help: string, value: (agent: MeasuredAgentType) => number][] = [
    ['active_calls', 'Calls of an agent with places of its own that run.', ({ active }) => active],
    ['queued_calls', 'Calls of an agent with places of its own that wait for one.', ({ queued }) => queued],
    ['concurrency_limit', 'Calls of an agent with places of its own that may run.', ({ limit }) => limit],
  ];
  const samples = (value: (agent: MeasuredAgentType) => number) =>
    Array.from(agentTypes(), (agent) => ({ labels: { agent: agent.agentType }, value: value(agent) }));
  for (const [name, help, value] of gauges)
    add('gauge', `outrigger_agent_${name}`, help, () => samples(value));
  add('counter', 'outrigger_agent_refused_total', 'Calls for which an agent had no place.', () =>
    samples(({ refused }) => refused),
  );
}
