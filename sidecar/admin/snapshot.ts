/** The pages `/clusters` and `/stats`: the sidecar's state as plain values. */
import { decayedRtt } from '../cluster/balancer/rtt.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { EndpointCheck } from '../cluster/health/active-health.ts';
import type { Sidecar } from '../data-plane/sidecar.ts';
import { statusName } from '../grpc/status.ts';
import type { CircuitBreaker } from '../policy/circuit-breaker.ts';
import { describeCause } from '../policy/circuit-state.ts';
import { conditionOf } from '../policy/now/endpoints.ts';
import type { ClusterWithPolicies } from '../proxy/cluster-policies.ts';
import type { CallStats, ListenerStats } from '../telemetry/call-stats.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import type { Credentials } from '../tls/credentials.ts';
import { journalSnapshot } from './journal-snapshot.ts';
import { llmSnapshot } from './llm-snapshot.ts';
import { mcpSnapshot } from './mcp-snapshot.ts';
import type { MeasuredAgentType } from './metrics/metrics-source.ts';
import { endpointFacts } from './now-facts.ts';
import { waitsAt } from './waits.ts';

const RECENT_MS = 60_000;

/** `/clusters`: every endpoint with its state and the reason, as plain values with the names of the admin API. */
export function clustersSnapshot(sidecar: Sidecar) {
  const nowMs = sidecar.clock();
  const { app } = sidecar.inbound;
  const clusters = [[app.name, app] as const, ...sidecar.outbound.clusters.serving()];
  return Object.fromEntries(
    clusters.map(([name, cluster]) => [name, clusterSnapshot(cluster, nowMs)] as const),
  );
}

function circuitSnapshot(breaker: CircuitBreaker, nowMs: number) {
  const { state, cause, rejections, halfOpenAtMs, probesInFlight } = breaker;
  return {
    state: state.replace('_', '-'),
    because: state === 'closed' || cause === undefined ? '' : describeCause(cause),
    half_open_in_ms: state === 'open' ? Math.max(0, Math.round(halfOpenAtMs - nowMs)) : 0,
    probes: probesInFlight,
    rejections,
  };
}

export type ClusterSnapshot = ReturnType<typeof clusterSnapshot>;

function clusterSnapshot(cluster: ClusterWithPolicies, nowMs: number) {
  return {
    balancer: cluster.settings.balancer,
    active_calls: cluster.activeCalls,
    retries: Object.fromEntries(cluster.retries),
    connect_failures: Object.fromEntries(cluster.connectFailures),
    retries_running: cluster.policies.budget.running,
    circuits: Object.fromEntries(
      Array.from(cluster.policies.breakers.entries(), ([method, breaker]) => [
        method || '(other methods)',
        circuitSnapshot(breaker, nowMs),
      ]),
    ),
    endpoints: Array.from(cluster.servingEndpoints(), (endpoint) =>
      endpointSnapshot(cluster, endpoint, nowMs),
    ),
  };
}

function endpointSnapshot(cluster: ClusterWithPolicies, endpoint: Endpoint, nowMs: number) {
  const attempts: Record<string, number> = {};
  const waits = waitsAt(endpoint, nowMs);
  const { word, tone } = conditionOf(endpointFacts(cluster, endpoint, waits));
  endpoint.attemptsByStatus.forEach((count, status) => {
    if (count > 0) attempts[statusName(status)] = count;
  });
  return {
    address: endpoint.address,
    state: endpoint.pool.state,
    usable: endpoint.usable,
    condition: word,
    tone,
    because: endpoint.unusableBecause ?? '',
    service: endpoint.watched.state,
    ejections: endpoint.watched.ejections,
    ejected_for_ms: endpoint.watched.ejected
      ? Math.round(Math.min(endpoint.watched.ejectedUntilMs - nowMs, 1e9))
      : 0,
    health_check: checkSnapshot(cluster.health.of(endpoint), nowMs),
    active_calls: endpoint.activeCalls,
    pending_calls: endpoint.pool.pendingCount,
    connections: endpoint.pool.connectionCount,
    keepalive_ms: endpoint.pool.keepaliveTimeMs,
    latency_ms: expectedMs(endpoint, waits.longestMs, nowMs),
    p95_ms: recentP95(endpoint, nowMs),
    waiting_calls: waits.waiting,
    longest_wait_ms: Math.round(waits.longestMs),
    attempts,
  };
}

/**
 * The balancer's estimate decays while no answer arrives, so that the balancer tries the endpoint again. The page shows
 * at least the time that a call has already waited there, and no decay during that wait. Null while nothing is known.
 */
function expectedMs(endpoint: Endpoint, longestWaitMs: number, nowMs: number): number | null {
  const waitMs = Math.round(longestWaitMs * 10) / 10;
  if (endpoint.rttMs === 0) return waitMs > 0 ? waitMs : null;
  const decayedMs = decayedRtt(endpoint, nowMs - longestWaitMs);
  return Math.max(Math.round(decayedMs * 10) / 10, waitMs);
}

