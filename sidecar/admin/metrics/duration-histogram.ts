/** Turns call durations into Prometheus histograms, classic and native, with exemplars. */
import { statusName } from '../../grpc/status.ts';
import { OTHER_METHOD } from '../../telemetry/call-stats.ts';
import { DURATION_BUCKETS, Durations, type Exemplar } from '../../telemetry/durations.ts';
import { CounterMemory, lineLabels, type Series } from './counter-memory.ts';
import { HistogramLayout } from './histogram-layout.ts';
import { KNOWN_STATUS_NAMES, type KnownCalls, KnownMethods } from './known-series.ts';
import type { HistogramSample, Labels, Sample } from './sampled-metric.ts';

const CALLS = new HistogramLayout(DURATION_BUCKETS);
/** Stands in for a label set without calls. */
const NONE = new Durations();

/** Turns call durations into a Prometheus histogram. */
export class DurationHistogram {
  private readonly memory: CounterMemory<Durations>;
  private readonly sources: () => readonly KnownCalls[];
  private readonly known = new KnownMethods();

  /** @param labelNames the labels besides `rpc_method` and `rpc_status_code` */
  constructor(labelNames: readonly string[], sources: () => readonly KnownCalls[]) {
    this.sources = sources;
    const names = [...labelNames, 'rpc_method', 'rpc_status_code'];
    this.memory = new CounterMemory(names, CALLS.width, (durations, totals) => CALLS.add(durations, totals));
  }

  *read(): Generator<Sample> {
    const series = this.memory.collect((found) => {
      const sources = this.sources();
      const known = this.known.choose(sources);
      sources.forEach(({ calls, labelValues }, i) => {
        for (const method of known[i]!)
          for (const status of KNOWN_STATUS_NAMES) found(NONE, ...labelValues, method, status);
        for (const { method, byStatus } of calls.methods.values()) {
          for (let status = 0; status < byStatus.length; status++) {
            const durations = byStatus[status];
            // A method that no service implements has no name of its own.
            if (durations !== undefined)
              found(durations, ...labelValues, method || OTHER_METHOD, statusName(status));
          }
        }
      });
    });
    for (const one of series) yield histogramSample(one, CALLS);
  }
}

export function histogramSample(
  { labels, lines, owners, totals }: Series<Durations>,
  layout: HistogramLayout,
): Sample {
  let count = 0;
  for (let i = 0; i < layout.le.length; i++) count += totals[i]!;
  return { labels, value: count, histogram: { layout, totals, owners, lines } };
}

/** The lines of a histogram in a text format. Buckets are cumulative, and all lines come from one moment. */
export function histogramLines(
  name: string,
  labels: Labels,
  { layout, totals, owners, lines }: HistogramSample,
): Sample[] {
  const metricName = `${name}_bucket`;
  const samples: Sample[] = [];
  let count = 0;
  for (let i = 0; i < layout.le.length; i++) {
    count += totals[i]!;
    const exemplar = exemplarOf(owners, i);
    samples.push({
      metricName,
      labels: lineLabels({ labels, lines }, i, 'le', layout.le[i]!),
      value: count,
      exemplar,
    });
  }
  samples.push({ metricName: `${name}_sum`, labels, value: totals[layout.sum]! });
  samples.push({ metricName: `${name}_count`, labels, value: count });
  return samples;
}

/** The newest traced call of a bucket, among all owners. */
export function exemplarOf(owners: readonly Durations[], bucket: number): Sample['exemplar'] {
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
