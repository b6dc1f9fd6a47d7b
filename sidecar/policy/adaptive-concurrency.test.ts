/** Tests the adaptive limit of concurrent calls against simulated agents, on a virtual clock. */

import t from 'tap';
import { EventQueue } from '../../scripts/harness/event-queue.ts';
import fc from '../../scripts/harness/properties.ts';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { AdaptiveConcurrency } from './adaptive-concurrency.ts';

const SETTINGS = { min: 3, max: 1_000 };

/** An agent that runs `capacity(now)` calls at once; more calls share its time. */
interface Agent {
  readonly serviceMs: (nowMs: number) => number;
  readonly capacity: number;
  /** Arriving calls per second. */
  readonly rate: (nowMs: number) => number;
  readonly sigma: number;
  readonly durationMs: number;
}

function simulate(agent: Agent, settings = SETTINGS, seed = 1) {
  const random = seededRandom(seed);
  const events = new EventQueue();
  const adaptive = new AdaptiveConcurrency(settings);
  let nowMs = 0;
  let inFlight = 0;
  let done = 0;
  const limits: { atMs: number; limit: number }[] = [];
  const arrive = (): void => {
    events.at(nowMs + (-Math.log(1 - random()) * 1_000) / agent.rate(nowMs), arrive);
    if (inFlight >= adaptive.limit) return;
    inFlight++;
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const startMs = nowMs;
    const slowdown = Math.max(inFlight / agent.capacity, 1);
    events.at(nowMs + agent.serviceMs(nowMs) * Math.exp(agent.sigma * normal) * slowdown, () => {
      if (adaptive.record(nowMs - startMs, inFlight)) limits.push({ atMs: nowMs, limit: adaptive.limit });
      inFlight--;
      done++;
    });
  };
  events.at(0, arrive);
  while (events.nextAtMs <= agent.durationMs) {
    nowMs = events.nextAtMs;
    events.runNext();
  }
  const mean = (fromMs: number, toMs = agent.durationMs): number => {
    const between = limits.filter(({ atMs }) => atMs >= fromMs && atMs < toMs);
    return between.reduce((sum, { limit }) => sum + limit, 0) / between.length;
  };
  return { adaptive, limits, mean, done };
}

t.test('under overload the limit settles at what the agent can do', async (t) => {
  for (const [name, capacity, serviceMs, sigma] of [
    ['steady, 100 ms', 40, 100, 0],
    ['a model, 3 s', 10, 3_000, 0.5],
    ['a varying model, 3 s', 40, 3_000, 0.8],
    ['a large agent', 200, 1_000, 0.5],
  ] as const) {
    const rate = (5 * capacity * 1_000) / serviceMs;
    const durationMs = 400 * serviceMs;
    const { mean, limits } = simulate({
      serviceMs: () => serviceMs,
      capacity,
      rate: () => rate,
      sigma,
      durationMs,
    });
    const late = mean(durationMs / 2);
    const most = Math.max(...limits.filter(({ atMs }) => atMs > durationMs / 2).map(({ limit }) => limit));
    t.comment(`${name}: limit ${late.toFixed(0)} (at most ${most}) at a capacity of ${capacity}`);
    t.ok(late > capacity * 0.9, `${name}: ${late} keeps it busy`);
    t.ok(late < capacity * 2.5, `${name}: ${late} does not drown it`);
  }
});

t.test('lasting overload does not raise the limit', async (t) => {
  const { mean } = simulate({
    serviceMs: () => 1_000,
    capacity: 20,
    rate: () => 100,
    sigma: 0.5,
    durationMs: 4 * 3_600_000,
  });
  const first = mean(600_000, 3_600_000);
  const last = mean(3 * 3_600_000);
  t.comment(`limit ${first.toFixed(1)} in the first hour, ${last.toFixed(1)} in the fourth`);
  t.ok(last < first * 1.25, `${first} → ${last}`);
});

t.test('the limit learns a model that stays slower', async (t) => {
  const changeAtMs = 600_000;
  const { mean, adaptive } = simulate({
    serviceMs: (nowMs) => (nowMs < changeAtMs ? 1_000 : 4_000),
    capacity: 20,
    rate: () => 60,
    sigma: 0.5,
    durationMs: 2 * 3_600_000,
  });
  t.comment(`limit ${mean(300_000, changeAtMs).toFixed(0)}, then ${mean(3_600_000).toFixed(0)}`);
  t.ok(mean(3_600_000) > 18, 'as many at once as before');
  t.ok(adaptive.unhurriedMs > 2_500);
});

t.test('the limit starts quickly, and does not grow while it is not in use', async (t) => {
  const usual = { serviceMs: () => 3_000, capacity: 1e9, rate: () => 30, sigma: 0.5 };
  const start = simulate({ ...usual, durationMs: 600_000 });
  const soon = start.limits.find(({ limit }) => limit >= 24)!.atMs;
  t.comment(`a limit of 24 after ${Math.round(soon / 1000)} s, calls take 3 s`);
  t.ok(soon < 40_000);
  t.ok(start.mean(300_000) > 100, `${start.mean(300_000)}: the 100 that come are let in`);

  const idle = simulate({
    serviceMs: () => 1_000,
    capacity: 1_000,
    rate: () => 2,
    sigma: 1,
    durationMs: 4 * 3_600_000,
  });
  const limits = idle.limits.filter(({ atMs }) => atMs > 600_000).map(({ limit }) => limit);
  t.comment(`3 in use: limits from ${Math.min(...limits)} to ${Math.max(...limits)}`);
  t.ok(Math.max(...limits) < 50 && Math.min(...limits) >= 8);
});

t.test('drops lower the limit once in a window, within its bounds', async (t) => {
  const adaptive = new AdaptiveConcurrency(SETTINGS);
  const window = (calls: number) => {
    for (let i = 0; i < calls; i++) adaptive.record(100, adaptive.limit);
    return adaptive.limit;
  };
  t.strictSame([window(10), window(10), window(10)], [6, 12, 24], 'a start');
  for (let i = 0; i < 5; i++) adaptive.recordDrop(20);
  t.equal(adaptive.limit, 21);
  t.equal(window(21), 21, 'no growth in that window');
  t.equal(window(21), 23, 'half a root of growth in the next');
  t.throws(() => new AdaptiveConcurrency({ min: 3, max: 2 }), /min <= max/);
  t.throws(() => new AdaptiveConcurrency({ min: 0, max: 10 }), /1 <= min/);
  const event = fc.record({ drop: fc.boolean(), durationMs: fc.nat(100_000), inFlight: fc.nat(200) });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 2_000 }), (happened) => {
      const limited = new AdaptiveConcurrency({ min: 3, max: 50 });
      for (const { drop, durationMs, inFlight } of happened) {
        if (drop) limited.recordDrop(inFlight);
        else limited.record(durationMs, inFlight);
        const { limit } = limited;
        if (!(Number.isInteger(limit) && limit >= 3 && limit <= 50)) throw new Error(`limit ${limit}`);
      }
    }),
  );
});
