/** Tests how deadlines of callers and configured limits combine. */
import t from 'tap';
import {
  allowedMs,
  attemptDeadlineAtMs,
  type DeadlineOwner,
  deadlineOwner,
  deadlineReached,
  idleTimeoutMs,
  type MethodKind,
  NO_TIME_LIMITS,
  timeLeftMs,
  timeoutHeader,
} from './deadline.ts';

const limits = { ...NO_TIME_LIMITS, timeoutMs: 60_000 };

t.test("a caller's deadline stays, and its owner is known", async (t) => {
  const cases: [caller: number, max: number, kind: MethodKind, allowed: number, owner: DeadlineOwner][] = [
    [0, 0, 'unary', 60_000, 'configured'],
    [0, 0, 'task_stream', 0, 'none'],
    [0, 0, 'unknown', 0, 'none'],
    [500, 0, 'unary', 500, 'caller'],
    [300_000, 0, 'unary', 300_000, 'caller'],
    [300_000, 0, 'task_stream', 300_000, 'caller'],
    [300_000, 0, 'unknown', 300_000, 'caller'],
    [60_000, 0, 'unary', 60_000, 'caller'],
    [1e-6, 0, 'unary', 1e-6, 'caller'],
    // An operator's maximum applies to callers with a deadline of their own, of any method.
    [300_000, 90_000, 'unary', 90_000, 'configured'],
    [300_000, 90_000, 'unknown', 90_000, 'configured'],
    [90_000, 90_000, 'unknown', 90_000, 'caller'],
    [80_000, 90_000, 'unknown', 80_000, 'caller'],
    [0, 90_000, 'unknown', 0, 'none'],
    [0, 30_000, 'unary', 60_000, 'configured'],
  ];
  for (const [caller, maxTimeoutMs, kind, allowed, owner] of cases) {
    const name = `${kind}, caller ${caller}, at most ${maxTimeoutMs}`;
    t.equal(allowedMs(caller, { ...limits, maxTimeoutMs }, kind), allowed, name);
    t.equal(deadlineOwner(caller, allowed), owner, name);
  }
  t.equal(allowedMs(0, NO_TIME_LIMITS, 'unary'), 0, 'off');
});

t.test('streams of tasks have a limit of silence, and others where it is configured', async (t) => {
  const silence = { ...limits, idleTimeoutMs: 5_000 };
  const byDefault = { ...limits, idleTimeoutMs: undefined };
  t.equal(idleTimeoutMs(silence, 'task_stream'), 5_000);
  t.equal(idleTimeoutMs(byDefault, 'task_stream'), 300_000);
  t.equal(idleTimeoutMs(silence, 'unknown'), 5_000);
  t.equal(idleTimeoutMs(byDefault, 'unknown'), 0);
  t.equal(idleTimeoutMs(silence, 'unary'), 0, 'a unary call is silent while it is worked on');
});

t.test('an attempt ends with its call at the latest', async (t) => {
  t.equal(attemptDeadlineAtMs(0, 1000, 0), 0);
  t.equal(attemptDeadlineAtMs(0, 1000, 200), 1200);
  t.equal(attemptDeadlineAtMs(5000, 1000, 0), 5000);
  t.equal(attemptDeadlineAtMs(5000, 1000, 200), 1200);
  t.equal(attemptDeadlineAtMs(1100, 1000, 200), 1100);
});

t.test('the next hop receives the time that is left', async (t) => {
  t.equal(timeLeftMs(0, 1000), Number.POSITIVE_INFINITY);
  t.equal(timeLeftMs(1500, 1000), 500);
  t.equal(timeLeftMs(1500, 1500), 0);
  t.equal(timeLeftMs(1500, 9000), 0);
  t.equal(timeoutHeader(0, 1000), undefined);
  t.equal(timeoutHeader(61_000, 1000), '60000m');
  t.equal(timeoutHeader(1500, 1499.5), '500000n');
  t.equal(timeoutHeader(1500, 9000), '1n', 'over, and not without a limit');
});

t.test('a deadline passes at the endpoint a little before it passes here', async (t) => {
  const cases: [allowed: number, leeway: number][] = [
    [40, 10],
    [100, 20],
    [200, 20],
    [1_000, 100],
    [10_000, 1_000],
    [60_000, 1_000],
    [100_000, 1_000],
    [3_600_000, 36_000],
  ];
  for (const [allowed, leeway] of cases) {
    t.ok(deadlineReached(allowed - leeway, allowed), `${allowed} ms`);
    t.notOk(deadlineReached(allowed - leeway - 1, allowed), `more than ${leeway} ms before ${allowed}`);
  }
  t.notOk(deadlineReached(1e12, Number.POSITIVE_INFINITY), 'none');
});
