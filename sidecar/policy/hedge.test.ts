/** Tests when a call gets a second attempt beside the first. */
import t from 'tap';
import { decideHedge, type HedgeCall, hedgeAfterFailureMs, hedgeDelayMs } from './hedge.ts';
import type { HedgeSettings } from './hedge-settings.ts';
import { LatencyPercentiles } from './percentile.ts';
import { RetryBudget } from './retry-budget.ts';

const SETTINGS: HedgeSettings = { delayMs: 50, percentile: 0, maxExtra: 1 };
const SLOW_CALL: HedgeCall = {
  extra: 0,
  responseStarted: false,
  requestWhole: true,
  timeLeftMs: 10_000,
  usualLatencyMs: 200,
  circuitAllows: true,
  freeEndpoints: 2,
  pushbackMs: undefined,
  callsInFlight: 10,
};

t.test('a hedge needs all of its conditions', async (t) => {
  const cases: [Partial<HedgeCall>, string][] = [
    [{}, 'send'],
    [{ timeLeftMs: Number.POSITIVE_INFINITY, usualLatencyMs: 0 }, 'send'],
    [{ pushbackMs: 500 }, 'send'],
    [{ responseStarted: true }, 'answered'],
    [{ extra: 1 }, 'max_extra'],
    [{ pushbackMs: -1 }, 'pushback'],
    [{ circuitAllows: false }, 'circuit'],
    [{ requestWhole: false }, 'request_dropped'],
    [{ freeEndpoints: 0 }, 'no_endpoint'],
    [{ timeLeftMs: 200 }, 'deadline'],
    [{ timeLeftMs: 201 }, 'send'],
    [{ timeLeftMs: 0, usualLatencyMs: 0 }, 'deadline'],
  ];
  for (const [call, expected] of cases) {
    const budget = new RetryBudget({ percent: 20, minConcurrent: 3 });
    t.equal(decideHedge(SETTINGS, { ...SLOW_CALL, ...call }, budget, 0), expected, JSON.stringify(call));
    t.equal(budget.running, expected === 'send' ? 1 : 0, 'and takes a place in the budget only then');
  }
  const budget = new RetryBudget({ percent: 0, minConcurrent: 1 });
  t.equal(decideHedge(SETTINGS, SLOW_CALL, budget, 0), 'send');
  t.equal(decideHedge(SETTINGS, SLOW_CALL, budget, 0), 'budget_exhausted');
});

t.test('a hedge starts after the delay, or after the usual time of an answer', async (t) => {
  const latency = new LatencyPercentiles();
  const never = Number.POSITIVE_INFINITY;
  const delay = (settings: Partial<HedgeSettings>) => hedgeDelayMs({ ...SETTINGS, ...settings }, latency);
  t.equal(delay({}), 50);
  t.equal(delay({ delayMs: 0 }), never, '0 is off');
  t.equal(delay({ maxExtra: 0 }), never);
  t.equal(delay({ percentile: 95 }), 50, 'nothing is known yet');
  t.equal(delay({ delayMs: 0, percentile: 95 }), never, 'and nothing guessed');
  for (let i = 1; i <= 100; i++) latency.record(i * 10, 0);
  t.equal(delay({}), 50);
  t.equal(delay({ percentile: 95 }), latency.at(95));
  t.ok(latency.at(95) >= 950 && latency.at(95) < 1040);
  t.equal(delay({ delayMs: 5000, percentile: 95 }), 5000, 'the fixed delay is the least');
  t.strictSame([undefined, 0, 250, -1].map(hedgeAfterFailureMs), [0, 0, 250, never]);
});

t.test('percentiles are right to 9 % for any distribution', async (t) => {
  let seed = 7;
  const random = (): number => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2147483647;
  };
  for (const sample of [
    () => 1 + random() * 9,
    () => 20_000 + random() * 40_000,
    () => 5 * Math.exp(3 * random()) ** 2,
    () => (random() < 0.9 ? 3 : 3000),
  ]) {
    const latency = new LatencyPercentiles();
    const all = Array.from({ length: 2000 }, sample);
    for (const ms of all) latency.record(ms, 0);
    all.sort((a, b) => a - b);
    for (const percent of [1, 50, 90, 95, 99, 100]) {
      const exact = all[Math.ceil((percent / 100) * all.length) - 1]!;
      const ratio = latency.at(percent) / exact;
      t.ok(ratio >= 1 && ratio <= 2 ** (1 / 8), `${percent} %: ${latency.at(percent)} for ${exact}`);
    }
  }
});

t.test('old percentiles stay until there are new ones', async (t) => {
  const latency = new LatencyPercentiles();
  t.equal(latency.at(50), 0);
  for (let i = 0; i < 19; i++) latency.record(100, 1000);
  t.equal(latency.at(50), 0, 'too few to say');
  latency.record(100, 1000);
  const before = latency.at(50);
  t.ok(before >= 100 && before < 110);
  // A quiet hour, then answers that take ten times as long.
  for (let i = 0; i < 19; i++) latency.record(1000, 3_600_000 + i);
  t.equal(latency.at(50), before, 'half of what is known is old');
  for (let i = 0; i < 10; i++) latency.record(1000, 3_600_100);
  t.ok(latency.at(50) > 900);
  for (let i = 0; i < 30; i++) latency.record(1000, 3_700_000);
  for (let i = 0; i < 30; i++) latency.record(1000, 3_800_000);
  t.ok(latency.at(1) > 900, 'two periods later nothing is left of it');
  t.equal(latency.count, 60);

  const rare = new LatencyPercentiles();
  for (let i = 0; i < 20; i++) rare.record(100, 1000);
  for (let i = 1; i < 20; i++) rare.record(100, 1000 + i * 300_000);
  t.equal(rare.at(50), before, 'a call every five minutes does not lose what is known');
});

t.test('every latency counts, however odd', async (t) => {
  const latency = new LatencyPercentiles();
  for (const ms of [0, -5, Number.NaN, 1e-9]) for (let i = 0; i < 5; i++) latency.record(ms, 0);
  t.ok(latency.at(100) < 0.3);
  for (const ms of [Number.POSITIVE_INFINITY, 1e12]) for (let i = 0; i < 10; i++) latency.record(ms, 0);
  t.ok(latency.at(100) > 3_600_000);
  t.equal(latency.count, 40);
});
