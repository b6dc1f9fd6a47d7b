/** The data of the dashboard, gathered once a second while a page is open; the history is gathered always. */
import { randomUUID } from 'node:crypto';
import type { Sidecar } from '../data-plane/sidecar.ts';
import type { LiveSource } from '../listeners/live-stream.ts';
import type { FailedCalls } from '../observers/failed-calls.ts';
import { endOf } from '../proxy/call-accounting.ts';
import type { ListenerStats } from '../telemetry/call-stats.ts';
import { LLM_BUCKETS } from '../telemetry/durations.ts';
import type { EventLog } from '../telemetry/events.ts';
import { LongHistory } from '../telemetry/long-history.ts';
import { countCalls, TrafficHistory, type TrafficSource } from '../telemetry/traffic-history.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import type { Configured } from './config-facts.ts';
import { journalSnapshot } from './journal-snapshot.ts';
import { llmSnapshot } from './llm-snapshot.ts';
import { mcpSnapshot } from './mcp-snapshot.ts';
import { NowWatch } from './now.ts';
import { type ClusterSnapshot, clustersSnapshot } from './snapshot.ts';
import { type StatusReader, statusPage } from './status-page.ts';
import { tasksSnapshot } from './tasks-snapshot.ts';

const SAMPLE_EVERY_MS = 1_000;
/** The samples of one point of the long history. */
const SAMPLES_PER_POINT = 5;
/** The endpoints shown of each cluster: a page with more helps no reader. Unusable ones come first. */
const MAX_ENDPOINTS = 50;
const MAX_CIRCUITS = 20;
const MAX_CLUSTERS = 50;
/** The number of events at the start of a page. */
const MAX_EVENTS = 100;

/** A prefix distinguishes the listener from a cluster named "inbound". */
const LISTENER = 'listener ';
const CLUSTER = 'cluster ';
const PROVIDER = 'provider ';
/** Ends of model requests that are no failure of the provider: an answer, and what the caller caused. */
const NO_ERROR: ReadonlySet<string> = new Set(['success', 'refused', 'cancelled']);

export class Live implements LiveSource {
  readonly instance = randomUUID();
  private readonly sidecar: Sidecar;
  private readonly log: EventLog;
  private readonly failed: FailedCalls;
  private readonly history = new TrafficHistory();
  private readonly longHistory = {
    inbound: new LongHistory(SAMPLES_PER_POINT * SAMPLE_EVERY_MS),
    outbound: new LongHistory(SAMPLES_PER_POINT * SAMPLE_EVERY_MS),
  };
  private samples = 0;
  private readonly now: NowWatch;
  private timer: NodeJS.Timeout | undefined = undefined;

  constructor(sidecar: Sidecar, log: EventLog, failed: FailedCalls, configured: Configured) {
    this.sidecar = sidecar;
    this.log = log;
    this.failed = failed;
    this.now = new NowWatch(sidecar, configured);
  }

