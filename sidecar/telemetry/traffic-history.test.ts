// Rates and percentiles of the last minute.
import t from 'tap';
import { Status } from '../grpc/status.ts';
import { CallStats } from './call-stats.ts';
import { countCalls, TrafficHistory } from './traffic-history.ts';

t.test('rates and percentiles are those of the last minute', async (t) => {
  const history = new TrafficHistory();
  const stats = new CallStats();
  const sample = (second: number) => {
    const counts = countCalls(stats, (status) => status === Status.UNAVAILABLE);
    history.sample([{ name: 'a', ...counts, durations: [stats] }], second * 1_000);
  };
  const calls = (count: number, seconds: number, status: number = Status.OK) => {
    for (let i = 0; i < count; i++) stats.of('/s/m').record(status, seconds);
  };
  calls(1_000, 9);
  sample(0);
  t.equal(history.report('a'), undefined, 'one sample says nothing yet');
  for (let second = 1; second <= 10; second++) {
    calls(8, 0.02);
    calls(2, 0.2, Status.UNAVAILABLE);
    sample(second);
  }
  const report = history.report('a')!;
  t.match(report, { calls_per_s: 10, errors_per_s: 2, last_minute: { calls: 100, errors: 20 } });
  t.strictSame(report.calls, Array(10).fill(10));
  t.strictSame(report.errors, Array(10).fill(2));
  const { p50_ms: p50, p90_ms: p90, p99_ms: p99 } = report.last_minute;
  t.ok(p50! > 10 && p50! <= 25, `${p50}: what came before the first sample is left out`);
  t.ok(p90! > 100 && p90! <= 250, String(p90));
  t.ok(p99! >= p90! && p99! <= 250, String(p99));

  for (let second = 11; second <= 80; second++) sample(second);
  t.match(history.report('a'), {
    calls_per_s: 0,
    last_minute: { calls: 0, errors: 0, p50_ms: null, p99_ms: null },
  });
  t.equal(history.report('a')!.calls.length, 60, 'a minute is kept, not more');
  calls(1, 20);
  sample(81);
  const long = history.report('a')!.last_minute.p99_ms!;
  t.ok(long > 15_000 && long <= 20_000, `${long}: tasks take longer than calls`);
  calls(9, 5_000);
  sample(82);
  t.equal(history.report('a')!.last_minute.p99_ms, 3_600_000, 'above the histogram is its highest bound');
});

t.test('the history handles a late sample, a removed series, and one that returns smaller', async (t) => {
  const history = new TrafficHistory();
  const none: readonly CallStats[] = [];
  history.sample([{ name: 'a', calls: 0, errors: 0, durations: none }], 0);
  history.sample([{ name: 'a', calls: 50, errors: 0, durations: none }], 5_000);
  t.match(history.report('a'), { calls_per_s: 10, calls: [10] }, 'for a second, though five have passed');
  history.sample([{ name: 'a', calls: 3, errors: 0, durations: none }], 6_000);
  t.equal(history.report('a'), undefined, 'another cluster of the same name begins anew');
  history.sample([{ name: 'a', calls: 4, errors: 0, durations: none }], 7_000);
  t.equal(history.report('a')!.calls_per_s, 1);
  history.sample([], 8_000);
  t.equal(history.report('a'), undefined);
  const many = Array.from({ length: 200 }, (_, i) => ({
    name: `c${i}`,
    calls: 0,
    errors: 0,
    durations: none,
  }));
  for (const second of [9, 10]) history.sample(many, second * 1_000);
  t.equal(many.filter(({ name }) => history.report(name) !== undefined).length, 64, 'bounded');
});
