/** What a caller's proxy does with the pods of one cluster: balancing, pool, budget, ejection, TLS. */
import type { ClusterConfig, Config } from '../config/config.ts';
import type { Destination } from './destination.ts';
import {
  durationOf,
  type Fields,
  type Note,
  note,
  notesOf,
  type Resource,
  resource,
  spoken,
} from './resource.ts';

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

interface Part {
  readonly fields: Fields | undefined;
  /** Their paths begin at the part. */
  readonly notes: readonly Note[];
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

function outlierDetection(cluster: ClusterConfig): Part {
  const settings = cluster.outlierDetection;
  const { consecutiveFailures: failures, maxEjectionPercent } = settings;
  const rates =
    'outlier_detection: the sidecar also ejects by failure rate and by latency, for which Istio has no setting: a pod that fails every other call, or is ten times slower than its peers, stays in.';
  if (failures === 0 || maxEjectionPercent === 0) {
    const which = failures === 0 ? 'consecutive_failures' : 'max_ejection_percent';
    return {
      fields: undefined,
      notes: [note('', `outlier_detection.${which} 0: no outlierDetection.`), note('', rates)],
    };
  }
  const fields = {
    consecutiveGatewayErrors: failures,
    consecutive5xxErrors: 0,
    splitExternalLocalOriginErrors: true,
    consecutiveLocalOriginFailures: failures,
    interval: durationOf(settings.intervalMs),
    baseEjectionTime: durationOf(settings.baseEjectionTimeMs),
    maxEjectionPercent: Math.max(1, Math.round(maxEjectionPercent)),
    minHealthPercent: 0,
  };
  // Envoy's own, which Istio does not change.
  const longestMs = Math.max(300_000, settings.baseEjectionTimeMs);
  const notes = notesOf(
    note('', rates),
    note(
      'consecutiveGatewayErrors',
      'outlier_detection.consecutive_failures, for UNAVAILABLE and DEADLINE_EXCEEDED, and only where grpc-status comes without a message before it. A status in trailers, behind a message, counts as success: so each failed stream.',
    ),
    cluster.task.statusIsVerdict &&
      note(
        'consecutiveGatewayErrors',
        'task.status_is_verdict: OK with TaskResponse.status FAILED or TIMEOUT is a success to Istio.',
      ),
    note(
      'consecutive5xxErrors',
      '0: off. It would see INTERNAL, UNKNOWN and DATA_LOSS, but UNIMPLEMENTED as well, and eject a pod that answers rightly.',
    ),
    note('consecutiveLocalOriginFailures', 'No connection, resets and timeouts, counted apart from answers.'),
    note(
      'interval',
      'outlier_detection.interval: how often Istio looks for pods to bring back, so an ejection lasts up to that much longer. They come back with their whole share of calls, without probation.',
    ),
    settings.maxEjectionTimeMs !== longestMs &&
      note(
        'baseEjectionTime',
        `outlier_detection.max_ejection_time ${spoken(settings.maxEjectionTimeMs)}: Istio has no setting for it; Envoy's is ${spoken(longestMs)}.`,
      ),
    maxEjectionPercent === 100 &&
      note(
        'maxEjectionPercent',
        'The sidecar never ejects the last pod, whatever the percentage; here all can be out, and calls then fail at once.',
      ),
    note('minHealthPercent', '0: no panic mode. Ejected pods stay out even when few are left.'),
  );
  return { fields, notes };
}

function breakerNotes({ circuitBreaker: breaker }: ClusterConfig): Note[] {
  const rules = [
    breaker.consecutiveFailures > 0 ? [`${breaker.consecutiveFailures} failures in a row`] : [],
    breaker.failurePercent > 0
      ? [`${breaker.failurePercent} % of ${breaker.minCalls} or more calls in ${spoken(breaker.windowMs)}`]
      : [],
  ].flat();
  if (rules.length === 0) return [];
  const after = `half-open after ${spoken(breaker.recoveryTimeoutMs)} for ${breaker.halfOpenMax} probes`;
  return [
    note(
      'trafficPolicy',
      `circuit_breaker (open after ${rules.join(' or ')}, ${after}): Istio has none. What it calls a circuit breaker are the limits of connectionPool; outlierDetection knows pods, not cluster and method, and no half-open state.`,
    ),
  ];
}

function clientTls({ tls }: ClusterConfig, destination: Destination): Part {
  if (destination.kind === 'service') {
    const says =
      tls === undefined
        ? 'tls: none in the configuration; Istio brings mutual TLS all the same.'
        : "tls: the sidecar's files are not used; certificates are Istio's own. server_name and allow_identities: the callee must have the service account that its pods have, as Istio finds out by itself.";
    return { fields: { mode: 'ISTIO_MUTUAL' }, notes: [note('mode', says)] };
  }
  if (tls === undefined) {
    const says = 'tls: none in the configuration, and outside the mesh there is none by itself.';
    return { fields: { mode: 'DISABLE' }, notes: [note('mode', says)] };
  }
  const mutual = tls.cert !== undefined;
  const patterns = tls.allowIdentities.filter((name) => name.includes('*'));
  const names = tls.allowIdentities.filter((name) => !name.includes('*'));
  if (tls.allowIdentities.length === 0 && tls.serverName !== undefined) names.push(tls.serverName);
  return {
    fields: {
      mode: mutual ? 'MUTUAL' : 'SIMPLE',
      clientCertificate: tls.cert,
      privateKey: tls.key,
      caCertificates: tls.ca,
      sni: tls.serverName ?? (destination.addresses === undefined ? destination.host : undefined),
      subjectAltNames: names.length === 0 ? undefined : names,
    },
    notes: notesOf(
      (mutual || tls.ca !== undefined) &&
        note(
          'mode',
          "The files must be in the caller's istio-proxy container: sidecar.istio.io/userVolumeMount brings them there.",
        ),
      patterns.length > 0 &&
        note(
          'mode',
          `tls.allow_identities ${patterns.join(', ')}: subjectAltNames takes no patterns; left out.`,
        ),
    ),
  };
}
