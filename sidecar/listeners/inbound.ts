/** Configures the inbound side: listener, app cluster, health services, task store. */
import type { ClusterListener } from '../cluster/cluster.ts';
import { createCluster, UpstreamLimits } from '../cluster/cluster-set.ts';
import type { ClusterSettings } from '../cluster/cluster-settings.ts';
import { StaticDiscovery } from '../cluster/discovery/static.ts';
import { HEALTH_CHECK_OFF } from '../cluster/health/active-health.ts';
import { AppHealth } from '../cluster/health/app-health.ts';
import { AppServiceHealth } from '../cluster/health/app-service-health.ts';
import { ALL_ENCODING_BITS } from '../grpc/message-encoding.ts';
import { nextServerNumber } from '../grpc/sidecar-settings.ts';
import { heldRequests, MIN_HELD_BYTES } from '../http2/held-requests.ts';
import { DEFAULT_LIMITS, headerLimits } from '../http2/limits.ts';
import { NO_APP } from '../net/address.ts';
import type { TimeLimits } from '../policy/time-limit-settings.ts';
import { Admissions } from '../proxy/admissions.ts';
import {
  type ClusterWithPolicies,
  createPolicies,
  type PolicyEvents,
  type PolicySettings,
} from '../proxy/cluster-policies.ts';
import type { ProxyContext, ProxySettings } from '../proxy/context.ts';
import { HealthServices } from '../proxy/health-service.ts';
import type { InboundCalls } from '../proxy/inbound-calls.ts';
import { KeptRequests } from '../proxy/kept-requests.ts';
import { Pipeline } from '../proxy/pipeline.ts';
import { Resumptions } from '../proxy/resumptions.ts';
import { SingleRouter } from '../proxy/router.ts';
import { TASK_REQUEST_MAX_BYTES, TaskRuns } from '../proxy/task-runs.ts';
import { taskStoreSettings } from '../task/task-store-settings.ts';
import { ListenerStats } from '../telemetry/call-stats.ts';
import { TaskStats } from '../telemetry/task-stats.ts';
import { AllowList } from '../tls/identity.ts';
import { GrpcListener } from './grpc-listener.ts';
import type { GrpcListenerEnvironment, GrpcListenerOptions } from './grpc-listener-options.ts';
import { callPathGuard, type InboundSettings } from './settings.ts';
import { TaskService } from './tasks/task-service.ts';

/** The name of the app's cluster in metrics and in `/clusters`. */
const APP_CLUSTER = 'app';

/** The inbound side: passes callers' calls to the local app, and answers health calls itself. */
export class Inbound {
  readonly stats = new ListenerStats('inbound');
  readonly tasks = new TaskStats();
  readonly taskRuns: TaskRuns;
  readonly resumptions: Resumptions;
  private readonly serverNumber = nextServerNumber();
  readonly app: ClusterWithPolicies;
  readonly appHealth: AppHealth;
  private readonly appServices: AppServiceHealth;
  private healthTimeoutMs = 0;
  readonly health: HealthServices;
  /** Serves `outrigger.v1.Tasks`. */
  readonly taskService = new TaskService();
  readonly context: ProxyContext;
  private readonly environment: GrpcListenerEnvironment;
  private readonly appLimits: UpstreamLimits;
  readonly listener: GrpcListener;
  private appAddress = '';

