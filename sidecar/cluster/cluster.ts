/** One cluster: picks an endpoint for each attempt, and keeps the endpoints in step with discovery and health. */
import { CallStats } from '../telemetry/call-stats.ts';
import type { Balancer, CallKey } from './balancer/balancer.ts';
import { createBalancer } from './balancer/create-balancer.ts';
import { UNSEEN } from './balancer/rtt.ts';
import { ZoneEndpoints } from './balancer/zone-endpoints.ts';
import type { ClusterSettings } from './cluster-settings.ts';
import { ConnectionPool } from './connection/pool.ts';
import { PoolState } from './connection/pool-state.ts';
import type { PoolEnvironment, PoolOptions } from './connection/pool-types.ts';
import type { Discovery } from './discovery/discovery.ts';
import { Endpoint } from './endpoint.ts';
import { ActiveHealth, type EndpointCheck } from './health/active-health.ts';
import { ReturnWatch } from './health/return-watch.ts';
import { SilenceWatch } from './health/silence-watch.ts';
import { Leaving } from './leaving.ts';
import { fallbackRank, type OutlierEvent } from './outlier/detector.ts';
import { OutlierWatch } from './outlier/watch.ts';
import { foundAbsent, noteSlow } from './outlier/watched-endpoint.ts';

/** The most reasons that have a counter of their own: a peer chooses some of them (TLS reasons in its GOAWAY). */
const MAX_COUNTED = 64;

/** Receives the events of clusters and their endpoints. */
export interface ClusterListener {
  onEndpoints(cluster: Cluster, added: readonly string[], removed: readonly string[]): void;
  onDiscoveryError(cluster: Cluster, error: Error): void;
  onConnectFailed(cluster: Cluster, endpoint: Endpoint, message: string): void;
  onEndpointUsable(cluster: Cluster, endpoint: Endpoint, usable: boolean): void;
  /** An endpoint rejects our keepalive PINGs as too many: we send fewer from now on. */
  onTooManyPings?(cluster: Cluster, endpoint: Endpoint, keepaliveTimeMs: number): void;
  /** The result of an endpoint's health check changed. */
  onHealthChange?(cluster: Cluster, endpoint: Endpoint, check: EndpointCheck): void;
  /** An endpoint was ejected, returned on probation, or recovered. */
  onOutlier(cluster: Cluster, event: OutlierEvent): void;
}

/** The policies of a cluster, as the cluster itself uses them; times in milliseconds. The layer above implements them. */
export interface EndpointPolicies {
  /** Whether the policies reject calls because no endpoint could be reached. */
  callsWait(nowMs: number): boolean;
  /** An endpoint can be reached again, or its health check passes. */
  onEndpointBack(nowMs: number): void;
  /** An endpoint that left calls unanswered gives no sign of life either: it is absent. */
  onEndpointAbsent(): void;
  /** Endpoints were added or removed; the oldest of the present ones was added at `sinceMs`. */
  onEndpointsSince(sinceMs: number, nowMs: number): void;
}

/**
 * A named set of endpoints that serve the same methods. The cluster picks an endpoint for each attempt, and connects
 * discovery, balancer, connection pools, health checks and outlier detection.
 */
export class Cluster<Policies extends EndpointPolicies = EndpointPolicies> {
  readonly name: string;
  settings: ClusterSettings;
  activeCalls = 0;
  /** Calls that the cluster's own limits rejected, by reason. */
  readonly rejected = new Map<string, number>();
  readonly retries = new Map<string, number>();
  /** Streams whose connection was lost, by what became of them (`policy/resume.ts`). */
  readonly streamsResumed = new Map<string, number>();
  /** Hedges: sent, won, or not sent because the budget was spent. */
  readonly hedges = new Map<string, number>();
  /** Failed connection attempts, by reason. */
  readonly connectFailures = new Map<string, number>();
  readonly calls = new CallStats();
  private readonly environment: PoolEnvironment;
  private readonly listener: ClusterListener;
  private readonly byAddress = new Map<string, Endpoint>();
  private discovery: Discovery | undefined = undefined;
  /** What discovery has reported last; '' when that was endpoints. */
  discoveryError = '';
  private balancer: Balancer<Endpoint>;
  /** The endpoints in our own zone. */
  readonly zoneEndpoints: ZoneEndpoints;
  /** Called whenever the first connection to an endpoint opened or the last one closed. */
  onPoolState: ((endpoint: Endpoint) => void) | undefined = undefined;
  endpoints: readonly Endpoint[] = [];
  /** Endpoints that discovery names no more while calls still run on them. */
  readonly leaving = new Leaving<Endpoint>();
  readonly outliers: OutlierWatch;
  readonly health: ActiveHealth;
  /** Detects that endpoints that could not be reached are back. */
  readonly returns: ReturnWatch;
  /** Distinguishes absent endpoints from those that are present but silent. */
  readonly silence: SilenceWatch;
  readonly policies: Policies;
  /** Discovery has reported nothing yet: a call that finds no endpoint may find one in a moment. */
  resolving = true;
  private readonly waiting: (() => void)[] = [];

