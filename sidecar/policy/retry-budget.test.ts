/** Tests that retries stay a small share of calls, however many fail. */

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { RetryBudget } from './retry-budget.ts';

const DEFAULTS = { percent: 20, minConcurrent: 3 };

/** Calls that all fail; each wants two retries, which fail as well. */
function failingTraffic(budget: RetryBudget, callsPerSecond: number, seconds: number, attemptMs: number) {
  let nowMs = 500_000;
  const ends: number[] = [];
  let calls = 0;
  let retries = 0;
  let mostInOneSecond = 0;
  let inThisSecond = 0;
  for (let i = 0; i < callsPerSecond * seconds; i++) {
    if (i % callsPerSecond === 0) inThisSecond = 0;
    while (ends.length > 0 && ends[0]! <= nowMs) {
      ends.shift();
      budget.release();
    }
    budget.countCall(nowMs);
    calls++;
    for (let attempt = 0; attempt < 2; attempt++) {
      if (!budget.tryAcquire(nowMs, 1 + Math.ceil((callsPerSecond * attemptMs) / 1000))) break;
      ends.push(nowMs + attemptMs);
      retries++;
      mostInOneSecond = Math.max(mostInOneSecond, ++inThisSecond);
    }
    nowMs += 1000 / callsPerSecond;
  }
  return { calls, retries, mostInOneSecond };
}

t.test('at one call a second, each call may use all its attempts', async (t) => {
  const { calls, retries } = failingTraffic(new RetryBudget(DEFAULTS), 1, 60, 5);
  t.strictSame({ calls, retries }, { calls: 60, retries: 120 });
});

t.test('a cluster that fails every call gets a fifth more attempts, and a few each second', async (t) => {
  for (const [callsPerSecond, attemptMs] of [
    [100, 1],
    [100, 2000],
    [1000, 1],
  ] as const) {
    const budget = new RetryBudget(DEFAULTS);
    const { calls, retries } = failingTraffic(budget, callsPerSecond, 60, attemptMs);
    const most = calls * 0.2 + 60 * 3;
    t.ok(retries <= most && retries > calls * 0.18, `${retries} retries of ${calls} calls; at most ${most}`);
    t.ok(budget.exhausted > 0);
  }
});

t.test("the budget's floor is a number at a time and a number each second", async (t) => {
  const floor = new RetryBudget({ percent: 0, minConcurrent: 3 });
  const took = (nowMs: number): boolean => floor.tryAcquire(nowMs, 1000);
  t.strictSame([took(10_000), took(10_000), took(10_100), took(10_200)], [true, true, true, false]);
  t.equal(floor.running, 3);
  t.notOk(took(20_000), 'a second later, too, as long as they run');
  floor.release();
  t.ok(took(20_000));
  floor.release();
  floor.release();
  t.ok(took(20_100));
  floor.release();
  t.ok(took(20_200));
  floor.release();
  t.notOk(took(20_300), 'three that fail at once are three a second');
  t.ok(took(21_300));
  t.equal(floor.exhausted, 3);

  const none = new RetryBudget({ percent: 0, minConcurrent: 0 });
  none.countCall(0);
  t.notOk(none.tryAcquire(0, 100), 'nothing allowed is nothing');
});

t.test('the budget measures a burst by the calls of the window, or by those in flight', async (t) => {
  const retries = (calls: number, atMs: number, callsInFlight: number): number => {
    const budget = new RetryBudget({ percent: 20, minConcurrent: 0 });
    for (let i = 0; i < calls; i++) budget.countCall(100_000);
    let count = 0;
    while (count < 1000 && budget.tryAcquire(atMs, callsInFlight)) {
      count++;
      // The retries end at once, but those that began in the window count all the same.
      budget.release();
    }
    return count;
  };
  t.equal(retries(300, 100_000, 30), 60, 'a crash after 10 s of 30 calls a second');
  t.equal(retries(300, 109_500, 30), 60);
  t.equal(retries(300, 110_000, 30), 6, 'what began ten seconds ago is forgotten');
  t.equal(retries(0, 100_000, 60), 12, 'streams of minutes, of which none began lately');

  const slow = new RetryBudget({ percent: 20, minConcurrent: 0 });
  for (let i = 0; i < 20; i++) slow.tryAcquire(100_000, 100);
  t.equal(slow.running, 20);
  t.notOk(slow.tryAcquire(200_000, 100), 'retries that run on keep their places');
  slow.release();
  t.ok(slow.tryAcquire(200_000, 100));
  slow.settings = { percent: 50, minConcurrent: 0 };
  t.ok(slow.tryAcquire(200_000, 100), 'new settings hold at once');
});

t.test('a budget takes back no more than it gave', async (t) => {
  const budget = new RetryBudget(DEFAULTS);
  budget.tryAcquire(0, 1);
  budget.release();
  t.throws(() => budget.release(), /released twice/);
  t.equal(budget.running, 0);
});

t.test('the budget decides as a list of all calls and retries would, for any traffic', async (t) => {
  const step = fc.record({
    waitMs: fc.oneof(fc.nat(20), fc.nat(500), fc.nat(5000), fc.nat(30_000)),
    calls: fc.nat(30),
    callsInFlight: fc.nat(60),
    tries: fc.nat(30),
    releases: fc.nat(30),
  });
  const settings = fc.record({ percent: fc.integer({ min: 0, max: 100 }), minConcurrent: fc.nat(5) });
  const answers = { yes: 0, no: 0 };
  const property = fc.property(
    settings,
    fc.array(step, { minLength: 20, maxLength: 100 }),
    (settings, steps) => {
      const budget = new RetryBudget(settings);
      const calls: number[] = [];
      const retries: number[] = [];
      const within = (seconds: number[], now: number, last: number): number =>
        seconds.filter((second) => second > now - last).length;
      let running = 0;
      let nowMs = 50_000;
      for (const step of steps) {
        nowMs += step.waitMs;
        const second = Math.floor(nowMs / 1000);
        for (let i = 0; i < step.calls; i++) {
          budget.countCall(nowMs);
          calls.push(second);
        }
        for (let i = 0; i < step.tries; i++) {
          const floor =
            running < settings.minConcurrent && within(retries, second, 1) < settings.minConcurrent;
          const used = Math.max(within(retries, second, 10), running);
          const asked = Math.max(within(calls, second, 10), step.callsInFlight);
          const share = used * 100 < settings.percent * asked;
          const allowed = budget.tryAcquire(nowMs, step.callsInFlight);
          if (allowed !== (floor || share)) return false;
          answers[allowed ? 'yes' : 'no']++;
          if (!allowed) continue;
          retries.push(second);
          running++;
        }
        for (let i = 0; i < step.releases && running > 0; i++, running--) budget.release();
      }
      return budget.running === running;
    },
  );
  t.doesNotThrow(() => fc.assert(property, { numRuns: 100 }));
  t.ok(answers.yes > 1000 && answers.no > 1000, `${answers.yes} allowed, ${answers.no} not`);
});
