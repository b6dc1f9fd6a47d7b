// The parts of `npm run load` that need no target.

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { linearAxis, logAxis, percentileAxis } from '../../scripts/reports/chart.ts';
import {
  formatDuration,
  formatMs,
  formatPercent,
  parseDuration,
  parsePercent,
} from '../../scripts/reports/units.ts';
import { Histogram } from './histogram.ts';
import { progressBar, progressLine } from './progress.ts';
import { Recorder } from './recorder.ts';
import { callsDue, dueMs, totalCalls } from './schedule.ts';

t.test('percentiles are never below the true ones, and at most 0.8 % above', async (t) => {
  const times = fc.array(
    fc.oneof(fc.double({ min: 0, max: 5, noNaN: true }), fc.double({ min: 0, max: 4e6, noNaN: true })),
    { minLength: 1, maxLength: 300 },
  );
  fc.assert(
    fc.property(times, fc.constantFrom(50, 75, 90, 99, 99.9, 100), (values, percent) => {
      const histogram = new Histogram();
      for (const value of values) histogram.record(value);
      const sorted = values.toSorted((a, b) => a - b);
      const truth = sorted[Math.max(1, Math.ceil((percent / 100) * values.length - 1e-9)) - 1]!;
      const found = histogram.percentile(percent)!;
      // Half a microsecond is rounding.
      return found >= truth - 0.0006 && found <= truth * 1.0079 + 0.0006;
    }),
    { numRuns: 500 },
  );
  const empty = new Histogram();
  t.strictSame(empty.summary(), { count: 0 });
  t.strictSame(empty.curve(), []);
  empty.record(-1);
  empty.record(1e12);
  t.match(empty.summary(), { count: 2, min: 0, max: 1e12 }, 'the histogram ignores invalid values');
});

t.test('the percentile curve rises, and ends where no call stands for a point', async (t) => {
  const histogram = new Histogram();
  for (let i = 1; i <= 1000; i++) histogram.record(i);
  const curve = histogram.curve();
  t.equal(curve[0]![0], 0);
  t.ok(curve.at(-1)![0] <= 99.9 + 1e-9);
  for (let i = 1; i < curve.length; i++) {
    t.ok(curve[i]![0] > curve[i - 1]![0]);
    t.ok(curve[i]![1] >= curve[i - 1]![1]);
  }
});

t.test('each call is due at its own time, and exactly once', async (t) => {
  const schedules = fc.record({
    ratePerSecond: fc.double({ min: 0.1, max: 5000, noNaN: true }),
    warmupMs: fc.integer({ min: 0, max: 3000 }),
    durationMs: fc.integer({ min: 1, max: 10_000 }),
  });
  fc.assert(
    fc.property(schedules, fc.integer({ min: 0, max: 14_000 }), (schedule, elapsedMs) => {
      const due = callsDue(schedule, elapsedMs);
      const total = totalCalls(schedule);
      const endMs = schedule.warmupMs + schedule.durationMs;
      if (due > total || (elapsedMs >= endMs && due !== total)) return false;
      if (due > 0 && dueMs(schedule, due - 1) > elapsedMs + 1e-5) return false;
      return due === total || dueMs(schedule, due) > elapsedMs - 1e-5;
    }),
    { numRuns: 1000 },
  );
  const schedule = { ratePerSecond: 40, warmupMs: 500, durationMs: 2000 };
  t.equal(totalCalls(schedule), 100);
  t.equal(callsDue(schedule, -1), 0);
});

t.test(
  'neither the length of a run nor names that a target chooses grow the memory without bound',
  async (t) => {
    const day = new Recorder({ ratePerSecond: 1, warmupMs: 0, durationMs: 24 * 3_600_000 });
    t.equal(day.intervals.length, 300);
    t.equal(day.intervalMs, 288_000);
    for (let i = 0; i < 1000; i++)
      day.onEnd({ dueMs: i, sentMs: i }, i + 1, {
        outcome: 'UNAVAILABLE',
        reason: `${i}${'x'.repeat(5000)}`,
        message: '\u001b[2Jx'.repeat(5000),
      });
    t.ok(day.reasons.size <= 41);
    t.equal(
      [...day.reasons.values()].reduce((sum, count) => sum + count),
      1000,
    );
    t.ok([...day.reasons.keys()].every((name) => name.length <= 64));
    const { example } = day.outcomes.get('UNAVAILABLE')!;
    t.ok(example.length <= 200);
    t.notMatch(example, /\p{Cc}/u);
  },
);

t.test('the progress bar fits its terminal, and shows the counts', async (t) => {
  const schedule = { ratePerSecond: 10, warmupMs: 2000, durationMs: 30_000 };
  const progress = { elapsedMs: 17_000, schedule, inFlight: 3, ok: 1500, failed: 2, p50: 1.234, p99: 45.6 };
  t.equal(
    progressBar(progress, 200),
    '[███████████░░░░░░░░░] 15s/30s 1,500 ok, 2 failed, 3 in flight, p50 1.23 ms, p99 45.6 ms',
  );
  t.match(progressBar(progress, 80), /^\[████░░░░\] 15s.* p99 45.6 ms$/);
  t.equal(progressBar(progress, 40).length, 39);
  t.match(progressLine({ ...progress, elapsedMs: 500 }), /^warming up 1.5s/);
  t.match(progressLine({ ...progress, elapsedMs: 40_000 }), /^30s\/30s .* waiting for the last answers$/);
});

t.test('axes hold all values and have few ticks', async (t) => {
  const values = fc.tuple(
    fc.double({ min: 0.001, max: 1e6, noNaN: true }),
    fc.double({ min: 0.001, max: 1e6, noNaN: true }),
  );
  t.equal(linearAxis(0, String).ticks.length, 2, 'of nothing');
  fc.assert(
    fc.property(values, ([a, b]) => {
      const [least, most] = [Math.min(a, b), Math.max(a, b)];
      for (const axis of [logAxis(least, most, String), linearAxis(most, String), percentileAxis(99.9)]) {
        if (axis.ticks.length < 2 || axis.ticks.length > 12) return false;
      }
      const within = (share: number): boolean => share >= -1e-9 && share <= 1 + 1e-9;
      const log = logAxis(least, most, String);
      return (
        within(log.place(least)) && within(log.place(most)) && within(linearAxis(most, String).place(most))
      );
    }),
  );
});

t.test('units parse and format', async (t) => {
  t.strictSame(
    ['30s', '1.5m', '250ms', '200us', '1h', '0s'].map(parseDuration),
    [30_000, 90_000, 250, 0.2, 3_600_000, 0],
  );
  t.strictSame(['30', 's', '-1s', '1 day', '1e3s', ''].map(parseDuration), Array(6).fill(undefined));
  t.strictSame(['1%', '0.5 %', '100%', '101%', '1', '-1%'].map(parsePercent), [
    0.01,
    0.005,
    1,
    undefined,
    undefined,
    undefined,
  ]);
  t.strictSame([0.4123, 1, 12.34, 123.4, 1234, 12_340, 123_400, undefined].map(formatMs), [
    '0.412 ms',
    '1.00 ms',
    '12.3 ms',
    '123 ms',
    '1.23 s',
    '12.3 s',
    '123 s',
    '–',
  ]);
  t.strictSame([0, 0.00012, 0.0123, 0.5, 1].map(formatPercent), ['0 %', '0.012 %', '1.2 %', '50 %', '100 %']);
  t.strictSame([500, 30_000, 60_000, 150_000].map(formatDuration), ['0.5s', '30s', '1m', '2m30s']);
});
