/** Makes the balancer that a cluster's settings name. */
import type { Balancer, BalancerEndpoint, BalancerKind } from './balancer.ts';
import { LeastRequestBalancer } from './least-request.ts';
import { PeakEwmaBalancer } from './peak-ewma.ts';
import { RingHashBalancer } from './ring-hash.ts';
import { RoundRobinBalancer } from './round-robin.ts';

/** A balancer has state (a position, a ring): create one for each cluster. */
export function createBalancer<E extends BalancerEndpoint>(kind: BalancerKind): Balancer<E> {
  switch (kind) {
    case 'peak_ewma':
      return new PeakEwmaBalancer();
    case 'least_request':
      return new LeastRequestBalancer();
    case 'round_robin':
      return new RoundRobinBalancer();
    case 'ring_hash':
      return new RingHashBalancer();
    default:
      return kind satisfies never;
  }
}
