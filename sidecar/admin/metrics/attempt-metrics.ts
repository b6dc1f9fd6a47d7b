/** Metrics of attempts: their statuses by endpoint, retries, hedges, and failed connections. */
import { statusName } from '../../grpc/status.ts';
import { RESUME_OUTCOMES } from '../../policy/resume.ts';
import { addNamedCount, CounterMemory, lineLabels, type Series, totals } from './counter-memory.ts';
import { CONNECT_FAILURES, KNOWN_STATUSES, MAX_KNOWN_ENDPOINTS } from './known-series.ts';
import type { MeasuredCluster, MetricsSource } from './metrics-source.ts';
import type { AddMetric, Sample } from './sampled-metric.ts';

/** Shown from the first scrape on, so that the first event of each shows as an increase. */
const HEDGE_OUTCOMES = ['sent', 'won', 'budget_exhausted'];
const RETRY_OUTCOMES = ['retried', 'success', 'budget_exhausted', 'not_safe', 'deadline'];

export function addAttempts(add: AddMetric, { clusters }: MetricsSource): void {
  const attempts = new CounterMemory<Float64Array>(['cluster', 'endpoint'], 17, addNumbers);
  add('counter', 'outrigger_attempts_total', 'Attempts that ended, by endpoint and gRPC status.', () => {
    const series = attempts.collect((found) => {
      for (const cluster of clusters())
        for (const { address, attemptsByStatus } of cluster.reportedEndpoints())
          found(attemptsByStatus, cluster.name, address);
    });
    return codes(series);
  });
  addOutcomes(add, clusters, ({ retries }) => retries, {
    name: 'outrigger_retries_total',
    help: 'Retries: attempts after a failed one, retries that succeeded, and decisions against a retry.',
    outcomes: RETRY_OUTCOMES,
  });
  addOutcomes(add, clusters, ({ streamsResumed }) => streamsResumed, {
    name: 'outrigger_streams_resumed_total',
    help: 'Streams of tasks whose connection was lost after the answer had begun, by what became of them.',
    outcomes: RESUME_OUTCOMES,
  });
  addOutcomes(add, clusters, ({ hedges }) => hedges, {
    name: 'outrigger_hedges_total',
    help: 'Hedges: extra attempts beside a slow one, by outcome.',
    outcomes: HEDGE_OUTCOMES,
  });
  addOutcomes(add, clusters, ({ connectFailures }) => connectFailures, {
    name: 'outrigger_connect_failures_total',
    help: 'Failed connection attempts to endpoints, by reason.',
    outcomes: CONNECT_FAILURES,
    label: 'reason',
  });
}

function addOutcomes(
  add: AddMetric,
  clusters: () => Iterable<MeasuredCluster>,
  countsOf: (cluster: MeasuredCluster) => ReadonlyMap<string, number>,
  {
    name,
    help,
    outcomes,
    label = 'outcome',
  }: { name: string; help: string; outcomes: readonly string[]; label?: string },
): void {
  const memory = new CounterMemory(['cluster', label], 1, addNamedCount(label));
  add('counter', name, help, () =>
    totals(
      memory.collect((found) => {
        for (const cluster of clusters()) {
          const counts = countsOf(cluster);
          for (const outcome of new Set([...outcomes, ...counts.keys()]))
            found(counts, cluster.name, outcome);
        }
      }),
    ),
  );
}

function addNumbers(numbers: Float64Array, totals: Float64Array): void {
  for (let i = 0; i < numbers.length; i++) totals[i]! += numbers[i]!;
}

/**
 * One line for each code with which attempts have ended; for some endpoints, the important codes appear from the first
 * scrape on.
 */
function* codes(endpoints: Iterable<Series<unknown>>): Generator<Sample> {
  let known = 0;
  for (const endpoint of endpoints) {
    const { totals } = endpoint;
    const isKnown = known++ < MAX_KNOWN_ENDPOINTS;
    for (let i = 0; i < totals.length; i++) {
      if (totals[i]! > 0 || (isKnown && KNOWN_STATUSES.includes(i)))
        yield { labels: lineLabels(endpoint, i, 'code', statusName(i)), value: totals[i]! };
    }
  }
}
