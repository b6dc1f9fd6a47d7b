/** Detects that unreachable endpoints are back. */
import { type Backoff, backoffMs } from '../../clock/backoff.ts';
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { isSidecar } from '../../grpc/sidecar-settings.ts';
import { PoolState } from '../connection/pool-state.ts';
import { WANTED_BACKOFF } from '../connection/reconnect.ts';
import type { Endpoint } from '../endpoint.ts';
import { grpcHealth } from './health-request.ts';
import { HealthProbe } from './probe.ts';

export interface ReturnEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  /** All endpoints of the cluster. */
  endpoints(): readonly Endpoint[];
  /** Whether calls are rejected until an endpoint is back. */
  callsWait(nowMs: number): boolean;
  /** Whether the endpoint gives no sign of life on its connection: `silence-watch.ts` waits for one. */
  isAbsent(endpoint: Endpoint): boolean;
  /** The endpoint can be reached, and so can its app. */
  onBack(endpoint: Endpoint): void;
}

/** The back-off while other endpoints serve the calls. */
const UNHURRIED_BACKOFF: Backoff = { baseMs: 100, multiplier: 1.6, maxMs: 5_000 };
/** The most endpoints tried in one round; the next round continues after them. */
const MAX_TRIED = 16;
const PROBE_TIMEOUT_MS = 1_000;
const REQUEST = grpcHealth('');

/**
 * Tries to reach endpoints whose absence keeps calls from a cluster: the endpoint was ejected because it could not be
 * reached, or a circuit is open for that reason. Without calls nothing else would notice that it is back.
 *
 *     asleep ──wake()──▶ tries, with growing waits ──no endpoint is missed any more──▶ asleep
 *                          │
 *                          └── not connected: connect │ another sidecar: ask for its app │ else: it is back
 *
 * A sidecar can be reached while its app can't, so a connection to a sidecar proves nothing about its app.
 */
export class ReturnWatch extends Timer {
  private readonly environment: ReturnEnvironment;
  private readonly probes = new Map<Endpoint, HealthProbe>();
  private tries = 0;
  /** The endpoint that the next round begins with. */
  private next = 0;
  private closed = false;

  constructor(environment: ReturnEnvironment) {
    super();
    this.environment = environment;
  }

  /** Call it when an endpoint is missed, or a new one was added: it tries soon, and often at first. */
  wake(): void {
    if (this.closed) return;
    this.tries = 0;
    this.wait(WANTED_BACKOFF);
  }

  private wait(backoff: Backoff): void {
    const { wheel, clock, random } = this.environment;
    this.tries++;
    wheel.arm(this, clock() + backoffMs(backoff, this.tries, random()));
  }

  override onTimeout(nowMs: number): void {
    const { environment } = this;
    const callsWait = environment.callsWait(nowMs);
    const missed = environment.endpoints().filter((endpoint) => callsWait || isMissed(endpoint));
    if (missed.length === 0) return;
    // Arm first: a successful try can end the absence at once.
    this.wait(callsWait ? WANTED_BACKOFF : UNHURRIED_BACKOFF);
    for (let count = Math.min(missed.length, MAX_TRIED); count > 0; count--) {
      this.next = (this.next + 1) % missed.length;
      this.tryEndpoint(missed[this.next]!, nowMs);
    }
  }

  /** The endpoint's first connection is open. */
  onConnected(endpoint: Endpoint): void {
    const { clock } = this.environment;
    const nowMs = clock();
    if (isMissed(endpoint) || this.environment.callsWait(nowMs)) this.tryEndpoint(endpoint, nowMs);
  }

  private tryEndpoint(endpoint: Endpoint, nowMs: number): void {
    const { pool } = endpoint;
    if (pool.state !== PoolState.ready) pool.warm();
    else if (this.environment.isAbsent(endpoint)) return;
    else if (isSidecar(pool.connections[0]!.peer)) this.probeApp(endpoint, nowMs);
    else this.environment.onBack(endpoint);
  }

  private probeApp(endpoint: Endpoint, nowMs: number): void {
    const { probes, environment } = this;
    if (probes.has(endpoint)) return;
    const probe = new HealthProbe(endpoint, environment.wheel, PROBE_TIMEOUT_MS, REQUEST, (result) => {
      probes.delete(endpoint);
      if ((result === 'serving' || result === 'no_health_service') && !endpoint.removed)
        environment.onBack(endpoint);
    });
    probes.set(endpoint, probe);
    probe.start(nowMs);
  }

  close(): void {
    this.closed = true;
    this.environment.wheel.cancel(this);
    for (const probe of this.probes.values()) probe.cancel();
    this.probes.clear();
  }
}

function isMissed({ watched }: Endpoint): boolean {
  return watched.ejected && watched.unreachable;
}
