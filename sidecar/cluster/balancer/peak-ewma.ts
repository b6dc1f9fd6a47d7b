/**
 * Power of two choices by peak EWMA latency times calls in flight.
 *
 *     cost = decayed rtt × (active calls + 1) / weight
 *
 * `rtt.ts` makes the estimate.
 *
 * A stream counts as active until it ends. Linkerd stops counting at the first frame of the answer; an agent that
 * streams tokens is busy for minutes after it, and twenty such streams would look like an idle endpoint.
 */
import type { BalancerEndpoint } from './balancer.ts';
import { PowerOfTwoBalancer } from './power-of-two.ts';
import { ageMs, DECAY_MS, decayedRtt } from './rtt.ts';

export class PeakEwmaBalancer<E extends BalancerEndpoint = BalancerEndpoint> extends PowerOfTwoBalancer<E> {
  protected override cost(endpoint: BalancerEndpoint, nowMs: number): number {
    return (decayedRtt(endpoint, nowMs) * (endpoint.activeCalls + 1)) / endpoint.weight;
  }

  /**
   * A stale estimate has decayed to almost nothing, which shall attract one call and not all of them: from that call on
   * the estimate counts in full again, and decays anew if no answer arrives.
   */
  protected override chosen(endpoint: BalancerEndpoint, nowMs: number): void {
    if (ageMs(endpoint, nowMs) > DECAY_MS) endpoint.rttProbedAtMs = nowMs;
  }
}
