/** The metrics of `/metrics`, read from plain numbers at the moment of the scrape. */
import { statusName } from '../grpc/status.ts';
import type { CallStats, ListenerStats } from './call-stats.ts';
import { addCertificates, type MeasuredCertificate } from './certificate-metrics.ts';
import { CounterMemory, lineLabels, type Series } from './counter-memory.ts';
import { DurationHistogram } from './duration-histogram.ts';
import { addFindings, type MeasuredFinding } from './finding-metrics.ts';
import {
  CONNECT_FAILURES,
  KNOWN_STATUSES,
  type KnownCalls,
  type KnownSeries,
  MAX_KNOWN_ENDPOINTS,
} from './known-series.ts';
import { addLlm, type MeasuredLlm } from './llm-metrics.ts';
import { processMetrics } from './process-metrics.ts';
import { addResilience, type MeasuredOutliers, type ResilienceSource } from './resilience-metrics.ts';
import { type Labels, type Sample, SampledMetric } from './sampled-metric.ts';
import { AgentTasks, TASK_OUTCOMES, type TaskStats } from './task-stats.ts';
import type { SpanCounts } from './tracing/span-queue.ts';

/** The numbers of an endpoint. */
export interface MeasuredEndpoint {
  readonly address: string;
  /** Ended attempts, by the index of their gRPC status. */
  readonly attemptsByStatus: Float64Array;
  readonly pool: { readonly connectionCount: number };
}

/** The numbers of a cluster. */
interface MeasuredCluster {
  readonly name: string;
  readonly activeCalls: number;
  readonly retries: ReadonlyMap<string, number>;
  readonly hedges: ReadonlyMap<string, number>;
  readonly calls: CallStats;
  /** Failed connection attempts, by reason. */
  readonly connectFailures?: ReadonlyMap<string, number>;
  readonly endpoints: Iterable<MeasuredEndpoint>;
  /** Includes endpoints that were removed while calls ran there. */
  readonly toldEndpoints?: () => Iterable<MeasuredEndpoint>;
}

/** The sources of all numbers. Each scrape reads everything anew, so a reload need not call us. */
export interface MetricsSource extends Omit<ResilienceSource, 'clusters'> {
  readonly version: string;
  readonly ready: () => boolean;
  /** Whether the configuration file is refused while the last good one is in use. */
  readonly configRefused?: () => boolean;
  /** The writer of the log. */
  readonly logLines?: { readonly dropped: number };
  /** The findings of "Now"; a bounded list. */
  readonly findings?: () => Iterable<MeasuredFinding>;
  readonly listeners: readonly ListenerStats[];
  readonly clusters: () => Iterable<MeasuredCluster & MeasuredOutliers>;
  /** The cluster of the local app, whose calls are counted at the listener. */
  readonly app?: object;
  /** Whether there is an app. Without one there are no tasks to count. */
  readonly hasApp?: () => boolean;
  /** The series to show before their first event. */
  readonly known?: KnownSeries;
  readonly tasks: TaskStats;
  readonly certificates?: () => Iterable<MeasuredCertificate>;
  /** Repeated tasks, by what became of them. */
  readonly taskStore: { readonly joined: number; readonly replayed: number; readonly refused: number };
  /** Undefined without an LLM egress. */
  readonly llm?: MeasuredLlm;
  /** Undefined when tracing is off. */
  readonly tracing?: { readonly counts: SpanCounts; readonly waiting: () => number } | undefined;
}

/** All metrics. They hold no numbers of their own, so the first scrape may create them. */
export function createMetrics(source: MetricsSource): readonly SampledMetric[] {
  const metrics: SampledMetric[] = [];
  const add: AddMetric = (type, name, help, read) =>
    void metrics.push(new SampledMetric(type, name, help, read));
  const versionLabels = { version: source.version };
  add('gauge', 'outrigger_build_info', 'The version that runs; always 1.', () => [
    { labels: versionLabels, value: 1 },
  ]);
  add('gauge', 'outrigger_ready', 'Whether the sidecar is ready for calls: 1 or 0.', () => [
    { labels: {}, value: source.ready() ? 1 : 0 },
  ]);
  add(
    'gauge',
    'outrigger_config_refused',
    'Whether the configuration file is refused and the last good one in use: 1 or 0.',
    () => [{ labels: {}, value: source.configRefused?.() === true ? 1 : 0 }],
  );
  const { logLines } = source;
  if (logLines !== undefined)
    add(
      'counter',
      'outrigger_log_lines_dropped_total',
      'Lines of the log, the access log included, that were dropped because nobody read them.',
      () => [{ labels: {}, value: logLines.dropped }],
    );
  if (source.findings !== undefined) addFindings(add, source.findings);
  addCalls(add, source);
  addActive(add, source);
  addAttempts(add, source);
  addResilience(add, source);
  addTasks(add, source);
  addRepeatedTasks(add, source.taskStore);
  if (source.llm !== undefined) addLlm(add, source.llm, source.known?.models);
  if (source.tracing !== undefined) addSpans(add, source.tracing);
  if (source.certificates !== undefined) addCertificates(add, source.certificates);
  return [...metrics, ...processMetrics()];
}

