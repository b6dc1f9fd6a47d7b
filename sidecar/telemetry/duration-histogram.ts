import { statusName } from '../grpc/status.ts';
import {
  type CallStats,
  DURATION_BUCKETS,
  type Durations,
  type Exemplar,
  OTHER_METHOD,
} from './call-stats.ts';
import { CounterMemory, type Series } from './counter-memory.ts';
import type { Labels, Sample } from './sampled-metric.ts';

const BOUNDS: readonly (number | string)[] = [...DURATION_BUCKETS, '+Inf'];
const LE_LABELS = BOUNDS.map((le) => ({ le }));
const NO_LABELS = {};
/** OpenMetrics writes a whole number as `1.0`. */
const OPEN_METRICS_LE_LABELS = new Map<Labels, Labels>(
  LE_LABELS.map((labels) => [labels, { le: Number.isInteger(labels.le) ? `${labels.le}.0` : labels.le }]),
);
const SUM = BOUNDS.length;

/** The calls of something, and the values of the labels that name it. */
export type NamedCalls = readonly [calls: CallStats, ...labelValues: string[]];

/** Turns call durations into the lines of a Prometheus histogram, whose buckets count what is below them too. */
export class DurationHistogram {
  private readonly memory: CounterMemory<Durations>;
  private readonly sources: () => Iterable<NamedCalls>;

  /** @param labelNames the labels besides `rpc_method` and `rpc_status_code` */
  constructor(labelNames: readonly string[], sources: () => Iterable<NamedCalls>) {
    this.sources = sources;
    this.memory = new CounterMemory([...labelNames, 'rpc_method', 'rpc_status_code'], SUM + 1, addDurations);
  }

  read(name: string): Sample[] {
    const samples: Sample[] = [];
    const series = this.memory.collect((found) => {
      for (const [calls, ...labelValues] of this.sources()) {
        for (const { method, byStatus } of calls.methods.values()) {
          for (let status = 0; status < byStatus.length; status++) {
            const durations = byStatus[status];
            // A call that nobody implements has no method of its own.
            if (durations !== undefined)
              found(durations, ...labelValues, method || OTHER_METHOD, statusName(status));
          }
        }
      }
    });
    for (const one of series) pushHistogram(samples, name, one);
    return samples;
  }
}

function addDurations(durations: Durations, totals: Float64Array): void {
  for (let i = 0; i < SUM; i++) totals[i]! += durations.buckets[i]!;
  totals[SUM]! += durations.sumSeconds;
}

function pushHistogram(samples: Sample[], name: string, series: Series<Durations>): void {
  const { labels: sharedLabels, totals, owners } = series;
  const metricName = `${name}_bucket`;
  let count = 0;
  for (let i = 0; i < SUM; i++) {
    count += totals[i]!;
    const exemplar = newestExemplar(owners, i);
    samples.push({ metricName, labels: LE_LABELS[i]!, sharedLabels, value: count, exemplar });
  }
  samples.push({ metricName: `${name}_sum`, labels: NO_LABELS, sharedLabels, value: totals[SUM]! });
  samples.push({ metricName: `${name}_count`, labels: NO_LABELS, sharedLabels, value: count });
}

function newestExemplar(owners: readonly Durations[], bucket: number): Sample['exemplar'] {
  let newest: Exemplar | undefined;
  for (const { exemplars } of owners) {
    const exemplar = exemplars?.[bucket];
    if (exemplar !== undefined && (newest === undefined || exemplar.atSeconds > newest.atSeconds))
      newest = exemplar;
  }
  if (newest === undefined) return undefined;
  const { traceId, seconds, atSeconds } = newest;
  return { labelSet: { trace_id: traceId }, value: seconds, timestamp: atSeconds };
}

/** The same line with the bound of its bucket as OpenMetrics writes it. */
export function openMetricsLabels(sample: Sample): Sample {
  const labels = OPEN_METRICS_LE_LABELS.get(sample.labels);
  return labels === undefined ? sample : { ...sample, labels };
}
