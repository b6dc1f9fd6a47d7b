/** Checks whether the local app serves. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import type { Cluster } from '../cluster.ts';
import { PoolState } from '../connection/pool-state.ts';
import type { Endpoint } from '../endpoint.ts';
import { grpcHealth } from './health-request.ts';
import { HealthProbe, type ProbeResult } from './probe.ts';

export type AppState = Exclude<ProbeResult, 'turned_away'> | 'unknown' | 'none';

const REQUEST = grpcHealth('');
/** How often we probe an app that says that it does not serve yet. */
const NOT_SERVING_INTERVAL_MS = 1_000;
/** How often we probe an app that can't be reached: first, and in the long run. Each time costs a refused connection. */
const ABSENT_INTERVAL_MS = 100;
const ABSENT_MAX_INTERVAL_MS = 500;
/** An app that was away for long may be noticed later: by a tenth of that time. */
const ABSENT_SHARE = 0.1;

/**
 * Checks whether the local app serves. It keeps a connection to the app, probes the app's own health service, and notifies
 * subscribers when the result changes.
 *
 *     unknown ──probe──▶ serving | no_health_service | busy     (healthy)
 *                  └───▶ not_serving | unreachable              (not healthy)
 *
 * When no app is configured the state is `none`: nothing is probed, and the answer to callers is that nothing serves here.
 */
export class AppHealth extends Timer {
  private readonly cluster: Cluster;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly listeners = new Set<(healthy: boolean) => void>();
  private readonly connectionListeners = new Set<() => void>();
  private options: { readonly intervalMs: number; readonly timeoutMs: number };
  private probe: HealthProbe | undefined = undefined;
  /** The probe before; a stopped app gets no further probe until it sends something. */
  private lastProbe: HealthProbe | undefined = undefined;
  /** `new` ──start()──▶ `watching` ──stop()──▶ `stopped`. */
  private phase: 'new' | 'watching' | 'stopped' = 'new';
  /** Whether the configuration names an app at all. */
  private configured = true;
  /** The endpoint that `state` describes. */
  private endpoint: Endpoint | undefined = undefined;
  private connected = false;
  state: AppState = 'unknown';
  /** Since when the endpoint can't be reached; undefined while it can. */
  private absentSinceMs: number | undefined = undefined;

  constructor(
    cluster: Cluster,
    wheel: TimerWheel,
    clock: () => number,
    options: { intervalMs: number; timeoutMs: number },
  ) {
    super();
    this.cluster = cluster;
    this.wheel = wheel;
    this.clock = clock;
    this.options = options;
    cluster.onPoolState = (endpoint) => this.onPoolState(endpoint);
  }

  get healthy(): boolean {
    return this.state === 'serving' || this.state === 'no_health_service' || this.state === 'busy';
  }

  start(): void {
    this.phase = 'watching';
    this.probeNow();
  }

  /** Applies new options. If the app is another one now, or none, it probes at once. */
  update(options: { intervalMs: number; timeoutMs: number }, configured: boolean): void {
    this.options = options;
    this.configured = configured;
    if (this.phase === 'watching' && this.cluster.endpoints[0] !== this.endpoint) this.probeNextTick();
  }

  stop(): void {
    this.phase = 'stopped';
    this.wheel.cancel(this);
    this.probe?.cancel();
    this.listeners.clear();
    this.connectionListeners.clear();
  }

  /** Calls the listener whenever the first connection to the app opens. */
  onConnected(listener: () => void): void {
    this.connectionListeners.add(listener);
  }

  /** @returns a function that unsubscribes */
  onChange(listener: (healthy: boolean) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  override onTimeout(): void {
    this.probeNow();
  }

  private probeNow(): void {
    if (this.phase === 'stopped') return;
    this.wheel.cancel(this);
    this.probe?.cancel();
    this.probe = undefined;
    const endpoint = this.cluster.endpoints[0];
    const silent = endpoint === this.endpoint && this.lastProbe?.stillSilent === true;
    if (endpoint !== this.endpoint) this.absentSinceMs = undefined;
    this.endpoint = endpoint;
    if (!this.configured) {
      this.found('none');
      return;
    }
    if (endpoint === undefined || silent) {
      this.found('unreachable');
      return;
    }
    this.connected = endpoint.pool.state === PoolState.ready;
    endpoint.pool.warm();
    const probe = new HealthProbe(endpoint, this.wheel, this.options.timeoutMs, REQUEST, (result) =>
      this.found(result === 'turned_away' ? 'unreachable' : result),
    );
    this.probe = probe;
    this.lastProbe = probe;
    probe.start(this.clock());
  }

  private found(state: AppState): void {
    if (this.phase === 'stopped') return;
    this.probe = undefined;
    const before = this.healthy;
    this.state = state;
    const nowMs = this.clock();
    if (state === 'unreachable') this.absentSinceMs ??= nowMs;
    else this.absentSinceMs = undefined;
    const { intervalMs } = this.options;
    // With the interval off, a healthy app is not probed again, but one that may be starting still is.
    const startingMs = this.startingIntervalMs(nowMs);
    const waitMs = startingMs === undefined ? intervalMs : Math.min(startingMs, intervalMs || startingMs);
    if (waitMs > 0 && state !== 'none') this.wheel.arm(this, nowMs + waitMs);
    if (this.healthy !== before) for (const listener of this.listeners) listener(this.healthy);
  }

  /**
   * How often we probe an app that may be starting; undefined for another. The interval of healthy apps would let callers
   * wait for an app that is there.
   */
  private startingIntervalMs(nowMs: number): number | undefined {
    if (this.state === 'not_serving') return NOT_SERVING_INTERVAL_MS;
    if (this.absentSinceMs === undefined) return undefined;
    const shareMs = (nowMs - this.absentSinceMs) * ABSENT_SHARE;
    return Math.min(Math.max(shareMs, ABSENT_INTERVAL_MS), ABSENT_MAX_INTERVAL_MS);
  }

  /** The connection to the app opened or closed: probe now, not at the next interval. */
  private onPoolState(endpoint: Endpoint): void {
    if (endpoint !== this.endpoint || this.phase === 'new') return;
    const connected = endpoint.pool.state === PoolState.ready;
    if (connected === this.connected) return;
    this.connected = connected;
    // A running probe notices the change itself.
    if (this.probe === undefined) this.probeNextTick();
    if (connected) for (const listener of this.connectionListeners) listener();
  }

  /** The pool that reports a change has not finished it yet, so the probe waits for the next tick. */
  private probeNextTick(): void {
    this.wheel.arm(this, this.clock());
  }
}
