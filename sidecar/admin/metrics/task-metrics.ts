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
  add('counter', 'outrigger_tasks_total', 'Tasks that ended, by the status of their answer.', () =>
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
    'Tokens of tasks: useful if the caller received the answer, wasted if no caller did.',
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
  add(
    'counter',
    'outrigger_tasks_deduplicated_total',
    'Repeated tasks that the sidecar did not run again, by outcome.',
    () =>
      (['joined', 'replayed', 'refused'] as const).map((outcome) => ({
        labels: { outcome },
        value: store[outcome],
      })),
  );
}
