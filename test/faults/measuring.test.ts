// The fault suite's own measures: they must see what they are there to find.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import type { CallRecord } from '../../scripts/harness/faults/calls.ts';
import type { RunningProxy } from '../../scripts/harness/faults/proxy.ts';
import { countCalls, failuresOf, latencyMs } from '../../scripts/harness/faults/row.ts';
import {
  append,
  peakConcurrency,
  type Run,
  readRuns,
  runTwice,
} from '../../scripts/harness/faults/run-record.ts';
import { quietAfterMs, Watch } from '../../scripts/harness/faults/watch.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

const run = (task: string, beganMs: number, endedMs: number, end: Run['end']): Run => ({
  task,
  replica: 'r',
  beganMs,
  endedMs,
  end,
});
const never = Number.POSITIVE_INFINITY;

const call = (task: string, changes: Partial<CallRecord> = {}): CallRecord => ({
  task,
  streaming: false,
  startedMs: 0,
  endedMs: 100,
  code: status.OK,
  details: '',
  reason: '',
  taskStatus: undefined,
  chunks: 0,
  servedBy: '',
  ...changes,
});

t.test('a record shows how every run ended, also of a killed process', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'record');
  t.strictSame(readRuns(file, 'r'), [], 'nothing on record yet');
  append(file, { atMs: 1, pid: 7, run: 0, task: 'a', event: 'began' });
  append(file, { atMs: 2, pid: 7, run: 1, task: 'b', event: 'began' });
  append(file, { atMs: 3, pid: 7, run: 0, task: 'a', event: 'ok' });
  append(file, { atMs: 4, pid: 7, run: 0, task: '', event: 'process_died' });
  append(file, { atMs: 5, pid: 8, run: 0, task: 'c', event: 'began' });
  t.strictSame(readRuns(file, 'r'), [
    run('a', 1, 3, 'ok'),
    run('b', 2, 4, 'died'),
    run('c', 5, never, undefined),
  ]);
});

t.test('an answer can be lost only with a killed process', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const [event, end] of [
    ['process_killed', 'answer_lost'],
    ['process_died', 'ok'],
  ] as const) {
    const file = join(folder, event);
    append(file, { atMs: 1, pid: 7, run: 0, task: 'long ago', event: 'began' });
    append(file, { atMs: 100, pid: 7, run: 0, task: 'long ago', event: 'ok' });
    append(file, { atMs: 101, pid: 7, run: 1, task: 'just now', event: 'began' });
    append(file, { atMs: 198, pid: 7, run: 1, task: 'just now', event: 'ok' });
    append(file, { atMs: 199, pid: 8, run: 0, task: 'elsewhere', event: 'began' });
    append(file, { atMs: 199, pid: 8, run: 0, task: 'elsewhere', event: 'ok' });
    append(file, { atMs: 200, pid: 7, run: 0, task: '', event });
    t.strictSame(readRuns(file, 'r'), [
      run('long ago', 1, 100, 'ok'),
      run('just now', 101, 198, end),
      run('elsewhere', 199, 199, 'ok'),
    ]);
  }
});

t.test('a task ran twice when a run began beside another, or after a successful one', async (t) => {
  const cases: [what: string, runs: Run[], twice: boolean][] = [
    ['one run', [run('a', 0, 9, 'ok')], false],
    ['behind a success', [run('a', 0, 9, 'ok'), run('a', 20, 29, 'ok')], true],
    ['in any order', [run('a', 20, 29, 'ok'), run('a', 0, 9, 'ok')], true],
    ['beside one that fails later', [run('a', 0, 500, 'failed'), run('a', 20, 29, 'ok')], true],
    ['beside one that hangs', [run('a', 0, never, undefined), run('a', 20, 29, 'ok')], true],
    ['beside one that was given up much later', [run('a', 0, 500, 'aborted'), run('a', 20, 29, 'ok')], true],
    ['behind a failure', [run('a', 0, 9, 'failed'), run('a', 20, 29, 'ok')], false],
    ['behind a death', [run('a', 0, 9, 'died'), run('a', 20, 29, 'ok')], false],
    ['behind an answer that was lost', [run('a', 0, 9, 'answer_lost'), run('a', 20, 29, 'ok')], false],
    ['while the reset was under way', [run('a', 0, 25, 'aborted'), run('a', 20, 29, 'ok')], false],
    ['another task', [run('a', 0, 9, 'ok'), run('b', 20, 29, 'ok')], false],
  ];
  for (const [what, runs, twice] of cases) t.equal(runTwice(runs).length === 1, twice, what);
});

