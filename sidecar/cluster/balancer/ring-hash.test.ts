// Consistent hashing: stability, spread and bounded loads.
import t from 'tap';
import {
  endpointAt,
  endpointsWith,
  Simulation,
  type TestEndpoint,
} from '../../../test/support/balancer-simulation.ts';
import type { CallKey } from './balancer.ts';
import { createBalancer } from './create-balancer.ts';
import { hashKey } from './ring.ts';

t.test('a key keeps its endpoint, and only the keys of one that leaves move', async (t) => {
  const keys = Array.from({ length: 5000 }, (_, i) => hashKey(`task-${i}`));
  const homesIn = (endpoints: TestEndpoint[]): string[] => {
    const balancer = createBalancer('ring_hash');
    balancer.update?.(endpoints);
    return keys.map((hash) => balancer.pick(endpoints, { hash, avoid: undefined }, () => 0, 1)!.address);
  };
  const all = endpointsWith(Array(20).fill(10));
  const before = homesIn(all);
  const twice = endpointsWith(Array(20).fill(10));
  twice[7]!.weight = 2;
  const share = homesIn(twice).filter((home) => home === all[7]!.address).length / keys.length;
  t.ok(share > 0.075 && share < 0.115, `${share} of the keys for two shares of 21`);
  t.strictSame(homesIn(endpointsWith(Array(20).fill(10))), before, 'another sidecar draws the same ring');
  const leaving = all[7]!.address;
  const after = homesIn(all.filter(({ address }) => address !== leaving));
  const moved = keys.filter((_, i) => before[i] !== after[i]);
  t.strictSame(
    moved,
    keys.filter((_, i) => before[i] === leaving),
  );
  const heirs = new Set(after.filter((_, i) => before[i] === leaving));
  t.ok(heirs.size >= 15, `its keys went to ${heirs.size} others, not to one`);

  // An endpoint that is unusable for a while moves its keys without a new ring.
  const balancer = createBalancer('ring_hash');
  all[7]!.usable = false;
  const during = keys.map((hash) => balancer.pick(all, { hash, avoid: undefined }, () => 0, 1)!.address);
  t.strictSame(during, after);
  all[7]!.usable = true;

  const joined = [...all, endpointAt('10.0.77.1:50051')];
  const grown = homesIn(joined);
  const gone = keys.filter((_, i) => grown[i] !== before[i]);
  t.ok(
    gone.every((key) => grown[keys.indexOf(key)] === '10.0.77.1:50051'),
    'who joins takes keys, and no others move',
  );
  t.ok(gone.length > 100 && gone.length < 500, `${gone.length} of 5,000 keys for the 21st`);
});

t.test(
  'ring_hash: a change of the array itself is noticed, and the same key retried goes elsewhere',
  async (t) => {
    const balancer = createBalancer('ring_hash');
    const endpoints = endpointsWith([10, 10, 10]);
    const call: CallKey = { hash: hashKey('task'), avoid: undefined };
    const home = balancer.pick(endpoints, call, () => 0, 1);
    const second = balancer.pick(endpoints, { ...call, avoid: home }, () => 0, 1);
    t.not(second, home);
    t.equal(
      balancer.pick(endpoints, { ...call, avoid: home }, () => 0, 1),
      second,
      'the same one each time',
    );
    endpoints.splice(endpoints.indexOf(home as TestEndpoint), 1);
    t.equal(
      balancer.pick(endpoints, call, () => 0, 1),
      second,
    );
    endpoints.length = 0;
    t.equal(
      balancer.pick(endpoints, call, () => 0, 1),
      undefined,
    );
  },
);

t.test('a popular key loads its endpoint to 1.25 times the mean, and no further', async (t) => {
  const endpoints = endpointsWith(Array(10).fill(100));
  const simulation = new Simulation('ring_hash', endpoints);
  const hot = hashKey('popular');
  // Nine of ten calls carry one key; 200 calls are in flight.
  const shares = simulation.run(2, 20_000, () => (simulation.random() < 0.9 ? hot : 0));
  const most = Math.max(...endpoints.map(({ mostActive }) => mostActive));
  t.ok(most <= 30, `at most ${most} in flight at one endpoint; 20 is the mean, 180 have the key`);
  t.ok(Math.max(...shares) < 0.14, 'nobody serves much more than a tenth');
  // The calls of a single task stay together.
  const quiet = new Simulation('ring_hash', endpointsWith(Array(10).fill(100)));
  t.equal(Math.max(...quiet.run(0.02, 10_000, () => hot)), 1);
});

t.test('the bound holds for a ring of 1,000 endpoints', async (t) => {
  const endpoints = endpointsWith(Array(1000).fill(50));
  const simulation = new Simulation('ring_hash', endpoints);
  let next = 0;
  simulation.run(200, 300, () => hashKey(`task-${next++ % 50}`));
  const most = Math.max(...endpoints.map(({ mostActive }) => mostActive));
  // 50 keys, 10,000 calls in flight: without a bound 50 endpoints would carry 200 each.
  t.ok(most <= 20, `${most} at most`);
  const many = endpointsWith(Array(20_000).fill(10));
  const used = new Set(
    Array.from({ length: 20_000 }, (_, i) => i).map((i) => {
      const call = { hash: hashKey(`${i}`), avoid: undefined };
      return simulation.balancer.pick(many, call, simulation.random, 1e6);
    }),
  );
  t.ok(used.size > 10_000, `${used.size} of 20,000 endpoints are on a ring of bounded size`);
});

t.test('hashKey spreads, is never 0, and reads a bounded part', async (t) => {
  const buckets = new Array(16).fill(0);
  for (let i = 0; i < 16_000; i++) {
    const hash = hashKey(`0192f7c1-0000-7000-8000-${i.toString(16).padStart(12, '0')}`);
    if (hash <= 0 || hash > 0xffffffff || !Number.isInteger(hash)) t.fail(`${hash}`);
    buckets[hash >>> 28]++;
  }
  t.ok(Math.min(...buckets) > 850 && Math.max(...buckets) < 1150, buckets.join());
  t.not(hashKey(''), 0);
  t.equal(hashKey('a'.repeat(256)), hashKey('a'.repeat(10_000_000)));
  t.not(hashKey('ab'), hashKey('ba'));
});
