/**
 * Power of two choices by calls in flight alone: for equal endpoints, and calls whose latency says little about the
 * endpoint (it is the model's, or grows with the input).
 */
import type { BalancerEndpoint } from './balancer.ts';
import { PowerOfTwoBalancer } from './power-of-two.ts';

export class LeastRequestBalancer<
  E extends BalancerEndpoint = BalancerEndpoint,
> extends PowerOfTwoBalancer<E> {
  protected override cost(endpoint: BalancerEndpoint): number {
    return (endpoint.activeCalls + 1) / endpoint.weight;
  }
}
