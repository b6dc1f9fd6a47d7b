// Tests the behaviour common to all balancers, and how each uses load and latency.
import t from 'tap';
import {
  endpointAt,
  endpointsWith,
  Simulation,
  type TestEndpoint,
} from '../../../test/support/balancer-simulation.ts';
import { seededRandom } from '../../../test/support/seeded-random.ts';
import type { Balancer, BalancerKind, CallKey } from './balancer.ts';
import { createBalancer } from './create-balancer.ts';
import { hashKey } from './ring.ts';
import { decayedRtt, observeFailure, observeLatency } from './rtt.ts';

const KINDS: readonly BalancerKind[] = ['peak_ewma', 'least_request', 'round_robin', 'ring_hash'];
const ANY: CallKey = { hash: 0, avoid: undefined };

function picks(balancer: Balancer, endpoints: TestEndpoint[], count: number, seed: number): number[] {
  const random = seededRandom(seed);
  const counts = endpoints.map(() => 0);
  for (let i = 0; i < count; i++) {
    counts[endpoints.indexOf(balancer.pick(endpoints, ANY, random, 1000) as TestEndpoint)]!++;
  }
  return counts;
}

for (const kind of KINDS) {
  t.test(
    `${kind} picks only usable endpoints, and that of the last attempt only when there is no other`,
    async (t) => {
      const random = seededRandom(11);
      for (const count of [0, 1, 2, 3, 7, 40, 1000]) {
        const balancer = createBalancer(kind);
        const endpoints = endpointsWith(Array(count).fill(10));
        for (const usableShare of [0, 0.001, 0.1, 0.5, 1]) {
          for (const endpoint of endpoints) endpoint.usable = random() < usableShare;
          // Keep at least one endpoint usable: the one chosen first may be the only one.
          if (usableShare > 0 && count > 0) endpoints[Math.floor(random() * count)]!.usable = true;
          const usable = endpoints.filter((endpoint) => endpoint.usable);
          for (let i = 0; i < 100; i++) {
            const avoid = i % 3 === 0 ? undefined : endpoints[Math.floor(random() * count)];
            const hash = i % 2 === 0 ? 0 : hashKey(`task-${i}`);
            const picked = balancer.pick(endpoints, { hash, avoid }, random, 1000 + i) as TestEndpoint;
            const where = `${count} endpoints, ${usable.length} usable`;
            if (usable.length === 0) {
              if (picked !== undefined) t.fail(`picked ${picked.address} of ${where}`);
            } else if (!usable.includes(picked)) t.fail(`${picked?.address} is not usable, ${where}`);
            else if (picked === avoid && usable.length > 1) t.fail(`picked what is to be avoided, ${where}`);
          }
        }
      }
      const endpoints = endpointsWith([10, 10]);
      const gone = endpointAt('10.9.9.9:1');
      endpoints[0]!.usable = endpoints[1]!.usable = false;
      const picked = createBalancer(kind).pick(endpoints, { hash: 7, avoid: gone }, random, 1000);
      t.equal(picked, undefined, 'an endpoint that has left the set is not picked');
    },
  );

  t.test(`${kind} gives equal endpoints equal shares, whatever their number`, async (t) => {
    for (const count of [2, 3, 10, 1000]) {
      const simulation = new Simulation(kind, endpointsWith(Array(count).fill(10)));
      const shares = simulation.run(count / 10, 20_000);
      const [least, most] = [Math.min(...shares) * count, Math.max(...shares) * count];
      // 2,000 calls each. The places on the ring are random, hence its wider margin.
      const margin = kind === 'ring_hash' ? 0.5 : 0.15;
      t.ok(least > 1 - margin && most < 1 + margin, `${count}: from ${least} to ${most} of the fair share`);
    }
  });
}

t.test('a slow endpoint of three gets much less, where latency or load counts', async (t) => {
  const slowShare = (kind: BalancerKind): number => {
    return new Simulation(kind, endpointsWith([10, 10, 500])).run(0.5, 60_000)[2]!;
  };
  const shares = KINDS.map(slowShare);
  t.comment(KINDS.map((kind, i) => `${kind} ${(shares[i]! * 100).toFixed(1)} %`).join(', '));
  t.ok(shares[0]! < 0.02, 'peak_ewma');
  t.ok(shares[1]! < 0.08, 'least_request');
  t.ok(shares[0]! > 0 && shares[1]! > 0, 'and is not forgotten');
  t.ok(shares[2]! > 0.32, 'round_robin does not look, which shows that the others do');
});

t.test('peak_ewma: the first slow answer turns the traffic away, and recovery brings it back', async (t) => {
  const endpoints = endpointsWith([10, 10, 10]);
  const simulation = new Simulation('peak_ewma', endpoints);
  const before = simulation.run(0.5, 5000)[2]!;
  t.ok(before > 0.3, `${before} while all are equal`);
  endpoints[2]!.latencyMs = 2000;
  simulation.run(0.5, 3100);
  const during = simulation.run(0.5, 5000)[2]!;
  t.ok(during < 0.01, `${during} while it is slow`);
  endpoints[2]!.latencyMs = 10;
  // 2,000 ms fall to 10 within 53 s, then a call finds the endpoint healthy.
  simulation.run(0.5, 60_000);
  const after = simulation.run(0.5, 20_000)[2]!;
  t.ok(after > 0.25, `${after} a minute after it recovered`);
});

