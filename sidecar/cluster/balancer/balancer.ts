/**
 * The interface of balancers, which choose an endpoint for each attempt.
 *
 * `pick` runs once an attempt and allocates nothing. It never picks an endpoint that is not usable, and picks the one that
 * failed the attempt before only when no other is usable.
 */
import type { RttState } from './rtt.ts';

export interface BalancerEndpoint extends RttState {
  /** Canonical `host:port` or `unix:path`; the ring hashes it. */
  readonly address: string;
  /** Not ejected, not cooling down, not in connection back-off. */
  usable: boolean;
  /** Attempts and streams that have not ended yet. */
  activeCalls: number;
  /** The share of the traffic relative to the others, above 0; 1 is usual. */
  weight: number;
}

/** The part of a call that balancers see. */
export interface CallKey<E extends BalancerEndpoint = BalancerEndpoint> {
  /** 32-bit hash of what the call should stick to (its task id, see `hashKey`); 0 for nothing. */
  hash: number;
  /** The endpoint of the attempt before. */
  avoid: E | undefined;
}

export interface Balancer<E extends BalancerEndpoint = BalancerEndpoint> {
  /** The endpoint for this attempt; undefined when none is usable. `random` gives [0, 1). */
  pick(endpoints: readonly E[], call: CallKey<E>, random: () => number, nowMs: number): E | undefined;

  /** Call it when endpoints were added or removed, or changed their weight. */
  update?(endpoints: readonly E[]): void;
}

export type BalancerKind = 'peak_ewma' | 'least_request' | 'round_robin' | 'ring_hash';
