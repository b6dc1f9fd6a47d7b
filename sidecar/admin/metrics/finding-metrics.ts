/** The findings of "Now" as a metric, for alerts. */
import type { MetricsSource } from './metrics-source.ts';
import type { AddMetric, Labels } from './sampled-metric.ts';

/** Adds one series for each current finding. A finding that ends takes its series with it, which ends an alert on it. */
export function addFindings(add: AddMetric, findings: NonNullable<MetricsSource['findings']>): void {
  add('gauge', 'outrigger_findings', 'Present findings of "Now", by kind.', () => {
    const samples = new Map<string, { labels: Labels; value: number }>();
    for (const { kind, severity, about } of findings()) {
      const { cluster = '', provider = '', tool_server = '', setting = '', listener = '' } = about;
      const labels = { kind, severity, cluster, provider, tool_server, setting, listener };
      const key = Object.values(labels).join('\n');
      const known = samples.get(key);
      if (known !== undefined) known.value++;
      else samples.set(key, { labels, value: 1 });
    }
    return samples.values();
  });
}
