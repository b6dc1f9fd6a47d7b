import { statusName } from '../grpc/status.ts';
import { type CallStats, DURATION_BUCKETS, type Durations, OTHER_METHOD } from './call-stats.ts';
import { CounterMemory, type Series } from './counter-memory.ts';
import type { Sample } from './sampled-metric.ts';

const BOUNDS: readonly (number | string)[] = [...DURATION_BUCKETS, '+Inf'];
const LE_LABELS = BOUNDS.map((le) => ({ le }));
const NO_LABELS = {};
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

function pushHistogram(samples: Sample[], name: string, { labels: sharedLabels, totals }: Series): void {
  let count = 0;
  for (let i = 0; i < SUM; i++) {
    count += totals[i]!;
    samples.push({ metricName: `${name}_bucket`, labels: LE_LABELS[i]!, sharedLabels, value: count });
  }
  samples.push({ metricName: `${name}_sum`, labels: NO_LABELS, sharedLabels, value: totals[SUM]! });
  samples.push({ metricName: `${name}_count`, labels: NO_LABELS, sharedLabels, value: count });
}
