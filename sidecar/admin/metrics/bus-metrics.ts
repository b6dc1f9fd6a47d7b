/** Metrics of the bus. Without `bus.url` they have no series. */
import type { Bus } from '../../bus/bus.ts';
import { TASK_OUTCOMES } from '../../bus/log/task-counts.ts';
import type { QueueStatus } from '../../bus/log/task-log.ts';
import type { AddMetric } from './sampled-metric.ts';

/** The numbers of the bus. */
export type MeasuredBus = Pick<Bus, 'counts' | 'view'>;

export function addBus(add: AddMetric, bus: MeasuredBus): void {
  add('gauge', 'outrigger_bus_connected', 'Whether the bus can be reached: 1 or 0.', () => {
    const { view } = bus;
    return view === undefined ? [] : [{ labels: {}, value: view.connected ? 1 : 0 }];
  });
  add(
    'counter',
    'outrigger_bus_tasks_total',
    'Tasks of the bus that this sidecar published or ran, by agent type and outcome.',
    () =>
      bus.view === undefined
        ? []
        : Array.from(bus.counts.entries(), ([agentType, counts]) =>
            TASK_OUTCOMES.map((outcome) => ({
              labels: { agent_type: agentType, outcome },
              value: counts[outcome],
            })),
          ).flat(),
  );
  const gauge = (name: string, help: string, value: (queue: QueueStatus) => number): void =>
    add('gauge', name, help, () =>
      (bus.view?.queues ?? []).map((queue) => ({
        labels: { agent_type: queue.agentType },
        value: value(queue),
      })),
    );
  gauge(
    'outrigger_bus_queued',
    'Tasks that wait on the bus, as all its sidecars see them.',
    (queue) => queue.queued,
  );
  gauge(
    'outrigger_bus_running',
    'Tasks of the bus that run, as all its sidecars see them.',
    (queue) => queue.running,
  );
  gauge(
    'outrigger_bus_dead',
    'Dead letters on the bus, as all its sidecars see them.',
    (queue) => queue.dead,
  );
  gauge(
    'outrigger_bus_oldest_seconds',
    'How long the oldest task has waited on the bus, as all its sidecars see it.',
    (queue) => queue.oldestMs / 1_000,
  );
}
