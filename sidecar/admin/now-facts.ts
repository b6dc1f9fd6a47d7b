/** Gathers the facts that `policy/now` judges, once a second, from counters that exist anyway. */
import type { Endpoint } from '../cluster/endpoint.ts';
import type { Sidecar } from '../data-plane/sidecar.ts';
import type { ModelState } from '../llm/provider/model-state.ts';
import type { ProviderRecord } from '../llm/provider/provider-record.ts';
import type { Upstream } from '../llm/provider/upstream.ts';
import { describeCause } from '../policy/circuit-state.ts';
import { describeModelFailure, parseModelFailure } from '../policy/model-failure.ts';
import type { CertificateFacts } from '../policy/now/certificates.ts';
import type { CircuitFacts, EndpointFacts } from '../policy/now/endpoints.ts';
import type { ClusterFacts, NowFacts } from '../policy/now/now.ts';
import type { ModelFacts, ProviderFacts, StreakFacts } from '../policy/now/providers.ts';
import { LongestWaits, type MethodFacts, NO_WAITS, type WaitFacts } from '../policy/now/waits.ts';
import { endOf } from '../proxy/call-accounting.ts';
import type { AnswerTimes, ClusterWithPolicies } from '../proxy/cluster-policies.ts';
import { modelFailureBehind } from '../proxy/model-failures.ts';
import type { CallStats } from '../telemetry/call-stats.ts';
import { countCalls } from '../telemetry/traffic-history.ts';
import type { Credentials } from '../tls/credentials.ts';
import { type SignRequests, waitsOf } from './waits.ts';

/** The endpoints examined of a cluster; the others belong to a very large Service and count as healthy. */
const MAX_ENDPOINTS = 1_000;
/** The requests of one model whose waits we examine, oldest first. */
const MAX_REQUESTS = 1_000;

/** @param signRequests when we sent each connection a sign-of-life request; the caller keeps it from one look to the next */
export function nowFacts(
  sidecar: Sidecar,
  signRequests: SignRequests,
  wallMs: number,
): Omit<NowFacts, 'mistakes'> {
  const { inbound, outbound, llm, state } = sidecar;
  const nowMs = sidecar.clock();
  const { app } = inbound;
  return {
    draining: state !== 'running' && state !== 'starting',
    notReadyBecause: sidecar.notReadyBecause ?? '',
    app: app.name,
    clusters: [
      // The app's own health shows whether it is present.
      clusterFacts(app.name, app, inbound.stats.calls, undefined, nowMs),
      ...Array.from(outbound.clusters.serving(), ([name, cluster]) =>
        clusterFacts(name, cluster, cluster.calls, name === cluster.name ? signRequests : undefined, nowMs),
      ),
    ],
    providers: (llm.egress?.upstreams ?? []).map((upstream) =>
      providerFacts(upstream, sidecar.config.llm.retry.maxRetryAfterMs, nowMs),
    ),
    toolServers: (sidecar.mcp.egress?.all ?? []).map(
      ({ name, breaker, lastError, failedInARow, failedAtMs }) => ({
        name,
        circuit: breaker.state.replace('_', '-'),
        rejections: breaker.rejections,
        lastFailure: lastError,
        failedInARow,
        failedAgoMs: nowMs - failedAtMs,
      }),
    ),
    certificates: Array.from(sidecar.credentials(), certificateFacts).flat(),
    keyFiles: [...(llm.egress?.keyFiles() ?? []), ...(sidecar.mcp.egress?.keyFiles() ?? [])],
    rejected: [inbound.stats, outbound.stats].map(({ name, rejected }) => [name, rejected]),
    waitForOwnLimits: llm.egress?.waitingForLimits ?? 0,
    bus: busFacts(sidecar),
    wallMs,
  };
}

function busFacts({ busSide: { bus } }: Sidecar): NowFacts['bus'] {
  const { view } = bus;
  return view && { problem: view.problem, dead: view.queues.map(({ agentType, dead }) => [agentType, dead]) };
}

function clusterFacts(
  name: string,
  cluster: ClusterWithPolicies,
  stats: CallStats,
  signRequests: SignRequests | undefined,
  nowMs: number,
): ClusterFacts {
  const { ofEndpoint, ofMethod } = waitsOf(cluster, nowMs, signRequests);
  const policies = cluster.policies;
  const circuits: CircuitFacts[] = [];
  let behind = '';
  for (const [method, breaker] of policies.breakers.entries()) {
    const failure = modelFailureBehind(breaker);
    const ofThis = failure === undefined ? '' : inWords(failure);
    behind ||= ofThis;
    const { state, cause } = breaker;
    if (state === 'closed') continue;
    circuits.push({
      method: method || '(other methods)',
      state: state.replace('_', '-'),
      because: cause === undefined ? '' : describeCause(cause),
      behind: ofThis,
    });
  }
  const methods: MethodFacts[] = [];
  // A task on the bus may wait for long, and takes as long as it takes.
  const hasUsualTimes = cluster.settings.bus === undefined;
  for (const method of hasUsualTimes ? new Set([...policies.followedMethods(), ...ofMethod.keys()]) : [])
    methods.push({
      method,
      waits: waitFacts(ofMethod.get(method) ?? NO_WAITS, policies.latenciesOf(method)),
    });
  return {
    name,
    endpoints: [...cluster.servingEndpoints()]
      .slice(0, MAX_ENDPOINTS)
      .map((endpoint) => endpointFacts(cluster, endpoint, ofEndpoint.get(endpoint) ?? NO_WAITS)),
    circuits,
    methods,
    unknownBecause: cluster.discoveryError,
    ...countCalls(stats, endOf),
    behind,
  };
}

