/**
 * Picks the endpoints in turn. It starts at a random one, or sidecars that start together would pick the same ones at the
 * same time. It ignores weights.
 */
import type { Balancer, BalancerEndpoint, CallKey } from './balancer.ts';

export class RoundRobinBalancer<E extends BalancerEndpoint = BalancerEndpoint> implements Balancer<E> {
  private next = -1;

  pick(endpoints: readonly E[], call: CallKey<E>, random: () => number): E | undefined {
    const count = endpoints.length;
    if (count === 0) return undefined;
    if (this.next < 0) this.next = Math.floor(random() * count);
    let avoided = -1;
    let index = this.next < count ? this.next : 0;
    for (let step = 0; step < count; step++) {
      const endpoint = endpoints[index]!;
      const following = index + 1 < count ? index + 1 : 0;
      if (endpoint.usable) {
        if (endpoint !== call.avoid) {
          // Continue after the picked endpoint, not one further than before: else an unusable endpoint's turn would go
          // to its successor each time, which would get twice the load.
          this.next = following;
          return endpoint;
        }
        avoided = index;
      }
      index = following;
    }
    return avoided < 0 ? undefined : endpoints[avoided];
  }
}