/** The listener whose calls the local app serves. */
const INBOUND = 'inbound';
const GRPC_LISTENERS: readonly string[] = [INBOUND, 'outbound'];
/** The reasons of refused connections and streams, besides connection errors. */
const NO_CONNECTION = ['too_many_connections'];
const NO_PLACE = [...NO_CONNECTION, 'too_many_streams'];
/** For calls without a route, or without one yet. To Prometheus, an empty label is no label. */
const NO_CLUSTER = '';

type AddMetric = (
  type: SampledMetric['type'],
  name: string,
  help: string,
  read: () => Iterable<Sample>,
) => void;

function addCalls(add: AddMetric, { app, hasApp, clusters, known, listeners }: MetricsSource): void {
  const server = new DurationHistogram([], () =>
    listeners
      .filter(({ name }) => name === INBOUND)
      .map(({ calls }) => ({ calls, labelValues: [], servesTasks: hasApp?.() ?? true })),
  );
  add(
    'histogram',
    'rpc_server_call_duration_seconds',
    'How long calls to the local app took, as their callers saw it.',
    () => server.read(),
  );
  const client = new DurationHistogram(['cluster'], () => {
    const sources: KnownCalls[] = [];
    for (const cluster of clusters()) {
      if (cluster === app) continue;
      sources.push({ calls: cluster.calls, labelValues: [cluster.name], servesTasks: true });
    }
    // Calls that reached no cluster.
    for (const { calls, name } of listeners)
      if (name !== INBOUND) sources.push({ calls, labelValues: [NO_CLUSTER], servesTasks: false });
    return sources;
  });
  add(
    'histogram',
    'rpc_client_call_duration_seconds',
    'How long calls to a cluster took, with all their attempts.',
    () => client.read(),
  );
  const reasonsOf = (listener: string): readonly string[] =>
    known === undefined
      ? []
      : GRPC_LISTENERS.includes(listener)
        ? [...known.reasons, ...NO_PLACE]
        : NO_CONNECTION;
  const rejected = new CounterMemory(['listener', 'reason'], 1, addNamedCount('reason'));
  add(
    'counter',
    'outrigger_rejected_total',
    'Calls and connections the sidecar answered itself, by outrigger-reason or error.',
    () =>
      totals(
        rejected.collect((found) => {
          for (const { name, rejected } of listeners)
            for (const reason of new Set([...reasonsOf(name), ...rejected.keys()]))
              found(rejected, name, reason);
        }),
      ),
  );
}

/**
 * A call in flight counts at its listener and at its cluster, under one name with one of two labels. Prometheus treats
 * an absent label and an empty one alike, so `{listener!=""}` selects the one kind.
 */
function addActive(add: AddMetric, { listeners, clusters }: MetricsSource): void {
  add(
    'gauge',
    'outrigger_active_calls',
    'Calls in flight: with the label listener from callers, with the label cluster to endpoints.',
    () => {
      const samples: Sample[] = [];
      for (const { name, activeCalls } of listeners)
        samples.push({ labels: { listener: name }, value: activeCalls });
      return samples.concat(byCluster(clusters(), (cluster) => cluster.activeCalls));
    },
  );
  add(
    'gauge',
    'outrigger_queued_calls',
    'Of the active calls of a listener, those that wait for a place.',
    () => listeners.map(({ name, queuedCalls }) => ({ labels: { listener: name }, value: queuedCalls })),
  );
  add('gauge', 'outrigger_concurrency_limit', 'How many calls a listener lets run at once now.', () =>
    listeners
      .filter(({ concurrencyLimit }) => concurrencyLimit !== Number.POSITIVE_INFINITY)
      .map(({ name, concurrencyLimit }) => ({ labels: { listener: name }, value: concurrencyLimit })),
  );
  add(
    'gauge',
    'outrigger_active_connections',
    'Open connections: with the label listener from callers, with the label cluster to endpoints.',
    () => {
      const samples: Sample[] = [];
      for (const { name, activeConnections } of listeners)
        samples.push({ labels: { listener: name }, value: activeConnections });
      return samples.concat(byCluster(clusters(), connectionsOf));
    },
  );
}

function endpointsOf(cluster: MeasuredCluster): Iterable<MeasuredEndpoint> {
  return cluster.toldEndpoints?.() ?? cluster.endpoints;
}

function connectionsOf(cluster: MeasuredCluster): number {
  let connections = 0;
  for (const { pool } of endpointsOf(cluster)) connections += pool.connectionCount;
  return connections;
}

/**
 * Sums clusters of one name (the app's cluster is `app`, and an outbound one may have that name too): a line may appear
 * only once.
 */
