/** Configures the outbound side: listener, clusters, routes. */
import type { ClusterListener } from '../cluster/cluster.ts';
import { ClusterSet, UpstreamLimits } from '../cluster/cluster-set.ts';
import { nameScopeOf } from '../cluster/discovery/name-scope.ts';
import { DEFAULT_LIMITS, headerLimits } from '../http2/limits.ts';
import { NO_TIME_LIMITS } from '../policy/deadline.ts';
import { type ClusterPolicies, createPolicies, type PolicyEvents } from '../proxy/cluster-policies.ts';
import type { ProxyContext, ProxySettings } from '../proxy/context.ts';
import type { InboundCalls } from '../proxy/inbound-calls.ts';
import { Pipeline } from '../proxy/pipeline.ts';
import { RuleRouter } from '../proxy/router.ts';
import { ListenerStats } from '../telemetry/call-stats.ts';
import { GrpcListener, type GrpcListenerEnvironment, type GrpcListenerOptions } from './grpc-listener.ts';
import { callPathGuard, type OutboundClusterSettings, type OutboundSettings } from './settings.ts';

/** PINGs within the pod cost no network, and GOAWAY would cost the app its calls: this only stops a loop. */
const APP_MIN_PING_INTERVAL_MS = 1_000;

/** The app may cancel many calls; only a loop that does nothing else has to reconnect. */
const APP_CANCEL_BURST = 20_000;

/** The outbound side: routes the calls of this pod's app to clusters. */
export class Outbound {
  readonly stats = new ListenerStats('outbound');
  readonly clusters: ClusterSet<OutboundClusterSettings, ClusterPolicies>;
  readonly context: ProxyContext;
  private readonly environment: GrpcListenerEnvironment;
  private readonly upstreamLimits: UpstreamLimits;
  readonly listener: GrpcListener;

  constructor(
    config: OutboundSettings,
    environment: GrpcListenerEnvironment,
    clusterListener: ClusterListener & PolicyEvents,
    inboundCalls: InboundCalls,
  ) {
    const { outbound } = config;
    this.environment = environment;
    this.upstreamLimits = new UpstreamLimits(outbound.limits.maxHeaderBytes);
    this.clusters = new ClusterSet(environment, clusterListener, this.upstreamLimits, (cluster, settings) =>
      createPolicies(cluster, settings, { random: environment.random, events: clusterListener }),
    );
    this.context = {
      listener: 'outbound',
      wheel: environment.wheel,
      clock: environment.clock,
      random: environment.random,
      events: clusterListener,
      admission: undefined,
      stats: this.stats,
      tasks: undefined,
      localServices: undefined,
      inboundCalls,
      taskRuns: undefined,
      keptRequests: undefined,
      callPath: callPathGuard(config, environment.instance),
      router: new RuleRouter([], this.clusters.clusters),
      settings: proxySettings(config),
      name: config.name,
      observer: undefined,
      tracer: undefined,
    };
    this.listener = new GrpcListener(
      'outbound',
      new Pipeline(this.context),
      this.stats,
      environment,
      listenerOptions(outbound),
    );
    this.apply(config);
  }

  /** Applies a new configuration, except the listen address, which the caller changes. */
  apply(config: OutboundSettings): void {
    const { outbound } = config;
    this.upstreamLimits.update(outbound.limits.maxHeaderBytes);
    this.clusters.apply(outbound.clusters);
    this.context.router = new RuleRouter(outbound.routes, this.clusters.clusters, nameScopeOf(outbound));
    this.context.settings = proxySettings(config);
    this.context.callPath = callPathGuard(config, this.environment.instance);
    this.listener.update(listenerOptions(outbound));
  }

  /** @returns the address it listens on */
  start(address: string): Promise<string> {
    return this.listener.listen(address);
  }

  close(): void {
    this.clusters.close();
  }
}

const NO_HEADERS: readonly string[] = [];

/** The upstream's sidecar runs tasks once, so this side does not. */
function proxySettings({ inbound }: OutboundSettings): ProxySettings {
  return {
    timeLimits: NO_TIME_LIMITS,
    maxMessageBytes: inbound.maxMessageBytes,
    deduplicateTasks: false,
    namesCalls: false,
    scopeHeaders: NO_HEADERS,
    // The app passes on a part of a budget, or less.
    mayBudget: () => true,
    dropsCertificates: false,
  };
}

function listenerOptions(outbound: OutboundSettings['outbound']): GrpcListenerOptions {
  const { maxConcurrentStreams, maxHeaderBytes, maxConnections } = outbound.limits;
  return {
    limits: {
      ...DEFAULT_LIMITS,
      ...headerLimits(maxHeaderBytes),
      maxConcurrentStreams,
      cancelBurst: APP_CANCEL_BURST,
    },
    maxConnections,
    // Its downstream is one app.
    sharesConnections: false,
    // Its downstream is the app in the same pod: the kernel reports when it ends.
    keepalive: { timeMs: 0, timeoutMs: 0 },
    minPingIntervalMs: APP_MIN_PING_INTERVAL_MS,
    maxConnectionAgeMs: 0,
  };
}
