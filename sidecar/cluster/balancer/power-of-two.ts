/**
 * The power of two choices: draw two endpoints, take the one with the lower cost.
 *
 * Taking the cheapest of all would have to compare every endpoint, and would send every sidecar of a fleet to the same one
 * at once. Two random draws come close to the best balance without either (Mitzenmacher 2001). With very many endpoints
 * it draws only from some of them, see `aperture.ts`.
 */
import { Aperture } from './aperture.ts';
import type { Balancer, BalancerEndpoint, CallKey } from './balancer.ts';

/** With half of the endpoints ejected, 8 draws all miss once in 256; then a scan finds a usable one. */
const MAX_DRAWS = 8;

export abstract class PowerOfTwoBalancer<E extends BalancerEndpoint = BalancerEndpoint>
  implements Balancer<E>
{
  private readonly aperture = new Aperture();

  /** The cost of one more call at this endpoint; the balancer takes the lower one. */
  protected abstract cost(endpoint: BalancerEndpoint, nowMs: number): number;

  /** Called with the chosen endpoint when there was a choice. */
  protected chosen(_endpoint: BalancerEndpoint, _nowMs: number): void {}

  pick(endpoints: readonly E[], call: CallKey<E>, random: () => number, nowMs: number): E | undefined {
    const count = endpoints.length;
    if (count < 2) return endpoints[0]?.usable ? endpoints[0] : undefined;
    const aperture = this.aperture;
    const from = aperture.from(count, random);
    const width = aperture.width(count);
    const first = drawUsable(endpoints, from, width, call.avoid, -1, random);
    // The endpoint that failed the last attempt is better than none, if it is still in the set.
    if (first < 0) return call.avoid?.usable && endpoints.includes(call.avoid) ? call.avoid : undefined;
    const second = drawUsable(endpoints, from, width, call.avoid, first, random);
    const one = endpoints[first]!;
    const other = second < 0 ? one : endpoints[second]!;
    const endpoint = this.cost(other, nowMs) < this.cost(one, nowMs) ? other : one;
    aperture.chosen(endpoint.activeCalls > 0, count);
    this.chosen(endpoint, nowMs);
    return endpoint;
  }
}

/**
 * Returns the index of a usable endpoint that is neither `avoid` nor at `taken`; -1 when there is none. It is one of the
 * `width` endpoints from `from` on, unless hardly any of those is usable.
 */
function drawUsable(
  endpoints: readonly BalancerEndpoint[],
  from: number,
  width: number,
  avoid: BalancerEndpoint | undefined,
  taken: number,
  random: () => number,
): number {
  const count = endpoints.length;
  // The second of two needs no random draw.
  const draws = taken >= 0 && count === 2 ? 0 : MAX_DRAWS;
  let index = 0;
  for (let draw = 0; draw < draws; draw++) {
    index = from + Math.floor(random() * width);
    if (index >= count) index -= count;
    if (index !== taken && isCandidate(endpoints[index]!, avoid)) return index;
  }
  if (width < count) return drawUsable(endpoints, 0, count, avoid, taken, random);
  for (let step = 0; step < count; step++) {
    index = index + 1 < count ? index + 1 : 0;
    if (index !== taken && isCandidate(endpoints[index]!, avoid)) return index;
  }
  return -1;
}

function isCandidate(endpoint: BalancerEndpoint, avoid: BalancerEndpoint | undefined): boolean {
  return endpoint.usable && endpoint !== avoid;
}