function byCluster(
  clusters: Iterable<MeasuredCluster>,
  value: (cluster: MeasuredCluster) => number,
): Sample[] {
  const values = new Map<string, number>();
  for (const cluster of clusters) values.set(cluster.name, (values.get(cluster.name) ?? 0) + value(cluster));
  return Array.from(values, ([cluster, value]) => ({ labels: { cluster }, value }));
}

/** Shown from the first scrape on, so that the first event of each shows as an increase. */
const HEDGE_OUTCOMES = ['sent', 'won', 'budget_exhausted'];
const RETRY_OUTCOMES = ['retried', 'success', 'budget_exhausted', 'not_safe', 'deadline'];

function addAttempts(add: AddMetric, { clusters }: MetricsSource): void {
  const attempts = new CounterMemory<Float64Array>(['cluster', 'endpoint'], 17, addNumbers);
  add('counter', 'outrigger_attempts_total', 'Attempts that ended, by endpoint and gRPC status.', () => {
    const series = attempts.collect((found) => {
      for (const cluster of clusters())
        for (const { address, attemptsByStatus } of endpointsOf(cluster))
          found(attemptsByStatus, cluster.name, address);
    });
    return codes(series);
  });
  addOutcomes(add, clusters, ({ retries }) => retries, {
    name: 'outrigger_retries_total',
    help: 'Attempts that followed a failed one, those that got the answer, and decisions not to try again.',
    outcomes: RETRY_OUTCOMES,
  });
  addOutcomes(add, clusters, ({ hedges }) => hedges, {
    name: 'outrigger_hedges_total',
    help: 'Attempts that were sent beside one that was slow, and what came of them.',
    outcomes: HEDGE_OUTCOMES,
  });
  const failures = ({ connectFailures = NONE }: MeasuredCluster) => connectFailures;
  addOutcomes(add, clusters, failures, {
    name: 'outrigger_connect_failures_total',
    help: 'Connections to endpoints that were not made, by reason.',
    outcomes: CONNECT_FAILURES,
    label: 'reason',
  });
}

const NONE: ReadonlyMap<string, number> = new Map();

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

function addTasks(add: AddMetric, { known, tasks: { agents } }: MetricsSource): void {
  /** Includes this sidecar's agent from the first scrape on. */
  const allAgents = (): AgentTasks[] => {
    const name = known?.agent();
    const all = [...agents.values()];
    if (name !== undefined && !agents.has(name)) all.push(new AgentTasks(name));
    return all;
  };
  add('counter', 'outrigger_tasks_total', 'Tasks that ended, by the status in their answer.', () =>
    Array.from(allAgents(), ({ agent, byOutcome }) =>
      TASK_OUTCOMES.map((status, i) => ({ labels: { agent, status }, value: byOutcome[i]! })),
    ).flat(),
  );
  const uses: Record<string, (tasks: AgentTasks) => number> = {
    useful: (tasks) => tasks.usefulTokens,
    wasted: (tasks) => tasks.wastedTokens,
  };
  add(
    'counter',
    'outrigger_tokens_total',
    'Tokens that tasks used: useful when the caller got the answer, wasted when nobody did.',
    () =>
      Array.from(allAgents(), (tasks) =>
        Object.entries(uses).map(([use, value]) => ({
          labels: { agent: tasks.agent, use },
          value: value(tasks),
        })),
      ).flat(),
  );
}

function addRepeatedTasks(add: AddMetric, store: MetricsSource['taskStore']): void {
  add('counter', 'outrigger_tasks_deduplicated_total', 'Tasks that came again and were not run again.', () =>
    (['joined', 'replayed', 'refused'] as const).map((outcome) => ({
      labels: { outcome },
      value: store[outcome],
    })),
  );
}

function addSpans(add: AddMetric, { counts, waiting }: NonNullable<MetricsSource['tracing']>): void {
  add(
    'counter',
    'outrigger_spans_total',
    'Spans by what became of them on their way to the collector.',
    () => [
      { labels: { outcome: 'exported' }, value: counts.exported },
      { labels: { outcome: 'dropped' }, value: counts.droppedQueueFull },
      { labels: { outcome: 'failed' }, value: counts.failed },
      { labels: { outcome: 'rejected' }, value: counts.rejected },
    ],
  );
  add(
    'gauge',
    'outrigger_spans_waiting',
    'Spans that no collector has taken yet, those under way included.',
    () => [{ labels: {}, value: waiting() }],
  );
}

function addNumbers(numbers: Float64Array, totals: Float64Array): void {
  for (let i = 0; i < numbers.length; i++) totals[i]! += numbers[i]!;
}

/** Adds counts by name; the name is the value of a label. */
function addNamedCount(label: string) {
  return (counts: ReadonlyMap<string, number>, totals: Float64Array, labels: Labels): void => {
    totals[0]! += counts.get(String(labels[label])) ?? 0;
  };
}

function* totals(series: Iterable<Series<unknown>>): Generator<Sample> {
  for (const { labels, totals } of series) yield { labels, value: totals[0]! };
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
