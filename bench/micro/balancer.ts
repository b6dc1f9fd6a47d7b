// Measures the choice of an endpoint, by kind of balancer and number of endpoints.
import type { BalancerEndpoint, BalancerKind } from '../../sidecar/cluster/balancer/balancer.ts';
import { createBalancer } from '../../sidecar/cluster/balancer/create-balancer.ts';
import { observeLatency, UNSEEN } from '../../sidecar/cluster/balancer/rtt.ts';
import { measure } from './measure.ts';

const CALLS = 1_000;
const KINDS: readonly BalancerKind[] = ['peak_ewma', 'least_request', 'round_robin', 'ring_hash'];

function endpointsOf(count: number): BalancerEndpoint[] {
  return Array.from({ length: count }, (_, i) => ({
    ...{ address: `10.0.${i >> 8}.${i & 255}:50051`, usable: true, activeCalls: 0, weight: 1 },
    ...UNSEEN,
  }));
}

for (const kind of KINDS) {
  for (const count of [1, 10, 1_000]) {
    const balancer = createBalancer(kind);
    const endpoints = endpointsOf(count);
    balancer.update?.(endpoints);
    let nowMs = 1_000;
    let hash = 1;
    const call = { hash, avoid: undefined };
    measure(`balancer: ${kind}, ${count} endpoints, pick and observe`, () => {
      for (let i = 0; i < CALLS; i++) {
        // A multiplicative generator: keys that are spread over all 32 bits.
        hash = Math.imul(hash, 48_271) >>> 0 || 1;
        call.hash = hash;
        const picked = balancer.pick(endpoints, call, Math.random, nowMs);
        if (picked === undefined) throw new Error('the balancer picked no endpoint');
        observeLatency(picked, 5 + (i & 3), nowMs);
        nowMs += 0.02;
      }
      return CALLS;
    });
  }
}
