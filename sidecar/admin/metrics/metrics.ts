/** The list of the metrics on `/metrics`, read from plain numbers at the moment of the scrape. */
import { addAgentTypes } from './agent-type-metrics.ts';
import { addAttempts } from './attempt-metrics.ts';
import { addBus } from './bus-metrics.ts';
import { addActive, addCalls } from './call-metrics.ts';
import { addCertificates } from './certificate-metrics.ts';
import { addFindings } from './finding-metrics.ts';
import { addJournal } from './journal-metrics.ts';
import { addLlm } from './llm-metrics.ts';
import { addMcp } from './mcp-metrics.ts';
import type { MetricsSource } from './metrics-source.ts';
import { processMetrics } from './process-metrics.ts';
import { addResilience } from './resilience-metrics.ts';
import { type AddMetric, SampledMetric } from './sampled-metric.ts';
import { addRepeatedTasks, addTasks } from './task-metrics.ts';

/** All metrics. They hold no numbers of their own, so the first scrape may create them. */
export function createMetrics(source: MetricsSource): readonly SampledMetric[] {
  const metrics: SampledMetric[] = [];
  const add: AddMetric = (type, name, help, read) =>
    void metrics.push(new SampledMetric(type, name, help, read));
  const versionLabels = { version: source.version };
  add('gauge', 'outrigger_build_info', 'The running version; always 1.', () => [
    { labels: versionLabels, value: 1 },
  ]);
  add('gauge', 'outrigger_ready', 'Whether the sidecar is ready for calls: 1 or 0.', () => [
    { labels: {}, value: source.ready() ? 1 : 0 },
  ]);
  add(
    'gauge',
    'outrigger_config_refused',
    'Whether the sidecar has refused the configuration file and uses the last good one: 1 or 0.',
    () => [{ labels: {}, value: source.configRefused?.() === true ? 1 : 0 }],
  );
  const { logLines } = source;
  if (logLines !== undefined)
    add(
      'counter',
      'outrigger_log_lines_dropped_total',
      'Dropped lines of the log and the access log, because no process read them.',
      () => [{ labels: {}, value: logLines.dropped }],
    );
  if (source.findings !== undefined) addFindings(add, source.findings);
  addCalls(add, source);
  addActive(add, source);
  addAttempts(add, source);
  addResilience(add, source);
  addTasks(add, source);
  addRepeatedTasks(add, source.taskStore);
  if (source.agentTypes !== undefined) addAgentTypes(add, source.agentTypes);
  if (source.bus !== undefined) addBus(add, source.bus);
  if (source.llm !== undefined) addLlm(add, source.llm, source.known?.models);
  if (source.mcp !== undefined) addMcp(add, source.mcp);
  if (source.journal !== undefined) addJournal(add, source.journal);
  if (source.tracing !== undefined) addSpans(add, source.tracing);
  if (source.certificates !== undefined) addCertificates(add, source.certificates);
  return [...metrics, ...processMetrics()];
}

function addSpans(add: AddMetric, { counts, waiting }: NonNullable<MetricsSource['tracing']>): void {
  add('counter', 'outrigger_spans_total', 'Spans for the collector, by outcome.', () => [
    { labels: { outcome: 'exported' }, value: counts.exported },
    { labels: { outcome: 'dropped' }, value: counts.droppedQueueFull },
    { labels: { outcome: 'failed' }, value: counts.failed },
    { labels: { outcome: 'rejected' }, value: counts.rejected },
  ]);
  add(
    'gauge',
    'outrigger_spans_waiting',
    'Spans that no collector has accepted yet, including those in flight.',
    () => [{ labels: {}, value: waiting() }],
  );
}
