// The window of outcomes, and the bounds of rates.
import t from 'tap';
import { seededRandom } from '../../../test/support/seeded-random.ts';
import { failuresNeeded } from './failures.ts';
import { highestRate, leastDifference, lowestRate, OutcomeWindow } from './rates.ts';

t.test('bounds are the extreme rates that fit the data', async (t) => {
  for (const [failures, calls] of [
    [0, 1],
    [1, 1],
    [0, 10],
    [3, 10],
    [10, 10],
    [17, 128],
  ] as const) {
    const rate = failures / calls;
    for (const bound of [lowestRate(failures, calls), highestRate(failures, calls)]) {
      t.ok(bound >= 0 && bound <= 1);
      // Wilson's interval by its definition: the data are 2.576 standard deviations of the bound away from the bound.
      const deviations = Math.abs(rate - bound) / Math.sqrt((bound * (1 - bound)) / calls);
      if (bound > 1e-9 && bound < 1 - 1e-9) t.ok(Math.abs(deviations - 2.576) < 1e-6, `${failures}/${calls}`);
    }
    t.ok(lowestRate(failures, calls) <= rate && rate <= highestRate(failures, calls));
  }
  t.strictSame([lowestRate(0, 0), highestRate(0, 0)], [0, 1], 'nothing is known without calls');
});

t.test('the test of a difference errs at most once in 200 cases, also with few calls', async (t) => {
  const random = seededRandom(5);
  const count = (calls: number, rate: number): number => {
    let failures = 0;
    for (let i = 0; i < calls; i++) if (random() < rate) failures++;
    return failures;
  };
  for (const [calls, others, rate] of [
    [5, 10, 0.02],
    [10, 30, 0.1],
    [30, 90, 0.3],
    [8, 8, 0.5],
    [128, 128, 0.9],
  ] as const) {
    let wrong = 0;
    for (let i = 0; i < 20_000; i++)
      if (leastDifference(count(calls, rate), calls, count(others, rate), others) > 0) wrong++;
    t.ok(wrong / 20_000 < 0.012, `${calls} and ${others} calls at ${rate}: ${wrong} of 20,000`);
  }
  t.ok(leastDifference(6, 12, 0, 22) > 0.1);
  t.ok(leastDifference(1, 2, 0, 6) < 0);
  t.equal(leastDifference(3, 3, 0, 0), -1);
});

t.test('a run must be longer when peers fail, too', async (t) => {
  t.strictSame(
    [0, 0.05, 0.1, 0.2, 0.5, 0.9, 1].map((rate) => failuresNeeded(3, rate)),
    [3, 3, 3, 5, 10, 66, Number.POSITIVE_INFINITY],
  );
});

t.test('the window forgets by age and by number', async (t) => {
  const window = new OutcomeWindow();
  const kept: { failed: boolean; atMs: number }[] = [];
  const random = seededRandom(9);
  let nowMs = 0;
  for (let i = 0; i < 5_000; i++) {
    nowMs += random() * 200;
    const failed = random() < 0.3;
    window.push(failed, nowMs);
    kept.push({ failed, atMs: nowMs });
    if (kept.length > 128) kept.shift();
    if (i % 3 === 0) {
      window.trim(nowMs, 5_000);
      while (kept.length > 0 && kept[0]!.atMs <= nowMs - 5_000) kept.shift();
    }
    if (i % 997 === 0) {
      window.clear();
      kept.length = 0;
    }
    const failures = kept.filter(({ failed }) => failed).length;
    if (window.calls !== kept.length || window.failures !== failures)
      t.fail(`${window.failures} of ${window.calls}, not ${failures} of ${kept.length}`);
  }
  t.ok(window.calls > 0);
  window.trim(nowMs + 5_000, 5_000);
  t.strictSame([window.calls, window.failures], [0, 0]);
});
