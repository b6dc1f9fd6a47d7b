/** Metrics of calls: their durations, those in flight, and those that the sidecar answered itself. */
import { addNamedCount, CounterMemory, totals } from './counter-memory.ts';
import { DurationHistogram } from './duration-histogram.ts';
import type { KnownCalls } from './known-series.ts';
import type { MeasuredCluster, MetricsSource } from './metrics-source.ts';
import type { AddMetric, Sample } from './sampled-metric.ts';

/** The listener whose calls the local app serves. */
const INBOUND = 'inbound';
const GRPC_LISTENERS: readonly string[] = [INBOUND, 'outbound'];
/** The reasons of refused connections and streams, besides connection errors. */
const NO_CONNECTION = ['too_many_connections'];
const NO_PLACE = [...NO_CONNECTION, 'too_many_streams'];
/** For calls without a route, or without one yet. To Prometheus, an empty label is no label. */
const NO_CLUSTER = '';

export function addCalls(add: AddMetric, { app, hasApp, clusters, known, listeners }: MetricsSource): void {
  const server = new DurationHistogram([], () =>
    listeners
      .filter(({ name }) => name === INBOUND)
      .map(({ calls }) => ({ calls, labelValues: [], servesTasks: hasApp?.() ?? true })),
  );
  add(
    'histogram',
    'rpc_server_call_duration_seconds',
    'Duration of calls to the local app, as their callers measure it.',
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
    'Duration of calls to a cluster, with all their attempts.',
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
    'Calls and connections that the sidecar rejected, by outrigger-reason or error.',
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
export function addActive(add: AddMetric, { listeners, clusters }: MetricsSource): void {
  add(
    'gauge',
    'outrigger_active_calls',
    'Calls in flight: from callers with the label listener, to endpoints with the label cluster.',
    () => {
      const samples: Sample[] = [];
      for (const { name, activeCalls } of listeners)
        samples.push({ labels: { listener: name }, value: activeCalls });
      return samples.concat(byCluster(clusters(), (cluster) => cluster.activeCalls));
    },
  );
  add('gauge', 'outrigger_queued_calls', 'Active calls of a listener that wait for a place.', () =>
    listeners.map(({ name, queuedCalls }) => ({ labels: { listener: name }, value: queuedCalls })),
  );
  add('gauge', 'outrigger_concurrency_limit', 'The present limit of concurrent calls of a listener.', () =>
    listeners
      .filter(({ concurrencyLimit }) => concurrencyLimit !== Number.POSITIVE_INFINITY)
      .map(({ name, concurrencyLimit }) => ({ labels: { listener: name }, value: concurrencyLimit })),
  );
  add(
    'gauge',
    'outrigger_active_connections',
    'Open connections: from callers with the label listener, to endpoints with the label cluster.',
    () => {
      const samples: Sample[] = [];
      for (const { name, activeConnections } of listeners)
        samples.push({ labels: { listener: name }, value: activeConnections });
      return samples.concat(byCluster(clusters(), connectionsOf));
    },
  );
}

function connectionsOf(cluster: MeasuredCluster): number {
  let connections = 0;
  for (const { pool } of cluster.reportedEndpoints()) connections += pool.connectionCount;
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
