/**
 * Choosing an endpoint for an attempt.
 *
 * Every balancer sees only this much of an endpoint, and `pick` allocates nothing: it runs once an attempt. An
 * endpoint that is not usable is never picked, and the one that failed the call before only when no other is.
 */
import type { RttState } from './rtt.ts';

export interface BalancerEndpoint extends RttState {
  /** Canonical `host:port` or `unix:path`; the ring is built from it. */
  readonly address: string;
  /** Not ejected, not cooling down, not in connection back-off. */
  usable: boolean;
  /** Attempts and streams that have not ended yet. */
  activeCalls: number;
  /** Share of the traffic relative to the others; 1 is usual, above 0. */
  weight: number;
}

/** What the balancers may know of a call. */
export interface CallKey {
  /** 32-bit hash of what the call should stick to (its task id, see `hashKey`); 0 for nothing. */
  hash: number;
  /** The endpoint of the attempt before. */
  avoid: BalancerEndpoint | undefined;
}

export interface Balancer {
  /** The endpoint for this attempt; undefined when none is usable. `random` gives [0, 1). */
  pick(
    endpoints: readonly BalancerEndpoint[],
    call: CallKey,
    random: () => number,
    nowMs: number,
  ): BalancerEndpoint | undefined;

  /** To be called when endpoints came, went or changed their weight. */
  update?(endpoints: readonly BalancerEndpoint[]): void;
}

export type BalancerKind = 'peak_ewma' | 'least_request' | 'round_robin' | 'ring_hash';
