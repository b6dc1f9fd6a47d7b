import type { StatusCode } from '../grpc/status.ts';
import type { BalancerEndpoint } from './balancer.ts';
import { type ConnectionPool, PoolState } from './connection-pool.ts';
import { UNSEEN } from './peak-ewma.ts';

/** One address of a cluster: its connections, its load, and what is known of its health. */
export class Endpoint implements BalancerEndpoint {
  readonly address: string;
  weight = 1;
  /** Attempts in flight; a stream counts until it ends. */
  activeCalls = 0;
  rttMs = UNSEEN.rttMs;
  rttAtMs = UNSEEN.rttAtMs;
  rttProbedAtMs = UNSEEN.rttProbedAtMs;
  /** Read by the balancer: the pool is not in back-off, and the endpoint is still part of the cluster. */
  usable = true;
  /** Discovery no longer names it: it finishes what it has. */
  removed = false;
  /** Attempts that ended, by gRPC status. */
  readonly attemptsByStatus = new Float64Array(17);
  pool!: ConnectionPool;

  constructor(address: string) {
    this.address = address;
  }

  /** Call whenever something that `usable` depends on has changed. */
  refreshUsable(): void {
    this.usable = !this.removed && this.pool.state !== PoolState.backingOff;
  }

  /** Why the endpoint is not usable, for `/clusters`. */
  get unusableBecause(): string | undefined {
    if (this.removed) return 'removed by discovery';
    if (this.pool.state === PoolState.backingOff) return `connecting failed: ${this.pool.lastFailure}`;
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