  constructor(
    settings: ClusterSettings,
    environment: PoolEnvironment,
    listener: ClusterListener,
    createPolicies: (cluster: Cluster) => Policies,
  ) {
    this.name = settings.name;
    this.settings = settings;
    this.environment = environment;
    this.listener = listener;
    this.balancer = createBalancer(settings.balancer);
    this.zoneEndpoints = new ZoneEndpoints(settings.balancer);
    this.outliers = new OutlierWatch(
      settings.outlierDetection,
      environment.wheel,
      environment.clock,
      (event) => this.onOutlier(event),
    );
    const { wheel, clock, random } = environment;
    this.health = new ActiveHealth({
      wheel,
      clock,
      random,
      onChecked: (endpoint, check, changed) => this.onChecked(endpoint, check, changed),
    });
    this.returns = new ReturnWatch({
      wheel,
      clock,
      random,
      endpoints: () => this.endpoints,
      callsWait: (nowMs) => this.policies.callsWait(nowMs),
      isAbsent: (endpoint) => this.silence.isAbsent(endpoint),
      onBack: (endpoint) => this.onBack(endpoint),
    });
    this.silence = new SilenceWatch({
      wheel,
      clock,
      onAbsent: (endpoint) => this.onAbsent(endpoint),
      onBack: (endpoint) => this.onBack(endpoint),
      onLost: () => this.returns.wake(),
    });
    this.policies = createPolicies(this);
  }

  /** The endpoint can be reached, or its health check passes: lift what its absence alone had caused. */
  private onBack(endpoint: Endpoint): void {
    const nowMs = this.environment.clock();
    this.outliers.report(this.outliers.detector.reached(endpoint.watched, nowMs));
    this.outliers.wake(nowMs);
    this.policies.onEndpointBack(nowMs);
  }

  /** Its calls wait: ask whether the endpoint is slow or its process is stopped. */
  private checkSlow(endpoint: Endpoint): void {
    noteSlow(endpoint.watched, this.silence.isAbsent(endpoint));
    const [connection] = endpoint.pool.connections;
    if (connection !== undefined) this.silence.requestSign(endpoint, connection);
  }

  private onAbsent({ watched }: Endpoint): void {
    foundAbsent(watched);
    this.policies.onEndpointAbsent();
    this.returns.wake();
  }

  /**
   * A failing check ejects the endpoint, even if its calls succeed. An endpoint in connection back-off gets no calls
   * anyway: it is not ejected, which leaves room to eject another that would get calls.
   */
  private onChecked(endpoint: Endpoint, check: EndpointCheck, changed: boolean): void {
    const healthy = check.state !== 'unhealthy';
    // Report every failed check, not only the first: there may be room to eject it by now.
    if (healthy ? changed : endpoint.pool.state !== PoolState.backingOff)
      this.applyHealth(endpoint, healthy, check.detail);
    if (healthy && check.passes) this.onBack(endpoint);
    if (changed) this.listener.onHealthChange?.(this, endpoint, check);
  }

  private applyHealth(endpoint: Endpoint, healthy: boolean, detail: string): void {
    const { detector } = this.outliers;
    this.outliers.report(detector.healthChecked(endpoint.watched, healthy, detail, this.environment.clock()));
  }

  private updateHealth(): void {
    for (const endpoint of this.health.update(this.settings.healthCheck, this.endpoints)) {
      if (!endpoint.removed) this.applyHealth(endpoint, true, 'its health is no longer checked');
    }
  }