/** Of the answers of the last minute that the outlier detector keeps anyway, 64 of each method; null without one. */
function recentP95({ watched }: Endpoint, nowMs: number): number | null {
  const recent: number[] = [];
  for (const track of watched.latency) {
    if (track === undefined) continue;
    const { samplesMs, sampleStartedAtMs } = track;
    for (let i = 0; i < Math.min(track.samples, samplesMs.length); i++)
      if (sampleStartedAtMs[i]! + samplesMs[i]! > nowMs - RECENT_MS) recent.push(samplesMs[i]!);
  }
  if (recent.length === 0) return null;
  recent.sort((one, other) => one - other);
  return Math.round(recent[Math.ceil(recent.length * 0.95) - 1]! * 10) / 10;
}

/** Null when the cluster has no health checks. */
function checkSnapshot(check: EndpointCheck | undefined, nowMs: number) {
  if (check === undefined) return null;
  const { state, detail, checkedAtMs } = check;
  const checked = checkedAtMs > Number.NEGATIVE_INFINITY;
  return { state, because: detail, checked_ms_ago: checked ? Math.round(nowMs - checkedAtMs) : null };
}

/** `/stats`: the listeners' counters. */
export function statsSnapshot(sidecar: Sidecar) {
  const { inbound, outbound } = sidecar;
  return {
    name: sidecar.config.name,
    version: sidecar.config.version,
    outrigger_version: outriggerVersion(),
    state: sidecar.state,
    not_ready_because: sidecar.notReadyBecause ?? '',
    app: {
      address: sidecar.config.inbound.app,
      state: inbound.appHealth.state,
      version: sidecar.config.version,
    },
    listeners: {
      inbound: { address: sidecar.inboundAddress, ...listenerSnapshot(inbound.stats, inbound.stats.calls) },
      outbound: {
        address: sidecar.outboundAddress,
        ...listenerSnapshot(outbound.stats, outbound.stats.calls),
      },
    },
    clusters: Object.fromEntries(
      Array.from(outbound.clusters.serving(), ([name, cluster]) => [name, methodsSnapshot(cluster.calls)]),
    ),
    agent_types: Object.fromEntries(Array.from(inbound.context.admissions!.agentTypes, agentTypeSnapshot)),
    tasks_once: tasksSnapshot(sidecar),
    llm: llmSnapshot(sidecar),
    mcp: mcpSnapshot(sidecar),
    journal: journalSnapshot(sidecar),
    certificates: Object.fromEntries(Array.from(sidecar.credentials(), certificateSnapshot)),
    memory: memorySnapshot(),
    uptime_s: Math.round(process.uptime()),
  };
}

/** The places of an agent that the app serves beside others. */
function agentTypeSnapshot({ agentType, active, queued, limit, refused }: MeasuredAgentType) {
  return [agentType, { active_calls: active, waiting_calls: queued, max_concurrent_calls: limit, refused }];
}

/** The stored tasks, and the repeated ones. */
function tasksSnapshot({ inbound }: Sidecar) {
  const { size, bytes, joined, replayed, refused } = inbound.taskRuns.store;
  return { kept: size, kept_bytes: bytes, joined, replayed, refused };
}

/** Names and dates; never a key, and no other content of the files. */
function certificateSnapshot({ where, material, problem }: Credentials) {
  const expiresAtMs = material?.expiresAtMs ?? Number.POSITIVE_INFINITY;
  return [
    where,
    {
      identities: material?.identities ?? [],
      expires: Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : null,
      problem,
    },
  ];
}

function listenerSnapshot(stats: ListenerStats, calls: CallStats) {
  return {
    active_calls: stats.activeCalls,
    active_connections: stats.activeConnections,
    total_requests: stats.totalCalls,
    total_ok: stats.totalOk,
    total_errors: stats.totalErrors,
    total_refused: stats.totalRefused,
    error_rate: stats.totalCalls === 0 ? 0 : stats.totalErrors / stats.totalCalls,
    rejected: Object.fromEntries(stats.rejected),
    // Outbound: the calls that reached no cluster.
    methods: methodsSnapshot(calls),
  };
}

function methodsSnapshot(calls: CallStats) {
  const methods: Record<string, Record<string, { count: number; mean_ms: number }>> = {};
  for (const stats of calls.methods.values()) {
    const byStatus: Record<string, { count: number; mean_ms: number }> = {};
    stats.byStatus.forEach((durations, status) => {
      if (durations === undefined) return;
      const meanMs = (durations.sumSeconds / durations.count) * 1000;
      byStatus[statusName(status)] = { count: durations.count, mean_ms: Math.round(meanMs * 100) / 100 };
    });
    methods[stats.method] = byStatus;
  }
  return methods;
}

function memorySnapshot() {
  const { rss, heapUsed, external } = process.memoryUsage();
  return { resident_bytes: rss, heap_used_bytes: heapUsed, external_bytes: external };
}
