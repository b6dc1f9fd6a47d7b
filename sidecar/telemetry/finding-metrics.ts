/** What "Now" says is wrong, as a metric that alerts go by. */
import type { Labels, Sample, SampledMetric } from './sampled-metric.ts';

/** Something that is wrong at this moment. */
export interface MeasuredFinding {
  readonly kind: string;
  readonly severity: string;
  /** What it is about, by the names of the configuration: `cluster`, `provider`, `setting`, `listener`. */
  readonly about: Readonly<Record<string, string>>;
}

type AddMetric = (
  type: SampledMetric['type'],
  name: string,
  help: string,
  read: () => Iterable<Sample>,
) => void;

/** What is wrong has no series while nothing is: an alert on it ends with the finding. */
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
