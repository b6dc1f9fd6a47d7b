/** The findings of "Now" as a metric, for alerts. */
import type { Labels, Sample, SampledMetric } from './sampled-metric.ts';

/** A problem that exists now. */
export interface MeasuredFinding {
  readonly kind: string;
  readonly severity: string;
  /** The subject, by the names of the configuration: `cluster`, `provider`, `setting`, `listener`. */
  readonly about: Readonly<Record<string, string>>;
}

type AddMetric = (
  type: SampledMetric['type'],
  name: string,
  help: string,
  read: () => Iterable<Sample>,
) => void;

/** Adds one series for each current finding. A finding that ends takes its series with it, which ends an alert on it. */
export function addFindings(add: AddMetric, findings: () => Iterable<MeasuredFinding>): void {
  add('gauge', 'outrigger_findings', 'What "Now" says is wrong at this moment, by kind.', () => {
    const samples = new Map<string, { labels: Labels; value: number }>();
    for (const { kind, severity, about } of findings()) {
      const { cluster = '', provider = '', setting = '', listener = '' } = about;
      const key = [kind, severity, cluster, provider, setting, listener].join('\n');
      const known = samples.get(key);
      if (known !== undefined) known.value++;
      else samples.set(key, { labels: { kind, severity, cluster, provider, setting, listener }, value: 1 });
    }
    return samples.values();
  });
}
