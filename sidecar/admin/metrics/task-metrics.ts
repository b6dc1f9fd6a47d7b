/** Metrics of tasks: their outcomes, their tokens, and repeated ones. */
import { AgentTasks, TASK_OUTCOMES } from '../../telemetry/task-stats.ts';
import type { MetricsSource } from './metrics-source.ts';
import type { AddMetric } from './sampled-metric.ts';

export function addTasks(add: AddMetric, { known, tasks: { agents } }: MetricsSource): void {
  /** Includes this sidecar's agent from the first scrape on. */
  const allAgents = (): AgentTasks[] => {
    const name = known?.agent();
    const all = [...agents.values()];
    if (name !== undefined && !agents.has(name)) all.push(new AgentTasks(name));
    return all;
  };
  add('counter', 'outrigger_tasks_total', 'Tasks that ended, by the status in their answer.', () =>
    Array.from(allAgents(), ({ agent, byOutcome }) =>
      TASK_OUTCOMES.map((status, i) => ({ labels: { agent, status }, value: byOutcome[i]! })),
    ).flat(),
  );
  const uses: Record<string, (tasks: AgentTasks) => number> = {
    useful: (tasks) => tasks.usefulTokens,
    wasted: (tasks) => tasks.wastedTokens,
  };
  add(
    'counter',
    'outrigger_tokens_total',
    'Tokens that tasks used: useful when the caller got the answer, wasted when nobody did.',
    () =>
      Array.from(allAgents(), (tasks) =>
        Object.entries(uses).map(([use, value]) => ({
          labels: { agent: tasks.agent, use },
          value: value(tasks),
        })),
      ).flat(),
  );
}

export function addRepeatedTasks(add: AddMetric, store: MetricsSource['taskStore']): void {
  add('counter', 'outrigger_tasks_deduplicated_total', 'Tasks that came again and were not run again.', () =>
    (['joined', 'replayed', 'refused'] as const).map((outcome) => ({
      labels: { outcome },
      value: store[outcome],
    })),
  );
}