function inWords(failure: string): string {
  const read = parseModelFailure(failure);
  return read === undefined ? '' : describeModelFailure(read).replace(/\.$/, '');
}

type Waits = Pick<LongestWaits, 'waiting' | 'longestMs' | 'thirdMs'>;

export function endpointFacts(cluster: ClusterWithPolicies, endpoint: Endpoint, waits: Waits): EndpointFacts {
  return {
    address: endpoint.address,
    usable: endpoint.usable,
    service: endpoint.watched.state,
    pool: endpoint.pool.state,
    because: endpoint.unusableBecause ?? '',
    absent: cluster.silence.isAbsent(endpoint),
    waiting: waits.waiting,
    longestMs: waits.longestMs,
  };
}

function waitFacts({ waiting, longestMs, thirdMs }: Waits, times: AnswerTimes | undefined): WaitFacts {
  const slowestMs = times?.at(100) ?? 0;
  return {
    waiting,
    longestMs,
    thirdMs,
    answers: times?.answers ?? 0,
    answersMs: times?.answersMs ?? 0,
    usual: { answers: slowestMs === 0 ? 0 : times!.count, slowestMs },
  };
}

function providerFacts(upstream: Upstream, longMs: number, nowMs: number): ProviderFacts {
  const { name, breaker, records, models } = upstream;
  return {
    name,
    circuit: breaker.state.replace('_', '-'),
    rejections: breaker.rejections,
    lastFailure: lastFailureOf(records.values()),
    models: Array.from(records.values(), (record) =>
      modelFacts(record, models.get(record.model), longMs, nowMs),
    ),
  };
}

/** The latest failure of any model, for a circuit that they share. */
function lastFailureOf(records: Iterable<ProviderRecord>): string {
  let latest: ProviderRecord | undefined;
  for (const record of records)
    if (record.kind === 'failed' && (latest === undefined || record.atMs > latest.atMs)) latest = record;
  return latest?.said ?? '';
}

/** @param longMs requests do not wait for a model that rests longer than this */
function modelFacts(
  record: ProviderRecord,
  state: ModelState | undefined,
  longMs: number,
  nowMs: number,
): ModelFacts {
  const restsForMs = Math.max((state?.restsUntilMs ?? 0) - nowMs, 0);
  // The quota that the provider has reported is used up, and requests wait for more.
  const quotaForMs =
    record.awaiting > 0 && state !== undefined ? Math.max(state.learned.freeAtMs(0, nowMs) - nowMs, 0) : 0;
  return {
    model: record.model,
    outOfCredit: state?.outOfCredit ?? null,
    restsForMs: Math.max(restsForMs, quotaForMs),
    restsBecause: restsForMs > 0 ? (state?.restsBecause ?? '') : 'its quota is used up',
    isWaitedFor: restsForMs <= longMs,
    awaiting: record.awaiting,
    goodAgoMs: nowMs - record.goodAtMs,
    streak: streakFacts(record, nowMs),
    waits: {
      ...requestWaits(record, nowMs),
      answers: record.answers,
      answersMs: record.answersMs,
      usual: record.usual,
    },
  };
}

function streakFacts({ kind, what, said, inARow, atMs, goodAtMs }: ProviderRecord, nowMs: number) {
  if (kind === undefined) return undefined;
  const streak: StreakFacts = { kind, what, said, inARow, agoMs: nowMs - atMs, goodAgoMs: nowMs - goodAtMs };
  return streak;
}

function requestWaits({ waiting }: ProviderRecord, nowMs: number): Waits {
  const waits = new LongestWaits();
  for (const { startedMs } of waiting) {
    if (waits.waiting >= MAX_REQUESTS) break;
    waits.add(nowMs - startedMs);
  }
  return { waiting: waiting.size, longestMs: waits.longestMs, thirdMs: waits.thirdMs };
}

function certificateFacts({ where, whereAuthorities, material, problem }: Credentials): CertificateFacts[] {
  const { expiresAtMs, validFromMs, authorities } = material ?? NO_CERTIFICATE;
  const inUse = material !== undefined;
  const own = { setting: where, expiresAtMs, expires: dateOf(expiresAtMs), validFromMs, problem, inUse };
  if (authorities === undefined) return [own];
  const expires = dateOf(authorities.expiresAtMs);
  const facts = { ...authorities, setting: whereAuthorities, expires, problem: '', inUse, isAuthority: true };
  return [own, facts];
}

const NO_CERTIFICATE = {
  expiresAtMs: Number.POSITIVE_INFINITY,
  validFromMs: Number.NEGATIVE_INFINITY,
  authorities: undefined,
};

function dateOf(atMs: number): string {
  return Number.isFinite(atMs) ? new Date(atMs).toISOString() : '';
}
