/**
 * Consistent hashing with bounded loads.
 *
 *     a ring of 2^32 places, of which each endpoint owns about 100, spread by hash
 *     a call's key hashes to a place; the next owner clockwise gets the call, if it is usable and below its bound
 *
 * Calls with one key (a task id) go to the same endpoint, where a repeated task is joined or replayed. When an endpoint
 * is removed, only its keys move, to its neighbours on the ring, which are many because its places are spread. Every
 * sidecar draws the same ring from the same addresses.
 *
 * A popular key would overload its endpoint, so no endpoint carries more than 1.25 times its fair share of the calls in
 * flight. Above it, the call goes to the next owner (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded
 * Loads", 2016). The overflow of a key goes to the same neighbours each time, so it still reaches few endpoints.
 */
import type { Balancer, BalancerEndpoint, CallKey } from './balancer.ts';
import { mix, Ring } from './ring.ts';

const PLACES_PER_WEIGHT = 100;
/** The size of the whole ring: 4 MB. With more endpoints than fit at 100 places each, each has fewer. */
const MAX_PLACES = 262_144;
const LOAD_FACTOR = 1.25;
/** Four calls overload no endpoint; without this minimum an idle cluster would spread two calls of one task. */
const MIN_BOUND = 4;
/** After so many full places the sum must be stale; the least loaded endpoint seen gets the call. */
const MAX_FULL_PLACES = 512;
const SUM_LIFETIME_MS = 10;

export class RingHashBalancer<E extends BalancerEndpoint = BalancerEndpoint> implements Balancer<E> {
  private endpoints: readonly E[] = [];
  private count = 0;
  private ring = new Ring([]);
  /** How many calls in flight one unit of weight may have now. */
  private bound = MIN_BOUND;
  private sumAtMs = Number.NEGATIVE_INFINITY;
  private picksUntilSum = 0;

  /** Draws the ring anew; takes milliseconds for 1,000 endpoints. */
  update(endpoints: readonly E[]): void {
    this.endpoints = endpoints;
    this.count = endpoints.length;
    this.picksUntilSum = 0;
    let wanted = 0;
    for (const { weight } of endpoints) wanted += placesOf(weight, 1);
    const scale = Math.min(1, MAX_PLACES / wanted);
    this.ring = new Ring(endpoints.map(({ address, weight }) => [address, placesOf(weight, scale)]));
  }

  pick(endpoints: readonly E[], call: CallKey<E>, random: () => number, nowMs: number): E | undefined {
    if (endpoints !== this.endpoints || endpoints.length !== this.count) this.update(endpoints);
    if (this.count === 0) return undefined;
    if (this.picksUntilSum-- <= 0 || nowMs - this.sumAtMs >= SUM_LIFETIME_MS) this.sum(nowMs);
    // Mix the key's hash once more: it may come from a function that leaves the high bits unused.
    const { owners } = this.ring;
    let place = this.ring.placeAfter(call.hash === 0 ? Math.floor(random() * 2 ** 32) : mix(call.hash));
    let leastLoaded: E | undefined;
    let avoidIsUsable = false;
    for (let step = 0, full = 0; step < owners.length && full < MAX_FULL_PLACES; step++) {
      const endpoint = endpoints[owners[place]!]!;
      place = place + 1 < owners.length ? place + 1 : 0;
      if (!endpoint.usable) continue;
      if (endpoint === call.avoid) {
        avoidIsUsable = true;
        continue;
      }
      if (endpoint.activeCalls < Math.max(this.bound * endpoint.weight, MIN_BOUND)) return endpoint;
      full++;
      if (leastLoaded === undefined || endpoint.activeCalls < leastLoaded.activeCalls) leastLoaded = endpoint;
    }
    return leastLoaded ?? (avoidIsUsable ? call.avoid : undefined);
  }

  /**
   * The fair share needs the sum over all endpoints. The balancer sums again after a sixteenth as many picks as there are
   * endpoints: that costs each pick 16 additions and lets the share be wrong by a sixteenth of a call.
   */
  private sum(nowMs: number): void {
    let active = 0;
    let weight = 0;
    for (const endpoint of this.endpoints) {
      if (!endpoint.usable) continue;
      active += endpoint.activeCalls;
      weight += endpoint.weight;
    }
    this.bound = weight > 0 ? Math.ceil((LOAD_FACTOR * (active + 1)) / weight) : MIN_BOUND;
    this.sumAtMs = nowMs;
    this.picksUntilSum = this.count >> 4;
  }
}

function placesOf(weight: number, scale: number): number {
  return Math.max(1, Math.round(PLACES_PER_WEIGHT * weight * scale));
}