  private onOutlier(event: OutlierEvent): void {
    const endpoint = this.byAddress.get(event.endpoint.address);
    // Forget the latency estimate: with the slow one it would get no calls to prove itself with.
    if (event.kind === 'returned' && endpoint !== undefined) Object.assign(endpoint, UNSEEN);
    if (event.kind === 'ejected') {
      if (event.reason === 'latency' && endpoint !== undefined) this.checkSlow(endpoint);
      if (event.endpoint.unreachable) this.returns.wake();
    }
    this.listener.onOutlier(this, event);
  }

  /** The number of endpoints that the balancer may pick now. */
  get usableCount(): number {
    let count = 0;
    for (const endpoint of this.endpoints) if (endpoint.usable) count++;
    return count;
  }

  /** Replaces discovery. The present endpoints stay until the new source reports its set. */
  discover(discovery: Discovery): void {
    this.discovery?.stop();
    this.discovery = discovery;
    discovery.start(
      (addresses, inZone = []) => {
        this.discoveryError = '';
        this.setEndpoints(addresses, inZone);
        this.resolved();
      },
      (error) => {
        this.discoveryError = error.message;
        this.listener.onDiscoveryError(this, error);
        this.resolved();
      },
    );
  }

  /** Calls back once discovery reports endpoints or an error. False: as many as may (`maxPendingCalls`) wait already. */
  whenResolved(then: () => void): boolean {
    if (this.waiting.length >= this.settings.limits.maxPendingCalls) return false;
    this.waiting.push(then);
    return true;
  }

  private resolved(): void {
    this.resolving = false;
    for (const then of this.waiting.splice(0)) then();
  }

  /** Applies new settings to decisions from now on; calls in flight keep the old ones. */
  update(settings: ClusterSettings): void {
    const balancerChanged = settings.balancer !== this.settings.balancer;
    this.settings = settings;
    this.outliers.update(settings.outlierDetection);
    for (const endpoint of this.endpoints) endpoint.pool.update(poolOptions(settings));
    this.updateHealth();
    if (!balancerChanged) return;
    this.balancer = createBalancer(settings.balancer);
    this.balancer.update?.(this.endpoints);
    this.zoneEndpoints.use(settings.balancer);
  }

  private setEndpoints(addresses: readonly string[], inZone: readonly string[]): void {
    const wanted = new Set(addresses);
    const added: string[] = [];
    const removed: string[] = [];
    for (const [address, endpoint] of this.byAddress) {
      if (wanted.has(address)) continue;
      this.byAddress.delete(address);
      removed.push(address);
      this.retire(endpoint);
    }
    for (const address of addresses) {
      if (this.byAddress.has(address)) continue;
      this.byAddress.set(address, this.createEndpoint(address));
      added.push(address);
    }
    if (added.length === 0 && removed.length === 0) {
      this.zoneEndpoints.set(this.endpoints, new Set(inZone));
      return;
    }
    this.endpoints = [...this.byAddress.values()];
    this.zoneEndpoints.set(this.endpoints, new Set(inZone));
    this.updateHealth();
    this.balancer.update?.(this.endpoints);
    this.listener.onEndpoints(this, added, removed);
    this.notifyPolicies(added.length > 0);
  }

  private notifyPolicies(someAreNew: boolean): void {
    const { policies, endpoints } = this;
    if (endpoints.length === 0) return;
    const nowMs = this.environment.clock();
    const sinceMs = endpoints.reduce((oldest, { addedAtMs }) => Math.min(oldest, addedAtMs), nowMs);
    policies.onEndpointsSince(sinceMs, nowMs);
    // Connect to the new endpoints to find out whether they can be reached.
    if (someAreNew && policies.callsWait(nowMs)) this.returns.wake();
  }

  private createEndpoint(address: string): Endpoint {
    const addedAtMs = this.environment.clock();
    const endpoint = new Endpoint(address, this.outliers.detector.add(address), addedAtMs);
    endpoint.watched.onAdmitsChange = () => {
      endpoint.refreshUsable();
      this.zoneEndpoints.recount();
    };
    endpoint.pool = new ConnectionPool(address, poolOptions(this.settings), this.environment, {
      onStateChange: () => {
        const before = endpoint.usable;
        endpoint.refreshUsable();
        this.zoneEndpoints.recount();
        if (endpoint.pool.state === PoolState.ready) this.returns.onConnected(endpoint);
        if (endpoint.usable !== before) this.listener.onEndpointUsable(this, endpoint, endpoint.usable);
        this.onPoolState?.(endpoint);
      },
      onConnectFailed: (message, reason) => {
        this.count(this.connectFailures, reason);
        // The address may have changed: a new look-up costs little now.
        this.discovery?.refresh();
        this.listener.onConnectFailed(this, endpoint, message);
      },
      onTooManyPings: (timeMs) => this.listener.onTooManyPings?.(this, endpoint, timeMs),
    });
    return endpoint;
  }

