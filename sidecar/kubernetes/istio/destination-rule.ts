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
    notes.map(({ at, says }) => ({ at: ['spec', 'trafficPolicy', name, ...at.slice(1)], says })),
  );
  const notEjected =
    ejection.fields === undefined ? ejection.notes.map(({ says }) => note('trafficPolicy', says)) : [];
  return resource('DestinationRule', destination, spec, [
    ...notesOf(
      destination.kind === 'service' && destination.because !== '' && note('host', destination.because),
      destination.kind === 'service' &&
        note(
          'host',
          cluster.kubernetes === undefined
            ? 'dns_refresh: no names are looked up; istiod tells of pods when they come and go.'
            : 'kubernetes: istiod watches the EndpointSlices. kubernetes.port: the one port that the Service has.',
        ),
      cluster.healthCheck.intervalMs > 0 &&
        note(
          'trafficPolicy',
          'health_check: Istio asks no pod for its health; readiness probes take one out of the Service.',
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
          'balancer peak_ewma: Istio has no balancer that knows latency. LEAST_REQUEST compares the calls in flight of two pods, so a slow pod gets fewer only while its calls pile up.',
        ),
      balancer === 'ring_hash' &&
        note(
          'simple',
          'balancer ring_hash: the task id is in the message, which Istio does not read. Where callers also put it in a header, use consistentHash: { httpHeaderName: NAME } instead.',
        ),
      byZone
        ? note(
            'zoneAwareLbSetting',
            'kubernetes.zone_preference: Istio 1.31, from six pods on, not in ambient mode, and only with ISTIO_META_ENABLE_SELF_DISCOVERY in the proxyMetadata of callers; otherwise zones play no part. kubernetes.zone: the proxy knows its own.',
          )
        : note(
            'localityLbSetting',
            'Off, or ejection would switch on failover by locality, and with it all calls of a zone would go to the one pod in it.',
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
      `limits.max_connections ${limits.maxConnections}: no maxConnections. Istio counts all pods together, and calls above it fail instead of sharing a connection; Envoy keeps one HTTP/2 connection for each pod and worker.`,
    ),
    note('tcp.connectTimeout', 'connect_timeout: here without the first SETTINGS.'),
    inbound.keepalive.maxConnectionAgeMs > 0 &&
      note(
        'tcp.maxConnectionDuration',
        'inbound.keepalive.max_connection_age: here the caller lets go of the connection, not the callee.',
      ),
    note(
      'http.http2MaxRequests',
      'The port speaks HTTP/2 by its appProtocol: grpc; h2UpgradePolicy is for HTTP/1.1 and not wanted.',
    ),
    note(
      'http.http2MaxRequests',
      'limits: what is above them fails with UNAVAILABLE, and Istio says neither why nor when to come again.',
    ),
    limits.maxPendingCalls === 0 &&
      note(
        'http.http1MaxPendingRequests',
        'limits.max_pending_calls 0: 1 is the least; 0 means no limit to Istio.',
      ),
    keep &&
      note(
        'http.http2KeepAlive',
        'keepalive: a PING each interval, silent or not. Istio 1.31 or newer; older ones know only tcpKeepalive, which a hung process answers.',
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
      note('', 'retry.budget: Istio 1.28 or newer. Retries of what was never sent count here, too.'),
      budget.minConcurrent === 0 &&
        note('minRetryConcurrency', 'retry.budget.min_concurrent 0: 1 is the least; Istio makes 3 of 0.'),
    ),
  };
}