  constructor(
    config: InboundSettings,
    environment: GrpcListenerEnvironment,
    clusterListener: ClusterListener & PolicyEvents,
    inboundCalls: InboundCalls,
  ) {
    const { inbound } = config;
    const { wheel, clock, random } = environment;
    this.environment = environment;
    this.appLimits = new UpstreamLimits(inbound.limits.maxHeaderBytes);
    this.app = createCluster(appSettings(inbound), environment, clusterListener, this.appLimits, (cluster) =>
      createPolicies(cluster, appPolicies(inbound), { random, events: clusterListener }),
    );
    this.taskRuns = new TaskRuns(taskStoreSettings(inbound.tasks), wheel, clock);
    this.resumptions = new Resumptions({
      wheel,
      clock,
      stats: this.stats,
      room: this.taskRuns.store,
      lingerMs: () => (this.context.settings.deduplicateTasks ? this.taskRuns.store.settings.lingerMs : 0),
      callOf: ({ connection, id }) => {
        for (const call of this.listener.calls(connection)) if (call.stream.id === id) return call;
        return undefined;
      },
    });
    this.appHealth = new AppHealth(this.app, wheel, clock, inbound.health);
    this.appServices = new AppServiceHealth(this.app, wheel, clock);
    this.health = new HealthServices(this.appHealth, this.stats, config, {
      cluster: this.app,
      wheel,
      clock,
      random,
    });
    this.context = {
      listener: 'inbound',
      wheel,
      clock,
      random,
      events: clusterListener,
      admissions: new Admissions(inbound, environment, this.stats),
      stats: this.stats,
      tasks: this.tasks,
      localServices: [this.health, this.taskService],
      inboundCalls,
      taskRuns: this.taskRuns,
      resumptions: this.resumptions,
      keptRequests: new KeptRequests(),
      callPath: callPathGuard(config, environment.instance),
      router: new SingleRouter(this.app),
      settings: proxySettings(inbound),
      name: config.name,
      observer: undefined,
      tracer: undefined,
    };
    this.listener = new GrpcListener(
      'inbound',
      new Pipeline(this.context),
      this.stats,
      environment,
      listenerOptions(inbound, this.serverNumber),
    );
    this.apply(config);
  }

  /** Applies a new configuration, except the listen address, which the caller changes. */
  apply(config: InboundSettings): void {
    const { inbound } = config;
    this.appLimits.update(inbound.limits.maxHeaderBytes);
    this.app.update(appSettings(inbound));
    this.app.policies.update(appPolicies(inbound), this.environment.clock());
    if (inbound.app !== this.appAddress) {
      this.appAddress = inbound.app;
      this.app.discover(new StaticDiscovery(inbound.app === NO_APP ? [] : [inbound.app]));
    }
    this.appHealth.update(inbound.health, inbound.app !== NO_APP);
    this.healthTimeoutMs = inbound.health.timeoutMs;
    this.health.identity = config;
    this.health.maxConnections = inbound.limits.maxConnections;
    this.context.name = config.name;
    this.context.admissions!.update(inbound);
    this.context.router = new SingleRouter(this.app, inbound.agentTypes.size > 0);
    const { store } = this.taskRuns;
    const toldAnew =
      this.context.settings.deduplicateTasks !== inbound.tasks.deduplicate ||
      store.settings.lingerMs > 0 !== inbound.tasks.lingerMs > 0;
    this.context.settings = proxySettings(inbound);
    this.taskService.update(inbound);
    this.context.callPath = callPathGuard(config, this.environment.instance);
    store.settings = taskStoreSettings(inbound.tasks);
    heldRequests.maxBytes = maxHeldBytes(inbound);
    this.listener.update(listenerOptions(inbound, this.serverNumber));
    // SETTINGS announced to callers whether a task runs once, and is resumed; they rely on it until they reconnect.
    if (toldAnew) this.listener.renew();
    this.listener.secure(inbound.tls);
  }

  /**
   * Returns why the app does not serve, even while this sidecar accepts calls for it; undefined when it serves. For the
   * services that our health service answers for, the state is known; for any other service it asks the app.
   */
  async appBecause(service: string): Promise<string | undefined> {
    if (this.appHealth.state === 'none') return 'there is no app here (inbound.app is none)';
    const ours = this.health.answersFor(service);
    const state = ours ? this.appHealth.state : await this.appServices.check(service, this.healthTimeoutMs);
    if (ours ? this.appHealth.healthy : state === 'serving' || state === 'busy') return undefined;
    return `the app at ${this.appAddress} is ${state}${ours ? '' : ', asked for that service'}`;
  }

  /** @returns the address it listens on */
  start(address: string): Promise<string> {
    this.appHealth.start();
    return this.listener.listen(address);
  }

  /** The sidecar drains: sends those away who watch what is here. */
  endWatches(): void {
    this.health.endWatches();
    this.taskService.endCalls();
  }

  close(): void {
    this.appHealth.stop();
    this.appServices.stop();
    this.resumptions.stop();
    this.taskRuns.stop();
    this.app.close();
  }
}

/** The app is a single endpoint: it has no peer to compare it with, and there is no other endpoint to use instead. */
const NO_EJECTION = {
  consecutiveFailures: 0,
  intervalMs: 30_000,
  baseEjectionTimeMs: 30_000,
  maxEjectionTimeMs: 300_000,
  maxEjectionPercent: 0,
};

