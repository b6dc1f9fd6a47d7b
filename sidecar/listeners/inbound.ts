import { AppHealth } from '../cluster/app-health.ts';
import type { Cluster, ClusterListener, ClusterSettings } from '../cluster/cluster.ts';
import { createCluster } from '../cluster/cluster-set.ts';
import { StaticDiscovery } from '../cluster/static-discovery.ts';
import { DEFAULT_LIMITS } from '../http2/limits.ts';
import { ConcurrencyLimit } from '../policy/admission.ts';
import type { ProxyContext } from '../proxy/context.ts';
import { HealthServices } from '../proxy/health-service.ts';
import { Pipeline } from '../proxy/pipeline.ts';
import { SingleRouter } from '../proxy/router.ts';
import { ListenerStats } from '../telemetry/call-stats.ts';
import { TaskStats } from '../telemetry/task-stats.ts';
import { GrpcListener, type GrpcListenerEnvironment, type GrpcListenerOptions } from './grpc-listener.ts';
import type { InboundSettings } from './settings.ts';

/** The app's cluster is named so in metrics and in `/clusters`. */
export const APP_CLUSTER = 'app';

/** Calls that come to this pod: to the local app, or answered here when they ask for health. */
export class Inbound {
  readonly stats = new ListenerStats('inbound');
  readonly tasks = new TaskStats();
  readonly app: Cluster;
  readonly appHealth: AppHealth;
  readonly health: HealthServices;
  readonly context: ProxyContext;
  readonly listener: GrpcListener;
  private appAddress = '';

  constructor(
    config: InboundSettings,
    environment: GrpcListenerEnvironment,
    clusterListener: ClusterListener,
  ) {
    const { inbound } = config;
    const { wheel, clock } = environment;
    this.app = createCluster(appSettings(inbound), environment, clusterListener);
    this.appHealth = new AppHealth(this.app, wheel, clock, inbound.health);
    this.health = new HealthServices(this.appHealth, this.stats, config);
    this.context = {
      listener: 'inbound',
      wheel,
      clock,
      admission: new ConcurrencyLimit(inbound.maxConcurrentCalls),
      stats: this.stats,
      tasks: this.tasks,
      localServices: this.health,
      router: new SingleRouter(this.app),
      settings: inbound,
      name: config.name,
      observer: undefined,
    };
    this.listener = new GrpcListener(
      'inbound',
      new Pipeline(this.context),
      this.stats,
      environment,
      listenerOptions(inbound),
    );
    this.apply(config);
  }

  /** Takes a new configuration; the address to listen on is the caller's business. */
  apply(config: InboundSettings): void {
    const { inbound } = config;
    this.app.update(appSettings(inbound));
    if (inbound.app !== this.appAddress) {
      this.appAddress = inbound.app;
      this.app.discover(new StaticDiscovery([inbound.app]));
    }
    this.appHealth.update(inbound.health);
    this.health.identity = config;
    this.context.name = config.name;
    this.context.admission.max = inbound.maxConcurrentCalls;
    this.context.settings = inbound;
    this.listener.update(listenerOptions(inbound));
  }

  /** @returns the address it listens on */
  start(address: string): Promise<string> {
    this.appHealth.start();
    return this.listener.listen(address);
  }

  close(): void {
    this.appHealth.stop();
    this.app.close();
  }
}

function appSettings(inbound: InboundSettings['inbound']): ClusterSettings {
  return {
    name: APP_CLUSTER,
    balancer: 'round_robin',
    timeoutMs: inbound.timeoutMs,
    connectTimeoutMs: 5_000,
    // The app is on this host: its health is asked for (app-health.ts), and a strict server is not annoyed by PINGs.
    keepalive: { timeMs: 0, timeoutMs: 0 },
    limits: {
      maxConnections: 16,
      maxPendingCalls: inbound.maxConcurrentCalls,
      maxConcurrentCalls: Number.POSITIVE_INFINITY,
    },
    retry: { bufferBytes: 65_536 },
  };
}

function listenerOptions(inbound: InboundSettings['inbound']): GrpcListenerOptions {
  const { maxConcurrentStreams, maxHeaderBytes, maxConnections } = inbound.limits;
  return {
    limits: { ...DEFAULT_LIMITS, maxConcurrentStreams, maxHeaderListBytes: maxHeaderBytes },
    maxConnections,
    keepalive: inbound.keepalive,
    maxConnectionAgeMs: inbound.keepalive.maxConnectionAgeMs,
  };
}