  start(): void {
    this.sample();
    this.timer = setInterval(() => this.sample(), SAMPLE_EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  get findings() {
    return this.now.findings;
  }

  events(afterId: number) {
    return this.log.recent(afterId).slice(-MAX_EVENTS);
  }

  calls(afterId: number) {
    return this.failed.recent(afterId);
  }

  snapshot() {
    const { sidecar } = this;
    const { config, inbound, outbound } = sidecar;
    const clusters = clustersSnapshot(sidecar);
    return {
      name: config.name,
      outrigger_version: outriggerVersion(),
      version: config.version,
      state: sidecar.state,
      not_ready_because: sidecar.notReadyBecause ?? '',
      app: { address: config.inbound.app, state: inbound.appHealth.state, version: config.version },
      now: this.now.snapshot(),
      uptime_s: Math.round(process.uptime()),
      resident_bytes: process.memoryUsage.rss(),
      failed_calls_skipped: this.failed.skipped,
      listeners: [
        {
          ...this.listener(inbound.stats, sidecar.inboundAddress),
          history: this.longHistory.inbound.report(),
        },
        {
          ...this.listener(outbound.stats, sidecar.outboundAddress),
          history: this.longHistory.outbound.report(),
        },
      ],
      tasks: tasksSnapshot(sidecar),
      peers: config.admin.peers.map(({ address, name, page }) => ({ address, name, page: page ?? null })),
      llm: this.llm(),
      mcp: mcpSnapshot(sidecar),
      journal: journalSnapshot(sidecar),
      cluster_count: Object.keys(clusters).length,
      clusters: Object.entries(clusters)
        .slice(0, MAX_CLUSTERS)
        .map(([name, cluster]) => ({ name, ...this.shorten(name, cluster) })),
    };
  }

  /** `/status` of this sidecar. */
  status(reader: StatusReader) {
    const sources = {
      findings: this.now.findings,
      inbound: this.history.report(`${LISTENER}inbound`),
      outbound: this.history.report(`${LISTENER}outbound`),
    };
    return statusPage(this.sidecar, sources, reader);
  }

  private llm() {
    const llm = llmSnapshot(this.sidecar);
    const upstreams = llm.upstreams.map((upstream) => ({
      ...upstream,
      traffic: this.history.report(PROVIDER + upstream.name) ?? null,
    }));
    return { ...llm, upstreams };
  }

  private listener(stats: ListenerStats, address: string) {
    return {
      name: stats.name,
      address,
      active_calls: stats.activeCalls,
      active_connections: stats.activeConnections,
      total_requests: stats.totalCalls,
      total_ok: stats.totalOk,
      total_errors: stats.totalErrors,
      total_refused: stats.totalRefused,
      rejected: Object.fromEntries(stats.rejected),
      traffic: this.history.report(LISTENER + stats.name) ?? null,
    };
  }

  private shorten(name: string, cluster: ClusterSnapshot) {
    const circuits = Object.entries(cluster.circuits).map(([method, circuit]) => ({ method, ...circuit }));
    const traffic = this.history.report(CLUSTER + name) ?? null;
    // The outlier detector keeps no answers where there is nothing to compare: a single endpoint has the cluster's p95.
    const [only, another] = cluster.endpoints;
    const endpoints =
      only === undefined || another !== undefined
        ? cluster.endpoints
        : [{ ...only, p95_ms: only.p95_ms ?? traffic?.last_minute.p95_ms ?? null }];
    return {
      ...cluster,
      traffic,
      circuits: first(circuits, MAX_CIRCUITS, ({ state }) => state !== 'closed'),
      circuit_count: circuits.length,
      closed_count: circuits.filter(({ state }) => state === 'closed').length,
      endpoints: first(endpoints, MAX_ENDPOINTS, ({ usable }) => !usable),
      endpoint_count: endpoints.length,
      usable_count: endpoints.filter(({ usable }) => usable).length,
    };
  }

  private sample(): void {
    this.history.sample(this.sources(), this.sidecar.clock());
    this.sidecar.llm.minutes.sample(this.sidecar.clock());
    this.now.update();
    if (this.samples++ % SAMPLES_PER_POINT === 0) this.addPoints();
  }

  private addPoints(): void {
    for (const [name, history] of Object.entries(this.longHistory)) {
      const lately = this.history.lately(LISTENER + name, SAMPLES_PER_POINT);
      if (lately !== undefined) history.add(lately, Date.now());
    }
  }

  private *sources(): Generator<TrafficSource> {
    const { inbound, outbound } = this.sidecar;
    const clusters = [...outbound.clusters.clusters.values()];
    const durations = [outbound.stats.calls, ...clusters.map(({ calls }) => calls)];
    for (const { stats, of } of [
      { stats: inbound.stats, of: [inbound.stats.calls] },
      { stats: outbound.stats, of: durations },
    ]) {
      const { name, totalCalls: calls, totalOk: ok, totalErrors: errors, totalRefused: refused } = stats;
      yield { name: LISTENER + name, calls, ok, errors, refused, durations: of };
    }
    yield* this.providers();
    for (const { name, calls } of clusters) {
      const counts = countCalls(calls, endOf);
      yield { name: CLUSTER + name, ...counts, durations: [calls] };
    }
  }

  /** The requests to each upstream, whatever model they name. */
  private *providers(): Generator<TrafficSource> {
    const { llm, config } = this.sidecar;
    for (const { name } of config.llm.upstreams) {
      const pairs = Array.from(llm.stats.shown()).filter(({ upstream }) => upstream === name);
      const count = (counts: (outcome: string) => boolean): number =>
        pairs.reduce((sum, { outcomes }) => {
          for (const [outcome, number] of outcomes) if (counts(outcome)) sum += number;
          return sum;
        }, 0);
      yield {
        name: PROVIDER + name,
        calls: count(() => true),
        ok: count((outcome) => outcome === 'success'),
        errors: count((outcome) => !NO_ERROR.has(outcome)),
        refused: 0,
        durations: [],
        timed: { bounds: LLM_BUCKETS, durations: pairs.map(({ duration }) => duration) },
      };
    }
  }
}

/** The first items, up to this number: those that stand out come before the others, and both keep their order. */
function first<T>(items: readonly T[], most: number, standsOut: (item: T) => boolean): readonly T[] {
  if (items.length <= most) return items;
  const chosen = new Set(items.filter(standsOut).slice(0, most));
  for (const item of items) {
    if (chosen.size >= most) break;
    chosen.add(item);
  }
  return items.filter((item) => chosen.has(item));
}