const NO_POLICIES = {
  circuitBreaker: {
    consecutiveFailures: 0,
    failurePercent: 0,
    minCalls: 20,
    windowMs: 10_000,
    recoveryTimeoutMs: 30_000,
    halfOpenMax: 3,
  },
  retry: {
    maxAttempts: 1,
    on: [],
    idempotentMethods: [],
    perTryTimeoutMs: 0,
    backoff: { baseMs: 25, maxMs: 250 },
    budget: { percent: 0, minConcurrent: 0 },
  },
  hedge: { delayMs: 0, percentile: 0, maxExtra: 0 },
  task: { statusIsVerdict: false, deduplicate: false },
} as const;

function appPolicies(inbound: InboundSettings['inbound']): PolicySettings {
  return { ...NO_POLICIES, ...timeLimits(inbound) };
}

function timeLimits(inbound: TimeLimits): TimeLimits {
  const { timeoutMs, maxTimeoutMs, firstChunkTimeoutMs, idleTimeoutMs } = inbound;
  return { timeoutMs, maxTimeoutMs, firstChunkTimeoutMs, idleTimeoutMs };
}

function appSettings(inbound: InboundSettings['inbound']): ClusterSettings {
  return {
    name: APP_CLUSTER,
    balancer: 'round_robin',
    connectTimeoutMs: 5_000,
    // The app is on this host: app-health.ts probes it, and strict servers reject PINGs.
    keepalive: { timeMs: 0, timeoutMs: 0 },
    limits: {
      maxConnections: 16,
      maxPendingCalls: inbound.maxConcurrentCalls,
      maxConcurrentCalls: Number.POSITIVE_INFINITY,
    },
    retry: { bufferBytes: 65_536 },
    outlierDetection: NO_EJECTION,
    healthCheck: HEALTH_CHECK_OFF,
  };
}

/** The average memory for each waiting call, when more of them may wait than fit into `MIN_HELD_BYTES`. */
const HELD_BYTES_A_CALL = 16_384;

/** The more calls the operator lets wait, the more memory they may hold. */
function maxHeldBytes({ maxConcurrentCalls, queue }: InboundSettings['inbound']): number {
  return Math.max(MIN_HELD_BYTES, HELD_BYTES_A_CALL * (maxConcurrentCalls + queue.maxCalls));
}

function proxySettings(inbound: InboundSettings['inbound']): ProxySettings {
  const { maxMessageBytes, tasks, callBaggage, forwardClientCert, tokenBudget } = inbound;
  return {
    timeLimits: timeLimits(inbound),
    maxMessageBytes,
    deduplicateTasks: tasks.deduplicate,
    namesCalls: callBaggage,
    scopeHeaders: tasks.scopeHeaders,
    mayBudget: mayBudget(tokenBudget),
    dropsCertificates: !forwardClientCert,
  };
}

function mayBudget({
  from,
  allowIdentities,
}: InboundSettings['inbound']['tokenBudget']): ProxySettings['mayBudget'] {
  if (from !== 'identified') return () => from === 'anyone';
  const allowed = new AllowList(allowIdentities);
  return (identity) =>
    identity !== undefined && (allowed.empty || allowed.match(identity.names) !== undefined);
}

function listenerOptions(inbound: InboundSettings['inbound'], serverNumber: number): GrpcListenerOptions {
  const { maxConcurrentStreams, maxHeaderBytes, maxConnections } = inbound.limits;
  return {
    limits: { ...DEFAULT_LIMITS, ...headerLimits(maxHeaderBytes), maxConcurrentStreams },
    maxConnections,
    sharesConnections: true,
    keepalive: inbound.keepalive,
    minPingIntervalMs: inbound.keepalive.minTimeMs,
    maxConnectionAgeMs: inbound.keepalive.maxConnectionAgeMs,
    tasksOnceMaxBytes: inbound.tasks.deduplicate ? TASK_REQUEST_MAX_BYTES : 0,
    tasksOnceEncodings: ALL_ENCODING_BITS,
    streamsResumeMs: inbound.tasks.deduplicate ? inbound.tasks.lingerMs : 0,
    serverNumber,
  };
}
