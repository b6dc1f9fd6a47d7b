/** Builds the DestinationRule of a cluster: balancing, connection pool, retry budget, ejection, TLS. */
import type { ClusterConfig, Config } from '../../config/config.ts';
import { clientTls } from './client-tls.ts';
import type { Destination } from './destination.ts';
import { breakerNotes, outlierDetection } from './outlier-detection.ts';
import { durationOf, note, notesOf, type Part, type Resource, resource } from './resource.ts';

export function destinationRule(config: Config, cluster: ClusterConfig, destination: Destination): Resource {
  const pool = connectionPool(config, cluster);
  const ejection = outlierDetection(cluster);
  const balancing = loadBalancer(cluster);
  const budget = retryBudget(cluster);
  const security = clientTls(cluster, destination);
  const spec = {
    host: destination.host,
    trafficPolicy: {
      loadBalancer: balancing.fields,
      connectionPool: pool.fields,
      retryBudget: budget.fields,
      outlierDetection: ejection.fields,
      tls: security.fields,
    },
  };
  const parts = {
    loadBalancer: balancing,
    connectionPool: pool,
    retryBudget: budget,
    outlierDetection: ejection,
  };
  const notes = Object.entries({ ...parts, tls: security }).flatMap(([name, { notes }]) =>
    notes.map(({ at, text }) => ({ at: ['spec', 'trafficPolicy', name, ...at.slice(1)], text })),
  );
  const notEjected =
    ejection.fields === undefined ? ejection.notes.map(({ text }) => note('trafficPolicy', text)) : [];
  return resource('DestinationRule', destination, spec, [
    ...notesOf(
      destination.kind === 'service' && destination.because !== '' && note('host', destination.because),
      destination.kind === 'service' &&
        note(
          'host',
          cluster.kubernetes === undefined
            ? 'dns_refresh: the proxy resolves no names; istiod sends it each change of the pods.'
            : 'kubernetes: istiod watches the EndpointSlices. kubernetes.port: the one port that the Service has.',
        ),
      cluster.healthCheck.intervalMs > 0 &&
        note(
          'trafficPolicy',
          'health_check: Istio sends pods no health checks; a failed readiness probe removes a pod from the Service.',
        ),
    ),
    ...notEjected,
    ...breakerNotes(cluster),
    ...(ejection.fields === undefined ? notes.filter(({ at }) => at[2] !== 'outlierDetection') : notes),
  ]);
}

function loadBalancer({ balancer, kubernetes }: ClusterConfig): Part {
  const simple = balancer === 'round_robin' ? 'ROUND_ROBIN' : 'LEAST_REQUEST';
  const byZone = kubernetes?.zonePreference ?? false;
  return {
    fields: byZone
      ? { simple, zoneAwareLbSetting: { enabled: true } }
      : { simple, localityLbSetting: { enabled: false } },
    notes: notesOf(
      balancer === 'peak_ewma' &&
        note(
          'simple',
          'balancer peak_ewma: Istio has no balancer that considers latency. LEAST_REQUEST compares the calls in flight of two pods, so a slow pod gets fewer only while its calls pile up.',
        ),
      balancer === 'ring_hash' &&
        note(
          'simple',
          'balancer ring_hash: the task id is in the message, which Istio does not read. Where callers also put it in a header, use consistentHash: { httpHeaderName: NAME } instead.',
        ),
      byZone
        ? note(
            'zoneAwareLbSetting',
            'kubernetes.zone_preference: Istio 1.31, from six pods on, not in ambient mode, and only with ISTIO_META_ENABLE_SELF_DISCOVERY in the proxyMetadata of callers; otherwise Istio ignores zones. kubernetes.zone: the proxy detects its own.',
          )
        : note(
            'localityLbSetting',
            'Off, because ejection would otherwise turn on failover by locality, which sends all calls of a zone to the only pod in it.',
          ),
    ),
  };
}

function connectionPool({ inbound }: Config, cluster: ClusterConfig): Part {
  const { limits, keepalive } = cluster;
  const keep = keepalive.timeMs > 0;
  const fields = {
    tcp: {
      connectTimeout: durationOf(cluster.connectTimeoutMs),
      maxConnectionDuration: durationOf(inbound.keepalive.maxConnectionAgeMs),
    },
    http: {
      http2MaxRequests: limits.maxConcurrentCalls,
      http1MaxPendingRequests: Math.max(1, limits.maxPendingCalls),
      http2KeepAlive: keep
        ? { interval: durationOf(keepalive.timeMs), timeout: durationOf(keepalive.timeoutMs) }
        : undefined,
    },
  };
  const notes = notesOf(
    note(
      'tcp.connectTimeout',
      `limits.max_connections ${limits.maxConnections}: no maxConnections. Istio counts the connections to all pods together, and calls above the limit fail instead of sharing a connection; Envoy keeps one HTTP/2 connection for each pod and worker.`,
    ),
    note(
      'tcp.connectTimeout',
      'connect_timeout: in Istio it does not include the wait for the first SETTINGS frame.',
    ),
    inbound.keepalive.maxConnectionAgeMs > 0 &&
      note(
        'tcp.maxConnectionDuration',
        'inbound.keepalive.max_connection_age: in Istio the caller closes the connection, not the callee.',
      ),
    note(
      'http.http2MaxRequests',
      "The Service's appProtocol: grpc selects HTTP/2; h2UpgradePolicy is for HTTP/1.1 and not needed.",
    ),
    note(
      'http.http2MaxRequests',
      'limits: calls above them fail with UNAVAILABLE; Istio gives neither a reason nor a time to retry.',
    ),
    limits.maxPendingCalls === 0 &&
      note(
        'http.http1MaxPendingRequests',
        'limits.max_pending_calls 0: 1 is the minimum, because 0 means no limit in Istio.',
      ),
    keep &&
      note(
        'http.http2KeepAlive',
        'keepalive: the proxy sends a PING each interval, also on a busy connection. Istio 1.31 or newer; older versions have only tcpKeepalive, which a hung process answers.',
      ),
    !keep && note('http', 'keepalive.time 0s: no http2KeepAlive.'),
  );
  return { fields, notes };
}

function retryBudget({ retry: { budget } }: ClusterConfig): Part {
  return {
    fields: {
      percent: budget.percent,
      minRetryConcurrency: Math.max(1, budget.minConcurrent),
      budgetInterval: '10s',
    },
    notes: notesOf(
      note('', 'retry.budget: Istio 1.28 or newer. Retries of requests that no pod received count, too.'),
      budget.minConcurrent === 0 &&
        note(
          'minRetryConcurrency',
          'retry.budget.min_concurrent 0: 1 is the minimum; Istio replaces 0 with 3.',
        ),
    ),
  };
}
