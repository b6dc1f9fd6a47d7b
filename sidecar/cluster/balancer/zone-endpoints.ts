import type { Endpoint } from '../endpoint.ts';
import type { Balancer, BalancerKind, CallKey } from './balancer.ts';
import { createBalancer } from './create-balancer.ts';

/** Of the endpoints in our zone, so many must be usable for them to get all calls. */
const MIN_USABLE_SHARE = 0.5;

/**
 * The endpoints of a cluster that are in our own zone. They get all calls while at least half of them are usable;
 * otherwise all endpoints of the cluster do. A retry looks among all of them: what has failed nearby may work elsewhere.
 */
export class ZoneEndpoints {
  private endpoints: readonly Endpoint[] = [];
  private balancer: Balancer;
  /** Whether they get the calls now. */
  active = false;

  constructor(kind: BalancerKind) {
    this.balancer = createBalancer(kind);
  }

  use(kind: BalancerKind): void {
    this.balancer = createBalancer(kind);
    this.balancer.update?.(this.endpoints);
  }

  set(all: readonly Endpoint[], near: ReadonlySet<string>): void {
    this.endpoints = all.filter(({ address }) => near.has(address));
    this.balancer.update?.(this.endpoints);
    this.recount();
  }

  /** To be called when one has become usable, or is not any more. */
  recount(): void {
    const { endpoints } = this;
    if (endpoints.length === 0) {
      this.active = false;
      return;
    }
    let usable = 0;
    for (const endpoint of endpoints) if (endpoint.usable) usable++;
    this.active = usable > 0 && usable >= endpoints.length * MIN_USABLE_SHARE;
  }

  pick(key: CallKey, random: () => number, nowMs: number): Endpoint | undefined {
    if (!this.active || key.avoid !== undefined) return undefined;
    return this.balancer.pick(this.endpoints, key, random, nowMs) as Endpoint | undefined;
  }
}
