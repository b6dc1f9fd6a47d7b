// The list of failed calls: its contents and its bounds.
import t from 'tap';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { Reason } from '../policy/reasons.ts';
import type { Outcome, VerdictReason } from '../policy/verdicts.ts';
import { FailedCalls } from './failed-calls.ts';
import { attemptWith, callWith } from './test-support/observed-call.ts';

interface Made {
  path?: string;
  status?: StatusCode;
  reason?: Reason;
  /** The outcome and verdict of each attempt. */
  way?: readonly (readonly [outcome: Outcome, reason: VerdictReason])[];
}

/** Takes a call through its attempts to its end. */
function run(
  failed: FailedCalls,
  { path = '/a.S/M', status = Status.OK, reason, way = [['success', 'ok']] }: Made,
) {
  const attempts = way.map(([outcome, why], at) =>
    attemptWith({
      number: at + 1,
      endpoint: { address: `10.0.0.${at + 1}:1` },
      startedAtMs: 100 + at * 10,
      elapsedMs: 5.04,
      status: outcome === 'success' ? Status.OK : Status.UNAVAILABLE,
      verdict: { outcome, reason: why, cooldown: false },
    }),
  );
  const call = callWith({
    context: { listener: 'outbound', name: 'research-agent', clock: () => 150 },
    head: { path },
    status,
    reason,
    attempts: 0,
    cluster: { name: 'research' },
  });
  for (const attempt of attempts) {
    call.attempts++;
    call.attempt = attempt;
    failed.onAttemptEnd(call, attempt);
  }
  failed.onCallEnd(call);
}

t.test('a failed call lists its attempts, in order', async (t) => {
  const failed = new FailedCalls(() => Date.UTC(2026, 0, 2));
  run(failed, {
    status: Status.UNAVAILABLE,
    reason: 'connect_failed',
    way: [
      ['failure', 'unavailable'],
      ['neutral', 'refused'],
      ['failure', 'connect_failed'],
    ],
  });
  const [call] = failed.recent();
  t.match(call, {
    id: 1,
    at: '2026-01-02T00:00:00.000Z',
    method: 'a.S/M',
    cluster: 'research',
    status: 'UNAVAILABLE',
    reason: 'connect_failed',
    elapsed_ms: 50,
    attempts: 3,
  });
  t.strictSame(call!.way[1], {
    number: 2,
    endpoint: '10.0.0.2:1',
    outcome: 'neutral',
    verdict: 'refused',
    status: 'UNAVAILABLE',
    peer_reason: '',
    after_ms: 10,
    elapsed_ms: 5,
  });
  t.strictSame(
    call!.way.map(({ number }) => number),
    [1, 2, 3],
  );
});

t.test('the list shows failures and saved calls, and no others', async (t) => {
  const shown = (made: Made) => {
    const failed = new FailedCalls(() => 0);
    run(failed, made);
    return failed.recent().length === 1;
  };
  t.notOk(shown({}), 'a successful call');
  t.ok(
    shown({
      way: [
        ['failure', 'unavailable'],
        ['success', 'ok'],
      ],
    }),
    'a call that a retry saved',
  );
  t.notOk(
    shown({
      way: [
        ['neutral', 'superseded'],
        ['success', 'ok'],
      ],
    }),
    'a faster hedge',
  );
  t.ok(shown({ way: [['failure', 'task_failed']] }), 'OK with a failed task');
  t.notOk(shown({ status: Status.NOT_FOUND, way: [['success', 'answered']] }), "the caller's own error");
  t.notOk(shown({ status: Status.CANCELLED, way: [['neutral', 'cancelled']] }), 'a cancelled call');
  t.ok(shown({ status: Status.UNAVAILABLE, reason: 'circuit_open', way: [] }), 'a refused call');
  t.ok(shown({ status: Status.RESOURCE_EXHAUSTED, way: [['neutral', 'back_pressure']] }), 'back-pressure');
});

t.test('the list bounds a flood of failures in memory and per second', async (t) => {
  let nowMs = 0;
  const failed = new FailedCalls(() => nowMs);
  const path = `/${'x'.repeat(10_000)}?secret=1`;
  for (; nowMs < 10_000; nowMs += 10)
    run(failed, { path, status: Status.INTERNAL, way: [['failure', 'internal']] });
  t.equal(failed.recent().length, 50);
  t.equal(failed.skipped, 1_000 - 10 * 20);
  t.equal(failed.recent().at(-1)!.id, 200);
  t.equal(failed.recent(195).length, 5);
  t.ok(failed.recent().every(({ method }) => method.length <= 200));
  run(failed, { path: '/a/b?token=secret', reason: 'no_route', status: Status.UNIMPLEMENTED, way: [] });
  t.equal(failed.recent().at(-1)!.method, 'a/b', 'the list omits the query, which is content');
});

t.test('refusals of an open circuit displace no failures', async (t) => {
  let nowMs = 0;
  const failed = new FailedCalls(() => nowMs);
  for (let count = 0; count < 5; count++)
    run(failed, { status: Status.INTERNAL, way: [['failure', 'internal']] });
  for (; nowMs < 100_000; nowMs += 10)
    run(failed, { status: Status.UNAVAILABLE, reason: 'circuit_open', way: [] });
  const [causes, consequences] = [false, true].map((kind) =>
    failed.recent().filter(({ consequence }) => consequence === kind),
  );
  t.strictSame(
    causes!.map(({ id }) => id),
    [1, 2, 3, 4, 5],
    'the list has all failures that opened it',
  );
  t.equal(consequences!.length, 10, 'and the latest refused calls');
  t.equal(failed.skipped, 10_000 - 100);
  const ids = failed.recent().map(({ id }) => id);
  t.strictSame(
    ids,
    [...ids].sort((one, other) => one - other),
  );
  run(failed, { status: Status.INTERNAL, way: [['failure', 'internal']] });
  t.equal(failed.recent().at(-1)!.reason, '', 'a new failure gets its place at once');
});