t.test('the maximum of simultaneous runs is counted', async (t) => {
  t.equal(peakConcurrency([]), 0);
  t.equal(peakConcurrency([run('a', 0, 10, 'ok'), run('b', 10, 20, 'ok')]), 1);
  t.equal(peakConcurrency([run('a', 0, 10, 'ok'), run('b', 5, never, undefined), run('c', 6, 7, 'ok')]), 3);
});

t.test('calls are counted by outcome', async (t) => {
  const unavailable = { code: status.UNAVAILABLE };
  const cases: [what: string, CallRecord, Run[], keyof ReturnType<typeof countCalls>][] = [
    ['an answer', call('a'), [run('a', 0, 50, 'ok')], 'ok'],
    ['never ran', call('a', unavailable), [], 'lost'],
    ['its run failed', call('a', unavailable), [run('a', 0, 50, 'failed')], 'lost'],
    ['its replica died', call('a', unavailable), [run('a', 0, 99, 'died')], 'lost'],
    ['may be running still', call('a', unavailable), [run('a', 0, never, undefined)], 'failed'],
    ['ran, and its answer was lost', call('a', unavailable), [run('a', 0, 50, 'ok')], 'failed'],
    ['killed with its answer', call('a', unavailable), [run('a', 0, 50, 'answer_lost')], 'failed'],
    ['a code that is not to be retried', call('a', { code: status.INTERNAL }), [], 'failed'],
    ['a stream in its middle', call('a', { ...unavailable, chunks: 1 }), [], 'cut'],
    ['turned away', call('a', { code: status.RESOURCE_EXHAUSTED }), [], 'shed'],
    ['out of time, whatever it is called', call('a', { ...unavailable, endedMs: 960 }), [], 'timedOut'],
  ];
  for (const [what, record, runs, as] of cases) {
    const counts = countCalls([record], runs, 1_000);
    t.equal(counts[as], 1, what);
    const { calls, twice, ...ends } = counts;
    t.equal(
      Object.values(ends).reduce((sum, count) => sum + count, 0),
      calls,
      'every call is counted once',
    );
  }
  const twice = [run('a', 0, 9, 'ok'), run('a', 10, 19, 'ok'), run('z', 0, 9, 'ok'), run('z', 10, 19, 'ok')];
  t.equal(countCalls([call('a')], twice, 1_000).twice, 1, 'only tasks of these calls');
});

t.test('the report lists failures with reasons, and latencies by percentile', async (t) => {
  const failed = call('a', { code: status.UNAVAILABLE, reason: 'connect_failed' });
  t.equal(
    failuresOf([failed, call('b'), failed, call('c', { code: status.INTERNAL })]),
    'UNAVAILABLE connect_failed ×2, INTERNAL ×1',
  );
  const records = Array.from({ length: 100 }, (_, index) => call('a', { endedMs: index + 1 }));
  t.equal(latencyMs(records, 50), 50);
  t.equal(latencyMs(records, 99), 99);
  t.equal(latencyMs([], 50), 0);
});

t.test('an endpoint counts as left alone when it gets no calls for a while', async (t) => {
  const samples = (...counts: number[]) =>
    counts.map((count, index) => ({ atMs: 1_000 + index * 100, count }));
  const growsTo = samples(5, 6, 7, 8, 8, 8, 8, 8);
  t.equal(quietAfterMs(growsTo, 1_000, 2_000), 300);
  t.equal(quietAfterMs(growsTo, 1_200, 2_000), 100);
  t.equal(quietAfterMs(growsTo, 1_000, 1_600), 'never', 'the time was over before that was sure');
  t.equal(quietAfterMs(samples(5, 5, 5, 5, 5, 9, 9), 1_000, 2_000), 0, 'nothing went there at all');
  t.equal(quietAfterMs(samples(5, 5, 5, 5, 6, 6, 6, 7), 1_000, 2_000), 'never', 'it goes there now and then');
});

t.test('a watch samples until it stops, and counts the calls meanwhile', async (t) => {
  let sent = 0;
  const proxy = {
    sentTo: async () => {
      sent++;
      if (sent === 2) throw new Error('not just now');
      return sent;
    },
  } as unknown as RunningProxy;
  const watch = await Watch.begin(proxy, 'endpoint');
  const fromMs = Date.now();
  await waitUntil('it asked again', () => sent >= 4);
  await watch.stop();
  const asked = sent;
  t.equal(watch.sentBetween(fromMs, Date.now()), asked - 1);
  await new Promise((resolve) => setTimeout(resolve, 120));
  t.equal(sent, asked, 'not after that');
});