t.test('peak_ewma: an endpoint that fails at once does not look like the fastest', async (t) => {
  const endpoints = endpointsWith([20, 20, 1]);
  const simulation = new Simulation('peak_ewma', endpoints);
  const healthy = simulation.run(0.5, 5000)[2]!;
  t.ok(healthy > 0.6, `${healthy} as long as it answers, being the fastest`);
  endpoints[2]!.fails = true;
  simulation.run(0.5, 100);
  const failing = simulation.run(0.5, 20_000)[2]!;
  t.ok(failing < 0.01, `${failing} while it refuses`);

  const once = new Simulation('peak_ewma', endpointsWith([10, 10, 10]));
  once.run(0.5, 5000);
  observeFailure(once.endpoints[0]!, 10, once.nowMs);
  const after = once.run(0.5, 15_000)[0]!;
  t.ok(after > 0.05, `${after} in the 15 s after a single failure`);
});

t.test('peak_ewma: streams count until they end', async (t) => {
  const endpoints = endpointsWith([10, 10, 10]);
  const simulation = new Simulation('peak_ewma', endpoints);
  simulation.run(0.5, 2000);
  endpoints[0]!.activeCalls += 20;
  const during = simulation.run(0.5, 10_000)[0]!;
  t.ok(during < 0.05, `${during} with twenty streams open`);
  endpoints[0]!.activeCalls -= 20;
  const after = simulation.run(0.5, 20_000)[0]!;
  t.ok(after > 0.28, `${after} after they ended`);
  // With two endpoints the balancer always compares both.
  const pair = new Simulation('peak_ewma', endpointsWith([10, 10]));
  pair.run(0.5, 1000);
  pair.endpoints[1]!.activeCalls += 20;
  t.ok(pair.run(0.5, 5000)[1]! < 0.05);
});

t.test('peak_ewma: a new endpoint gets one call at once, not all of them, and then its share', async (t) => {
  const endpoints = endpointsWith([1, 1, 1, 1]);
  const simulation = new Simulation('peak_ewma', endpoints);
  simulation.run(1, 5000);
  const newcomer = endpointAt('10.0.9.9:50051', 5000);
  endpoints.push(newcomer);
  simulation.run(1, 1000);
  t.ok(newcomer.picked >= 1, 'it gets a call though the others are fast');
  t.ok(newcomer.picked <= 3, `${newcomer.picked} of 1,000 calls before it has answered one`);
  const healthy = endpointAt('10.0.9.10:50051', 1);
  endpoints.push(healthy);
  const share = simulation.run(1, 5000)[5]!;
  t.ok(share > 0.15, `${share} for one that answers like the others`);
});

t.test('peak_ewma: a stale endpoint is tried by one call at a time', async (t) => {
  const [fast, stale] = endpointsWith([10, 10]) as [TestEndpoint, TestEndpoint];
  const balancer = createBalancer('peak_ewma');
  const random = seededRandom(2);
  observeLatency(stale, 10_000, 0);
  let probes = 0;
  for (let nowMs = 0; nowMs < 600_000; nowMs += 10) {
    observeLatency(fast, 10, nowMs);
    if (balancer.pick([fast, stale], ANY, random, nowMs) === stale) probes++;
  }
  // 10 s fall to 10 ms within 69 s; no answer ever arrives, so the next try follows after the same time.
  t.ok(probes >= 7 && probes <= 10, `${probes} calls in ten minutes`);
});

t.test('the estimate jumps up, falls slowly, and decays when no answer arrives', async (t) => {
  const [endpoint] = endpointsWith([10]) as [TestEndpoint];
  t.equal(decayedRtt(endpoint, 5), 0, 'nothing known and nothing sent: it is worth a try');
  observeLatency(endpoint, 100, 1000);
  t.equal(endpoint.rttMs, 100, 'the first answer counts as it is');
  observeLatency(endpoint, 900, 1000);
  t.equal(endpoint.rttMs, 900, 'a slower one at once');
  observeLatency(endpoint, 100, 1100);
  t.ok(endpoint.rttMs > 890 && endpoint.rttMs < 893, `${endpoint.rttMs}: a faster one little after 0.1 s`);
  observeLatency(endpoint, 100, 1100 + 100_000);
  t.ok(endpoint.rttMs < 101, 'and almost wholly after 100 s');
  const now = endpoint.rttMs;
  t.ok(Math.abs(decayedRtt(endpoint, 101_100 + 10_000) - now / Math.E) < 0.01);
  observeLatency(endpoint, 0, 500_000);
  t.ok(endpoint.rttMs > 0, 'no answer is so fast that it reads as never seen');
  observeLatency(endpoint, 50, 400_000);
  t.equal(endpoint.rttMs, 50, 'a clock that went back does no harm');
  observeFailure(endpoint, 1, 500_000);
  t.equal(endpoint.rttMs, 150, 'a refusal is not fast');
  observeFailure(endpoint, 7000, 500_000);
  t.equal(endpoint.rttMs, 7000, 'a slow failure is slow');
  for (let i = 0; i < 50; i++) observeFailure(endpoint, 1, 500_000);
  t.equal(endpoint.rttMs, 10_000);
});

