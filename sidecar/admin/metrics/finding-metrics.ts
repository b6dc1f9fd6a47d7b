/** The findings of "Now" as a metric, for alerts. */
import type { MetricsSource } from './metrics-source.ts';
import type { AddMetric, Labels } from './sampled-metric.ts';

/** Adds one series for each current finding. A finding that ends takes its series with it, which ends an alert on it. */
export function addFindings(add: AddMetric, findings: NonNullable<MetricsSource['findings']>): void {
  add('gauge', 'outrigger_findings', 'Present findings of "Now", by kind.', () => {
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
