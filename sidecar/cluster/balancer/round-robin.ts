/**
 * One after the other. It starts at a random place, or a fleet of sidecars that start together would walk in
 * step. Weights don't count.
 */
import type { Balancer, BalancerEndpoint, CallKey } from './balancer.ts';

export class RoundRobinBalancer implements Balancer {
  #next = -1;

  pick(
    endpoints: readonly BalancerEndpoint[],
    call: CallKey,
    random: () => number,
  ): BalancerEndpoint | undefined {
    const count = endpoints.length;
    if (count === 0) return undefined;
    if (this.#next < 0) this.#next = Math.floor(random() * count);
    let avoided = -1;
    let index = this.#next < count ? this.#next : 0;
    for (let step = 0; step < count; step++) {
      const endpoint = endpoints[index]!;
      const following = index + 1 < count ? index + 1 : 0;
      if (endpoint.usable) {
        if (endpoint !== call.avoid) {
          // Past the one taken, not one further than before: else an unusable endpoint's turn would go to its
          // successor each time, and that one would carry twice the load.
          this.#next = following;
          return endpoint;
        }
        avoided = index;
      }
      index = following;
    }
    return avoided < 0 ? undefined : endpoints[avoided];
  }
}