t.test('the power of two choices overloads no endpoint of 1,000', async (t) => {
  const endpoints = endpointsWith(Array(1000).fill(10));
  for (let i = 0; i < 1000; i += 2) endpoints[i]!.usable = false;
  const simulation = new Simulation('least_request', endpoints);
  simulation.run(100, 500);
  const most = Math.max(...endpoints.map(({ mostActive }) => mostActive));
  t.ok(most <= 6, `at most ${most} at once where 2 is the mean; chance alone would reach 10`);
});

t.test(
  'of 1,000 endpoints few calls use a few, other sidecars others, and many calls all of them',
  async (t) => {
    for (const kind of ['peak_ewma', 'least_request'] as const) {
      const used = (callsPerMs: number, seed: number): Set<number> => {
        const simulation = new Simulation(kind, endpointsWith(Array(1000).fill(10)), seed);
        const shares = simulation.run(callsPerMs, 5_000);
        const most = Math.max(...simulation.endpoints.map(({ mostActive }) => mostActive));
        t.ok(most <= 6, `${kind}, ${callsPerMs * 10} in flight: ${most} at once at one endpoint`);
        return new Set(shares.flatMap((share, i) => (share > 0 ? [i] : [])));
      };
      const [one, other] = [used(0.3, 1), used(0.3, 2)];
      t.ok(
        one.size <= 40 && other.size <= 40,
        `${kind}, 3 in flight: ${one.size} and ${other.size} are used`,
      );
      t.equal([...one].filter((i) => other.has(i)).length, 0, 'each has its own');
      const few = used(5, 1).size;
      t.ok(few > 150 && few < 300, `${kind}, 50 in flight: ${few} are used`);
      t.equal(used(60, 1).size, 1000, `${kind}, 600 in flight`);
    }
  },
);

t.test('when nearly all of those in use become unusable, calls spread over all others', async (t) => {
  const endpoints = endpointsWith(Array(1000).fill(10));
  const simulation = new Simulation('peak_ewma', endpoints);
  const shares = simulation.run(0.2, 5_000);
  const spared = shares.findIndex((share) => share > 0);
  for (const [i, share] of shares.entries()) endpoints[i]!.usable = share === 0 || i === spared;
  const after = simulation.run(0.2, 5_000);
  const most = Math.max(...after);
  t.ok(most < 0.3, `${most} of the calls go to one endpoint`);
  t.ok(after.filter((share) => share > 0).length > 100);
});

t.test('an endpoint with twice the weight gets twice the calls', async (t) => {
  for (const kind of ['peak_ewma', 'least_request', 'ring_hash'] as const) {
    const endpoints = endpointsWith(Array(20).fill(10));
    for (const endpoint of endpoints.slice(0, 10)) endpoint.weight = 2;
    const shares = new Simulation(kind, endpoints).run(20, 5000);
    const heavy = shares.slice(0, 10).reduce((sum, share) => sum + share, 0);
    t.ok(heavy > 0.6 && heavy < 0.73, `${kind}: ${heavy}`);
  }
});

t.test('round_robin picks one endpoint after the other, from a random start', async (t) => {
  const endpoints = endpointsWith([10, 10, 10, 10]);
  const balancer = createBalancer('round_robin');
  const sequence = (count: number, call = ANY): number[] => {
    return Array.from({ length: count }, () => {
      return endpoints.indexOf(balancer.pick(endpoints, call, () => 0.6, 0) as TestEndpoint);
    });
  };
  t.strictSame(sequence(5), [2, 3, 0, 1, 2]);
  endpoints[0]!.usable = false;
  t.strictSame(sequence(6), [3, 1, 2, 3, 1, 2], "an unusable one's turn is not its successor's");
  t.strictSame(sequence(2, { hash: 0, avoid: endpoints[3] }), [1, 2]);
  endpoints.length = 2;
  t.strictSame(sequence(2), [1, 1], 'a smaller set does not confuse it');
  const starts = new Set<number>();
  for (let seed = 0; seed < 50; seed++) {
    const fresh = endpointsWith([1, 1, 1]);
    const later = createBalancer('round_robin');
    if (later.pick([], ANY, () => 0, 0) !== undefined) t.fail('picked from an empty set');
    starts.add(picks(later, fresh, 1, seed).indexOf(1));
  }
  t.equal(starts.size, 3);
});
