/** Configures the outbound side: listener, clusters, routes. */
import type { ClusterListener } from '../cluster/cluster.ts';
import { type ClusterEnvironment, ClusterSet, UpstreamLimits } from '../cluster/cluster-set.ts';
import { nameScopeOf } from '../cluster/discovery/name-scope.ts';
import { DEFAULT_LIMITS, headerLimits } from '../http2/limits.ts';
import { NO_TIME_LIMITS } from '../policy/deadline.ts';
import { type ClusterPolicies, createPolicies, type PolicyEvents } from '../proxy/cluster-policies.ts';
import type { ProxyContext, ProxySettings } from '../proxy/context.ts';
import type { InboundCalls } from '../proxy/inbound-calls.ts';
import { Pipeline } from '../proxy/pipeline.ts';
import { RuleRouter } from '../proxy/router.ts';
import { SubmittedLineage } from '../proxy/submitted-task.ts';
import { ListenerStats } from '../telemetry/call-stats.ts';
import { agentTypesOf, withAgentTypes } from './agent-type-clusters.ts';
import { servedSettings } from './bus-clusters.ts';
import { GrpcListener, type Move } from './grpc-listener.ts';
import type { GrpcListenerEnvironment, GrpcListenerOptions } from './grpc-listener-options.ts';
import { OutboundTargets } from './outbound-targets.ts';
import { callPathGuard, type OutboundClusterSettings, type OutboundSettings } from './settings.ts';
import { TargetCalls } from './target-calls.ts';
import { TargetListener } from './target-listener.ts';
import { TaskService } from './tasks/task-service.ts';

/** PINGs within the pod cost no network, and GOAWAY would cost the app its calls: this only stops a loop. */
const APP_MIN_PING_INTERVAL_MS = 1_000;

/** The app may cancel many calls; only a loop that does nothing else has to reconnect. */
const APP_CANCEL_BURST = 20_000;

/** The outbound side: routes the calls of this pod's app to clusters. */
export class Outbound {
  readonly stats = new ListenerStats('outbound');
  readonly clusters: ClusterSet<OutboundClusterSettings, ClusterPolicies>;
  /** Serves `outrigger.v1.Tasks`. */
  readonly taskService = new TaskService({
    lineageOf: (info, ids) => new SubmittedLineage(this.context, info, ids),
  });
  readonly context: ProxyContext;
  private readonly environment: GrpcListenerEnvironment;
  private readonly upstreamLimits: UpstreamLimits;
  readonly listener: GrpcListener;
  /** The further ports of the outbound side, one for each address that the app calls. */
  readonly targets: OutboundTargets;

  constructor(
    config: OutboundSettings,
    environment: GrpcListenerEnvironment & Pick<ClusterEnvironment, 'bus'>,
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
      admissions: undefined,
      stats: this.stats,
      tasks: undefined,
      localServices: [this.taskService],
      inboundCalls,
      taskRuns: undefined,
      resumptions: undefined,
      keptRequests: undefined,
      callPath: callPathGuard(config, environment.instance),
      router: new RuleRouter([], new Map()),
      settings: proxySettings(config),
      name: config.name,
      observer: undefined,
      tracer: undefined,
    };
    const pipeline = new Pipeline(this.context);
    const options = listenerOptions(outbound);
    this.listener = new GrpcListener('outbound', pipeline, this.stats, environment, options);
    this.targets = new OutboundTargets(({ address }) => {
      const calls = new TargetCalls(pipeline, this.context, address);
      return new TargetListener(calls, this.stats, environment, options);
    });
    this.apply(config);
  }

  /** Applies a new configuration, except the listen address, which the caller changes. */
  apply(config: OutboundSettings): void {
    const { outbound } = config;
    this.upstreamLimits.update(outbound.limits.maxHeaderBytes);
    this.clusters.apply(withAgentTypes(servedSettings(outbound.clusters)));
    const { clusters } = this.clusters;
    const named = [...clusters].filter(([name]) => outbound.clusters.has(name));
    this.context.router = new RuleRouter(
      outbound.routes,
      new Map(named),
      nameScopeOf(outbound),
      outbound.targets.map(({ address }) => address),
      agentTypesOf(outbound.clusters, clusters),
    );
    this.context.settings = proxySettings(config);
    this.taskService.update(config.inbound);
    this.context.callPath = callPathGuard(config, this.environment.instance);
    this.listener.update(listenerOptions(outbound));
    this.targets.apply(outbound.targets, listenerOptions(outbound));
  }

  /** @returns the address of the listener whose callers set an authority. Throws ListenError. */
  async start({ outbound }: OutboundSettings): Promise<string> {
    const address = await this.listener.listen(outbound.listen);
    await this.targets.start(outbound.targets);
    return address;
  }

  /** Opens the addresses of the targets that are new in a configuration. Throws ListenError. */
  openTargets({ outbound }: OutboundSettings, opened: Move[]): Promise<void> {
    return this.targets.open(outbound.targets, opened);
  }

  /** Stops accepting connections; open connections stay. */
  stopAccepting(): void {
    for (const listener of this.listeners) listener.stopAccepting();
  }

  /** Sends GOAWAY on every connection. */
  drain(): void {
    this.taskService.endCalls();
    for (const listener of this.listeners) listener.drain();
  }

  /** Ends the remaining calls with `draining`. */
  endCalls(): void {
    for (const listener of this.listeners) listener.endCalls();
  }

  get connectionCount(): number {
    return this.listeners.reduce((sum, { connectionCount }) => sum + connectionCount, 0);
  }

  /** The listener and those of the targets. */
  get listeners(): readonly GrpcListener[] {
    return [this.listener, ...this.targets.listeners];
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