  private retire(endpoint: Endpoint): void {
    endpoint.removed = true;
    for (const event of this.outliers.detector.remove(endpoint.watched, this.environment.clock())) {
      this.outliers.report(event);
    }
    endpoint.refreshUsable();
    this.leaving.add(endpoint, this.environment.clock());
    if (endpoint.activeCalls === 0) endpoint.pool.close();
  }

  /** For metrics: the present endpoints, and removed ones with calls now or recently. */
  *reportedEndpoints(): Generator<Endpoint> {
    yield* this.endpoints;
    yield* this.leaving.reported(this.environment.clock());
  }

  /** The present endpoints, and removed ones that still have calls, unless another one has their address by now. */
  *servingEndpoints(): Generator<Endpoint> {
    yield* this.endpoints;
    for (const endpoint of this.leaving.busy()) if (!this.byAddress.has(endpoint.address)) yield endpoint;
  }

  /** Returns the endpoint for the next attempt; undefined when there is none. */
  pick(key: CallKey<Endpoint>, nowMs: number): Endpoint | undefined {
    const { random } = this.environment;
    const picked =
      this.zoneEndpoints.pick(key, random, nowMs) ?? this.balancer.pick(this.endpoints, key, random, nowMs);
    if (picked === undefined) {
      // A call needs an endpoint that discovery has not found: it may exist by now.
      if (this.endpoints.length === 0 && !this.resolving) this.discovery?.refresh();
      return this.fallback(key, nowMs);
    }
    // A task that is sent again waits for the endpoint that may know it, unless that endpoint accepts no calls.
    const stays = !picked.pool.full || (key.hash !== 0 && !picked.pool.shut);
    return stays ? picked : (this.roomyBeside(picked, key.avoid) ?? picked);
  }

  /** Returns the least busy usable endpoint that has a free stream, or may have one soon. */
  roomyBeside(full: Endpoint, avoid: Endpoint | undefined): Endpoint | undefined {
    let best: Endpoint | undefined;
    for (const endpoint of this.endpoints) {
      if (endpoint === full || endpoint === avoid || !endpoint.usable || endpoint.pool.full) continue;
      if (best === undefined || endpoint.activeCalls < best.activeCalls) best = endpoint;
    }
    return best;
  }

  /**
   * The balancer can pick none: all are ejected, cooling down or in back-off. A call that may fail is better than one that
   * surely does, so it goes to the endpoint that returns first, except one that has just refused a connection.
   */
  private fallback(key: CallKey<Endpoint>, nowMs: number): Endpoint | undefined {
    let best: Endpoint | undefined;
    let bestRank = Number.POSITIVE_INFINITY;
    for (const endpoint of this.endpoints) {
      const backingOff = endpoint.pool.state === 'backingOff';
      const avoided = endpoint === key.avoid;
      if (backingOff && (avoided || !endpoint.pool.mayPanic(nowMs))) continue;
      const rank = fallbackRank(endpoint.watched, nowMs) + (backingOff ? 10 : 0) + (avoided ? 20 : 0);
      if (rank >= bestRank) continue;
      best = endpoint;
      bestRank = rank;
    }
    return best;
  }

  count(counters: Map<string, number>, what: string): void {
    const key = counters.size < MAX_COUNTED || counters.has(what) ? what : '_OTHER';
    counters.set(key, (counters.get(key) ?? 0) + 1);
  }

  /** The way to connect has changed: calls from now on go on new connections. */
  renewConnections(): void {
    for (const endpoint of this.endpoints) endpoint.pool.renew();
  }

  close(): void {
    this.discovery?.stop();
    this.outliers.close();
    this.returns.close();
    this.silence.close();
    this.setEndpoints([], []);
    this.resolved();
  }
}

function poolOptions(settings: ClusterSettings): PoolOptions {
  return {
    connectTimeoutMs: settings.connectTimeoutMs,
    maxConnections: settings.limits.maxConnections,
    maxPendingCalls: settings.limits.maxPendingCalls,
    keepalive: settings.keepalive,
  };
}
