// Clusters without sockets or time, for tests of the balancers.
import type { Balancer, BalancerEndpoint, BalancerKind } from '../../sidecar/cluster/balancer/balancer.ts';
import { createBalancer } from '../../sidecar/cluster/balancer/create-balancer.ts';
import { observeFailure, observeLatency, UNSEEN } from '../../sidecar/cluster/balancer/rtt.ts';
import { seededRandom } from './seeded-random.ts';

export interface TestEndpoint extends BalancerEndpoint {
  latencyMs: number;
  picked: number;
  mostActive: number;
  fails: boolean;
}

export function endpointAt(address: string, latencyMs = 10): TestEndpoint {
  const load = { usable: true, activeCalls: 0, weight: 1, picked: 0, mostActive: 0, fails: false };
  return { address, latencyMs, ...load, ...UNSEEN };
}

export function endpointsWith(latencies: readonly number[]): TestEndpoint[] {
  return latencies.map((latencyMs, i) => endpointAt(`10.0.${i >> 8}.${i & 255}:50051`, latencyMs));
}

/** A cluster on a virtual clock: calls arrive evenly, and each takes its endpoint's latency. */
export class Simulation {
  readonly balancer: Balancer;
  readonly endpoints: TestEndpoint[];
  readonly random: () => number;
  nowMs = 1000;
  private arrivals = 0;
  private readonly ends = new Map<number, (() => void)[]>();

  constructor(kind: BalancerKind, endpoints: TestEndpoint[], seed = 1) {
    this.balancer = createBalancer(kind);
    this.endpoints = endpoints;
    this.random = seededRandom(seed);
  }

  /** The share of each endpoint in the calls of `durationMs`. */
  run(callsPerMs: number, durationMs: number, keyOf: () => number = () => 0): number[] {
    for (const endpoint of this.endpoints) endpoint.picked = 0;
    const endMs = this.nowMs + durationMs;
    let calls = 0;
    for (; this.nowMs < endMs; this.nowMs++) {
      for (const end of this.ends.get(this.nowMs) ?? []) end();
      this.ends.delete(this.nowMs);
      for (this.arrivals += callsPerMs; this.arrivals >= 1; this.arrivals--) {
        if (this.call(keyOf())) calls++;
      }
    }
    return this.endpoints.map(({ picked }) => picked / calls);
  }

  private call(hash: number): boolean {
    const call = { hash, avoid: undefined };
    const endpoint = this.balancer.pick(this.endpoints, call, this.random, this.nowMs) as TestEndpoint;
    if (endpoint === undefined) return false;
    endpoint.picked++;
    endpoint.activeCalls++;
    endpoint.mostActive = Math.max(endpoint.mostActive, endpoint.activeCalls);
    const startMs = this.nowMs;
    const end = (): void => {
      endpoint.activeCalls--;
      const observe = endpoint.fails ? observeFailure : observeLatency;
      observe(endpoint, this.nowMs - startMs, this.nowMs);
    };
    const atMs = startMs + Math.max(1, Math.round(endpoint.latencyMs * (0.5 + this.random())));
    const others = this.ends.get(atMs);
    if (others === undefined) this.ends.set(atMs, [end]);
    else others.push(end);
    return true;
  }
}
