// Rates and percentiles of the last minute.
import t from 'tap';
import { Status } from '../grpc/status.ts';
import { CallStats } from './call-stats.ts';
import { Durations, LLM_BUCKETS } from './durations.ts';
import { LongHistory } from './long-history.ts';
import { countCalls, TrafficHistory } from './traffic-history.ts';

const endOf: Readonly<Record<number, 'failed' | 'refused' | 'by_caller'>> = {
  [Status.UNAVAILABLE]: 'failed',
  [Status.RESOURCE_EXHAUSTED]: 'refused',
  [Status.NOT_FOUND]: 'by_caller',
};

t.test('rates and percentiles are those of the last minute', async (t) => {
  const history = new TrafficHistory();
  const stats = new CallStats();
  const sample = (second: number) => {
    const counts = countCalls(stats, (status) => endOf[status] ?? 'ok');
    history.sample([{ name: 'a', ...counts, durations: [stats] }], second * 1_000);
  };
  const calls = (count: number, seconds: number, status: number = Status.OK) => {
    for (let i = 0; i < count; i++) stats.of('/s/m').record(status, seconds);
  };
  calls(1_000, 9);
  sample(0);
  t.equal(history.report('a'), undefined, 'one sample says nothing yet');
  for (let second = 1; second <= 10; second++) {
    calls(4, 0.02);
    calls(3, 0.02, Status.RESOURCE_EXHAUSTED);
    calls(1, 0.02, Status.NOT_FOUND);
    calls(2, 0.2, Status.UNAVAILABLE);
    sample(second);
  }
  const report = history.report('a')!;
  t.match(report, { calls_per_s: 10, errors_per_s: 2, refused_per_s: 3, success: 0.4444 });
  t.match(
    report.last_minute,
    { calls: 100, errors: 20, refused: 30, success: 0.4444 },
    'without the callers’ own',
  );
  t.strictSame(report.calls, Array(10).fill(10));
  t.strictSame(report.errors, Array(10).fill(2));
  const { p50_ms: p50, p90_ms: p90, p99_ms: p99 } = report.last_minute;
  t.ok(p50! > 10 && p50! <= 25, `${p50}: what came before the first sample is left out`);
  t.ok(p90! > 100 && p90! <= 250, String(p90));
  t.ok(p99! >= p90! && p99! <= 250, String(p99));

  for (let second = 11; second <= 80; second++) sample(second);
  t.match(history.report('a'), {
    calls_per_s: 0,
    success: null,
    last_minute: { calls: 0, errors: 0, success: null, p50_ms: null, p99_ms: null },
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
  history.sample([{ name: 'a', calls: 0, ok: 0, errors: 0, refused: 0, durations: none }], 0);
  history.sample([{ name: 'a', calls: 50, ok: 0, errors: 0, refused: 0, durations: none }], 5_000);
  t.match(history.report('a'), { calls_per_s: 10, calls: [10] }, 'for a second, though five have passed');
  history.sample([{ name: 'a', calls: 3, ok: 0, errors: 0, refused: 0, durations: none }], 6_000);
  t.equal(history.report('a'), undefined, 'another cluster of the same name begins anew');
  history.sample([{ name: 'a', calls: 4, ok: 0, errors: 0, refused: 0, durations: none }], 7_000);
  t.equal(history.report('a')!.calls_per_s, 1);
  history.sample([], 8_000);
  t.equal(history.report('a'), undefined);
  const many = Array.from({ length: 200 }, (_, i) => ({
    name: `c${i}`,
    calls: 0,
    ok: 0,
    errors: 0,
    refused: 0,
    durations: none,
  }));
  for (const second of [9, 10]) history.sample(many, second * 1_000);
  t.equal(many.filter(({ name }) => history.report(name) !== undefined).length, 64, 'bounded');
});

t.test('a source may have buckets of its own, and names what it counted lately', async (t) => {
  const history = new TrafficHistory();
  const requests = new Durations(LLM_BUCKETS);
  const sample = (second: number) =>
    history.sample(
      [
        {
          name: 'p',
          calls: requests.count,
          ok: requests.count,
          errors: 0,
          refused: 0,
          durations: [],
          timed: { bounds: LLM_BUCKETS, durations: [requests] },
        },
      ],
      second * 1_000,
    );
  sample(0);
  t.equal(history.lately('p', 1), undefined, 'one sample says nothing yet');
  for (let i = 0; i < 100; i++) requests.record(i < 90 ? 0.15 : 3, '');
  sample(1);
  const { calls, p95_ms: p95 } = history.lately('p', 1)!;
  t.equal(calls, 100);
  t.ok(p95! > 2_560 && p95! <= 5_120, String(p95));
  sample(2);
  t.match(history.lately('p', 1), { calls: 0, errors: 0, p95_ms: null });
});

t.test('the long history keeps ten minutes, with gaps where the process was stopped', async (t) => {
  const history = new LongHistory(5_000);
  t.match(history.report(), { newest_at: null, calls: [], errors: [], success: [], p95_ms: [] });
  for (let i = 0; i < 130; i++)
    history.add({ calls: i, errors: 1, success: 0.5, p95_ms: 20 }, 1_000_000 + i * 5_000);
  const full = history.report();
  t.equal(full.calls.length, 120, 'bounded');
  t.equal(full.calls.at(-1), 129);
  t.equal(full.newest_at, new Date(1_000_000 + 129 * 5_000).toISOString());
  history.add({ calls: 7, errors: 0, success: 1, p95_ms: null }, 1_000_000 + 133 * 5_000);
  t.same(history.report().calls.slice(-5), [129, null, null, null, 7]);
  t.same(history.report().success.slice(-2), [null, 1]);
  history.add({ calls: 8, errors: 0, success: 1, p95_ms: null }, 1_000_000 + 9e9);
  t.equal(history.report().calls.length, 120, 'a long pause does not grow it');
});
