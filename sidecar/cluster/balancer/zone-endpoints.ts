/** Prefers the endpoints in our own zone while enough of them are usable. */
import type { Endpoint } from '../endpoint.ts';
import type { Balancer, BalancerKind, CallKey } from './balancer.ts';
import { createBalancer } from './create-balancer.ts';

/** At least this share of the endpoints in our zone must be usable for them to get all calls. */
const MIN_USABLE_SHARE = 0.5;

/**
 * The endpoints of a cluster in our own zone. They get all calls while at least half of them are usable; otherwise all
 * endpoints of the cluster get calls. A retry may go to any endpoint: a call that failed in our zone may work in another.
 */
export class ZoneEndpoints {
  private endpoints: readonly Endpoint[] = [];
  private balancer: Balancer<Endpoint>;
  /** Whether they get the calls now. */
  active = false;

  constructor(kind: BalancerKind) {
    this.balancer = createBalancer(kind);
  }

  use(kind: BalancerKind): void {
    this.balancer = createBalancer(kind);
    this.balancer.update?.(this.endpoints);
  }

  set(all: readonly Endpoint[], inZone: ReadonlySet<string>): void {
    this.endpoints = all.filter(({ address }) => inZone.has(address));
    this.balancer.update?.(this.endpoints);
    this.recount();
  }

  /** Call it when an endpoint became usable, or is no longer. */
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

  pick(key: CallKey<Endpoint>, random: () => number, nowMs: number): Endpoint | undefined {
    if (!this.active || key.avoid !== undefined) return undefined;
    return this.balancer.pick(this.endpoints, key, random, nowMs);
  }
}
