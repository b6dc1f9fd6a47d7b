/** One endpoint of a cluster, as balancer, pool and outlier detection share it. */
import type { StatusCode } from '../grpc/status.ts';
import type { BalancerEndpoint } from './balancer/balancer.ts';
import { UNSEEN } from './balancer/rtt.ts';
import type { ConnectionPool } from './connection/pool.ts';
import { PoolState } from './connection/pool-state.ts';
import type { WatchedEndpoint } from './outlier/watched-endpoint.ts';

/** One address of a cluster, with its connections, its load and its health. */
export class Endpoint implements BalancerEndpoint {
  readonly address: string;
  /** When discovery first named it, by the cluster's clock. */
  readonly addedAtMs: number;
  weight = 1;
  /** Attempts in flight; a stream counts until it ends. */
  activeCalls = 0;
  rttMs = UNSEEN.rttMs;
  rttAtMs = UNSEEN.rttAtMs;
  rttProbedAtMs = UNSEEN.rttProbedAtMs;
  /** For the balancer: not ejected, not cooling down, not in connection back-off, still part of the cluster. */
  usable = true;
  /** Discovery no longer names it: it only finishes its calls. */
  removed = false;
  /** Attempts that ended, by gRPC status. */
  readonly attemptsByStatus = new Float64Array(17);
  /** Its sidecar runs a task of at most this size once, however often it is sent; 0 when it announced no such size. */
  tasksOnceMaxBytes = 0;
  /** The encodings of compressed requests for which it does so (bits: `grpc/message-encoding.ts`). */
  tasksOnceEncodings = 0;
  pool!: ConnectionPool;
  /** Ejection, probation and cooldown: the outlier detector's view of this endpoint. */
  readonly watched: WatchedEndpoint;

  constructor(address: string, watched: WatchedEndpoint, addedAtMs = 0) {
    this.address = address;
    this.watched = watched;
    this.addedAtMs = addedAtMs;
  }

  /** Call it whenever something that `usable` depends on has changed. */
  refreshUsable(): void {
    this.usable = !this.removed && this.pool.state !== PoolState.backingOff && this.watched.admits;
  }

  /** Why the endpoint is not usable, for `/clusters`. */
  get unusableBecause(): string | undefined {
    if (this.removed) return 'removed: discovery no longer names it';
    if (this.pool.state === PoolState.backingOff) return `connecting failed: ${this.pool.lastFailure}`;
    if (this.pool.shut) return 'it takes no calls: its SETTINGS_MAX_CONCURRENT_STREAMS is 0';
    const { watched } = this;
    if (watched.ejected) return `ejected (${watched.reason}): ${watched.detail}`;
    if (watched.cooling) return 'cooling down: it answered RESOURCE_EXHAUSTED';
    if (!watched.admits)
      return `back from an ejection (${watched.reason}): its probes have not been answered yet`;
    return undefined;
  }

  attemptStarted(): void {
    this.activeCalls++;
  }

  attemptEnded(status: StatusCode): void {
    this.activeCalls--;
    this.attemptsByStatus[status]!++;
    if (this.removed && this.activeCalls === 0) this.pool.close();
  }
}
