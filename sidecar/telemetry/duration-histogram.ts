import { statusName } from '../grpc/status.ts';
import {
  type CallStats,
  DURATION_BUCKETS,
  type Durations,
  type Exemplar,
  OTHER_METHOD,
} from './call-stats.ts';
import { CounterMemory, lineLabels, type Series } from './counter-memory.ts';
import type { Sample } from './sampled-metric.ts';

/** With a point, as OpenMetrics wants it, in both formats: a series is the same one whatever format it came in. */
const BOUNDS: readonly string[] = [...DURATION_BUCKETS.map(decimal), '+Inf'];
const SUM = BOUNDS.length;

function decimal(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}

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

  *read(name: string): Generator<Sample> {
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
    for (const one of series) yield* histogramLines(name, one);
  }
}

function addDurations(durations: Durations, totals: Float64Array): void {
  for (let i = 0; i < SUM; i++) totals[i]! += durations.buckets[i]!;
  totals[SUM]! += durations.sumSeconds;
}

/** Not lazily: its lines must fit each other. */
function histogramLines(name: string, series: Series<Durations>): Sample[] {
  const { labels, totals, owners } = series;
  const metricName = `${name}_bucket`;
  const samples: Sample[] = [];
  let count = 0;
  for (let i = 0; i < SUM; i++) {
    count += totals[i]!;
    const exemplar = newestExemplar(owners, i);
    samples.push({ metricName, labels: lineLabels(series, i, 'le', BOUNDS[i]!), value: count, exemplar });
  }
  samples.push({ metricName: `${name}_sum`, labels, value: totals[SUM]! });
  samples.push({ metricName: `${name}_count`, labels, value: count });
  return samples;
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
