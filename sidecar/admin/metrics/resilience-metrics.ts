/** Metrics of circuits and outlier detection. */
import type { EjectionReason } from '../../cluster/outlier/watched-endpoint.ts';
import { CIRCUIT_STATE_VALUE } from '../../policy/circuit-state.ts';
import { CounterMemory } from './counter-memory.ts';
import { MAX_KNOWN_CLUSTERS, TASK_METHODS } from './known-series.ts';
import type { MeasuredCircuit, MeasuredCluster, MetricsSource } from './metrics-source.ts';
import type { AddMetric, Labels } from './sampled-metric.ts';

/** Stands in for a circuit that no call has needed yet. */
const NO_BREAKER: MeasuredCircuit['breaker'] = { state: 'closed', rejections: 0 };
const OTHER_METHODS = '_OTHER';

/** These reasons appear from the first scrape on, so that the first ejection shows as an increase. */
const EJECTION_REASONS = Object.keys({
  consecutive_failures: true,
  failure_percentage: true,
  success_rate: true,
  latency: true,
  health_check: true,
} satisfies Record<EjectionReason, true>);

export function addResilience(add: AddMetric, { circuits, clusters }: MetricsSource): void {
  add('gauge', 'outrigger_circuit_state', 'Circuits: 0 closed, 1 half-open, 2 open.', () =>
    Array.from(circuits(), ({ cluster, method, breaker }) => ({
      labels: { cluster, method: methodName(method) },
      value: CIRCUIT_STATE_VALUE[breaker.state],
    })),
  );
  const rejections = new CounterMemory<MeasuredCircuit['breaker']>(
    ['cluster', 'method'],
    1,
    (breaker, totals) => (totals[0]! += breaker.rejections),
  );
  add('counter', 'outrigger_circuit_rejections_total', 'Calls that a circuit rejected.', () => {
    const series = rejections.collect((found) => {
      let known = 0;
      for (const { name } of clusters()) {
        if (known++ >= MAX_KNOWN_CLUSTERS) break;
        for (const method of TASK_METHODS) found(NO_BREAKER, name, method);
      }
      for (const { cluster, method, breaker } of circuits()) found(breaker, cluster, methodName(method));
    });
    return Array.from(series, ({ labels, totals }) => ({ labels, value: totals[0]! }));
  });
  const ejections = new CounterMemory<ReadonlyMap<string, number>>(
    ['cluster', 'reason'],
    1,
    (counts, totals, labels) => (totals[0]! += countOf(counts, labels)),
  );
  add('counter', 'outrigger_ejections_total', 'Ejections of endpoints, by reason.', () => {
    const series = ejections.collect((found) => {
      for (const { name, outliers } of clusters())
        for (const reason of reasonsOf(outliers)) found(outliers.ejections, name, reason);
    });
    return Array.from(series, ({ labels, totals }) => ({ labels, value: totals[0]! }));
  });
  add('gauge', 'outrigger_endpoints_ejected', 'Ejected endpoints, by reason.', () => {
    const samples = new Map<string, { labels: Labels; value: number }>();
    const of = (cluster: string, reason: string) => {
      const key = `${cluster}\n${reason}`;
      let sample = samples.get(key);
      if (sample === undefined) samples.set(key, (sample = { labels: { cluster, reason }, value: 0 }));
      return sample;
    };
    for (const { name, outliers } of clusters()) {
      // A reason stays as 0, so that an alert on it can end.
      for (const reason of reasonsOf(outliers)) of(name, reason);
      for (const { ejected, reason } of outliers.detector.endpoints)
        if (ejected && reason !== undefined) of(name, reason).value++;
    }
    return [...samples.values()];
  });
}

function reasonsOf({ ejections }: MeasuredCluster['outliers']): Iterable<string> {
  return new Set([...EJECTION_REASONS, ...ejections.keys()]);
}

function countOf(counts: ReadonlyMap<string, number>, labels: Labels): number {
  return counts.get(String(labels['reason'])) ?? 0;
}

function methodName(path: string): string {
  return path === '' ? OTHER_METHODS : path.replace(/^\//, '');
}
