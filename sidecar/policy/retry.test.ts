/** Tests which failed attempts the retry policy repeats, when, and at which endpoint. */
import t from 'tap';
import { Status } from '../grpc/status.ts';
import { type AttemptEnd, Progress } from './attempt-end.ts';
import { NEVER, NotAgain, parsePreviousAttempts, parsePushback, previousAttemptsHeader } from './pushback.ts';
import { type GiveUpReason, outcomeUnknown, type RetryCall, RetryPolicy } from './retry.ts';
import { RetryBudget } from './retry-budget.ts';
import type { RetrySettings } from './retry-settings.ts';

const PROCESS = '/agent.AgentService/ProcessTask';
const LOOK_UP = '/agent.Catalogue/LookUp';
const SETTINGS: RetrySettings = {
  maxAttempts: 3,
  on: ['UNAVAILABLE'],
  idempotentMethods: [LOOK_UP],
  backoff: { baseMs: 25, maxMs: 250 },
};

const UNAVAILABLE: AttemptEnd = {
  kind: 'status',
  status: Status.UNAVAILABLE,
  code: 0,
  progress: Progress.SENT,
  unprocessed: false,
  streaming: false,
  answerOwed: true,
  deadlineOwner: 'configured',
  allowedMs: 60_000,
  elapsedMs: 10,
  requestIrregular: false,
  peerReason: '',
  pushbackMs: undefined,
  notAgain: NotAgain.NOBODY,
  goingAway: false,
  taskFailure: 'none',
};
const CALL: RetryCall = {
  method: LOOK_UP,
  attempts: 1,
  callersAttempts: 0,
  responseStarted: false,
  requestWhole: true,
  timeLeftMs: 59_000,
  usualLatencyMs: 500,
  backoffStep: 0,
  deduplicated: false,
  unknownBefore: false,
  circuitAllows: true,
  otherEndpoints: 2,
  sameReachable: true,
  callsInFlight: 20,
};
/** A task that its endpoints' sidecars de-duplicate. */
const TASK = { method: PROCESS, deduplicated: true } as const;
/** A task that they do not de-duplicate. */
const PLAIN = { method: PROCESS } as const;
const LOST = { kind: 'connection_lost' } as const;

interface Case {
  readonly end?: Partial<AttemptEnd>;
  readonly call?: Partial<RetryCall>;
  readonly settings?: Partial<RetrySettings>;
  readonly budget?: RetryBudget;
  readonly random?: number;
}

function plentiful(): RetryBudget {
  return new RetryBudget({ percent: 100, minConcurrent: 100 });
}

function decide({ end, call, settings, budget = plentiful(), random = 0.5 }: Case) {
  const policy = new RetryPolicy({ ...SETTINGS, ...settings }, budget);
  return policy.next({ ...UNAVAILABLE, ...end }, { ...CALL, ...call }, 1000, random);
}

/** Returns `same`, `other`, or the reason for no retry. */
function verdict(which: Case): string {
  const decision = decide(which);
  return decision.again ? decision.target : decision.reason;
}

t.test('each rule alone ends the attempts', async (t) => {
  const { NOBODY: nobody, SIDECARS: sidecars, EVERYBODY: everybody } = NotAgain;
  t.match(decide({}), { again: true, target: 'other', afterMs: 25, backoffStep: 1 });
  const cases: [Case, GiveUpReason, NotAgain][] = [
    [{ call: { responseStarted: true } }, 'committed', nobody],
    [{ settings: { maxAttempts: 1 } }, 'retries_off', nobody],
    [{ end: { kind: 'cancelled' } }, 'ended', nobody],
    [{ end: { kind: 'superseded' } }, 'ended', nobody],
    [{ end: { kind: 'shutdown' } }, 'ended', nobody],
    [{ end: { kind: 'first_message' } }, 'ended', nobody],
    [{ end: { status: Status.INTERNAL } }, 'code', nobody],
    [{ end: { status: Status.OK, taskFailure: 'failed' } }, 'code', nobody],
    [{ end: { status: Status.RESOURCE_EXHAUSTED } }, 'code', nobody],
    [{ settings: { on: [] } }, 'code', nobody],
    [{ end: { pushbackMs: NEVER } }, 'pushback', sidecars],
    [{ end: { notAgain: sidecars } }, 'pushback', sidecars],
    [{ end: { pushbackMs: NEVER, notAgain: everybody } }, 'pushback', everybody],
    [{ call: { attempts: 3 } }, 'attempts_exhausted', everybody],
    [{ call: { attempts: 2, callersAttempts: 1 } }, 'attempts_exhausted', everybody],
    [{ call: { attempts: 1, callersAttempts: 2 } }, 'attempts_exhausted', sidecars],
    [{ call: PLAIN }, 'not_safe', sidecars],
    [{ call: { requestWhole: false } }, 'request_dropped', nobody],
    [{ call: { circuitAllows: false } }, 'circuit', nobody],
    [{ end: { kind: 'deadline', status: Status.DEADLINE_EXCEEDED } }, 'deadline', nobody],
    [{ call: { timeLeftMs: 525 } }, 'deadline', nobody],
    [{ call: { timeLeftMs: 25, usualLatencyMs: 0 } }, 'deadline', nobody],
    [{ budget: new RetryBudget({ percent: 0, minConcurrent: 0 }) }, 'budget_exhausted', sidecars],
  ];
  for (const [which, reason, notAgain] of cases) {
    const { budget = plentiful() } = which;
    t.strictSame(decide({ ...which, budget }), { again: false, reason, notAgain }, JSON.stringify(which));
    t.equal(budget.running, 0, 'nothing is taken from the budget');
  }
  const again: Case[] = [
    { call: { attempts: 2 } },
    { call: { callersAttempts: 1 } },
    { call: { timeLeftMs: 526 } },
    { call: { timeLeftMs: 26, usualLatencyMs: 0 } },
    { call: { timeLeftMs: Number.POSITIVE_INFINITY } },
    { end: { status: Status.ABORTED }, settings: { on: ['ABORTED', 'UNAUTHENTICATED'] } },
    { end: { status: Status.UNAUTHENTICATED }, settings: { on: ['ABORTED', 'UNAUTHENTICATED'] } },
    { end: { kind: 'per_try', status: Status.DEADLINE_EXCEEDED } },
    { end: { kind: 'first_chunk', status: Status.DEADLINE_EXCEEDED } },
  ];
  for (const which of again) {
    const budget = plentiful();
    t.equal(verdict({ ...which, budget }), 'other', JSON.stringify(which));
    t.equal(budget.running, 1);
  }
});

t.test('a call that no app has seen may go to any endpoint', async (t) => {
  const turnedAway = (peerReason: string, status: number = Status.UNAVAILABLE): Case => ({
    end: { peerReason, status: status as AttemptEnd['status'] },
    call: PLAIN,
  });
  for (const reason of ['connect_failed', 'draining', 'no_endpoint', 'circuit_open'])
    t.equal(verdict(turnedAway(reason)), 'other', reason);
  t.equal(verdict(turnedAway('overloaded', Status.RESOURCE_EXHAUSTED)), 'other', 'one of several is full');
  t.equal(verdict({ end: { kind: 'no_connection', unprocessed: true }, call: PLAIN }), 'other');
  t.equal(verdict(turnedAway('stream_cut')), 'not_safe');
  t.equal(verdict(turnedAway('message_too_large', Status.RESOURCE_EXHAUSTED)), 'code');
  t.equal(verdict({ ...turnedAway('draining'), settings: { on: ['ABORTED'] } }), 'code');
  const idle = { kind: 'idle', status: Status.DEADLINE_EXCEEDED } as const;
  const settings = { on: ['DEADLINE_EXCEEDED'] } as const;
  t.equal(verdict({ end: idle, settings }), 'other');
  t.equal(verdict({ end: { ...idle, answerOwed: false }, settings }), 'ended', 'it waited for the caller');
  const afterMessage = { peerReason: 'draining', progress: Progress.MESSAGE };
  t.equal(verdict({ end: afterMessage, call: PLAIN }), 'not_safe');
  t.equal(verdict({ end: { peerReason: 'draining' }, call: { ...PLAIN, unknownBefore: true } }), 'not_safe');
});

t.test('a task whose outcome is unknown goes back to where it may be running', async (t) => {
  const stopped = { kind: 'per_try', status: Status.DEADLINE_EXCEEDED } as const;
  const turnedAway = { peerReason: 'draining' } as const;
  const refused = { kind: 'no_connection', unprocessed: true } as const;
  const both = { ...CALL, deduplicated: true };
  const cases: [Partial<AttemptEnd>, Partial<RetryCall>, string][] = [
    [LOST, TASK, 'same'],
    [{ kind: 'reset', code: 2 }, TASK, 'same'],
    [{ kind: 'no_status' }, TASK, 'same'],
    [LOST, { ...TASK, sameReachable: false }, 'other'],
    [LOST, PLAIN, 'not_safe'],
    [LOST, {}, 'other'],
    [LOST, both, 'same'],
    [stopped, TASK, 'same'],
    [stopped, both, 'other'],
    [{}, TASK, 'other'],
    [{}, { ...TASK, unknownBefore: true }, 'other'],
    [turnedAway, TASK, 'other'],
    [turnedAway, { ...TASK, unknownBefore: true }, 'same'],
    [turnedAway, { ...both, unknownBefore: true }, 'other'],
    [refused, { ...TASK, unknownBefore: true, sameReachable: false }, 'other'],
  ];
  for (const [end, call, expected] of cases)
    t.equal(verdict({ end, call }), expected, `${JSON.stringify(end)} ${JSON.stringify(call)}`);
  t.equal(
    verdict({ end: LOST, call: { ...TASK, timeLeftMs: 100 } }),
    'same',
    'to be joined takes no whole run',
  );
  t.equal(verdict({ end: LOST, call: { ...TASK, timeLeftMs: 25 } }), 'deadline');

  const unknown = (end: Partial<AttemptEnd>): boolean => outcomeUnknown({ ...UNAVAILABLE, ...end });
  t.ok(unknown(LOST) && unknown(stopped) && unknown({ kind: 'http_status', code: 502 }));
  t.notOk(unknown({}) || unknown({ ...LOST, unprocessed: true }) || unknown(refused));
});

t.test('back-off grows with jitter, and a pushback takes its place', async (t) => {
  const waits = (random: number): number[] => {
    const found: number[] = [];
    let backoffStep = 0;
    for (let i = 0; i < 6; i++) {
      const decision = decide({ call: { backoffStep }, random });
      if (!decision.again) throw new Error(decision.reason);
      found.push(Math.round(decision.afterMs));
      ({ backoffStep } = decision);
    }
    return found;
  };
  t.strictSame(waits(0.5), [25, 50, 100, 200, 250, 250]);
  t.strictSame(waits(0), [20, 40, 80, 160, 200, 200]);

  const call = { backoffStep: 4 };
  const pushed = decide({ end: { pushbackMs: 700 }, call });
  t.match(pushed, { again: true, afterMs: 700, backoffStep: 0 }, 'after it the back-off begins anew (A6)');
  t.match(decide({ end: { pushbackMs: 0 } }), { again: true, afterMs: 0 });
  t.equal(verdict({ end: { pushbackMs: 59_000 } }), 'deadline');

  // The open circuit of one app, for 20 s, is no reason to avoid the replica beside it.
  const circuit = { peerReason: 'circuit_open', pushbackMs: 20_000 } as const;
  t.match(decide({ end: circuit }), { again: true, afterMs: 25, backoffStep: 1 });
  t.match(decide({ end: circuit, call: { otherEndpoints: 0 } }), { again: true, afterMs: 20_000 });
  t.equal(verdict({ end: { ...circuit, pushbackMs: NEVER } }), 'pushback');
  const joined = { ...TASK, unknownBefore: true };
  t.match(decide({ end: circuit, call: joined }), { target: 'same', afterMs: 20_000 });
});

t.test('the headers of retries', async (t) => {
  const pushback: [string, number][] = [
    ['0', 0],
    ['1500', 1500],
    ['0042', 42],
    ['2147483647', 2147483647],
    ['2147483648', NEVER],
    ['99999999999', NEVER],
    ['00000000042', NEVER],
    ['-1', NEVER],
    ['-0', NEVER],
    ['', NEVER],
    [' 5', NEVER],
    ['5 ', NEVER],
    ['1.5', NEVER],
    ['1e3', NEVER],
    ['0x10', NEVER],
    ['soon', NEVER],
    ['1, 2', NEVER],
  ];
  for (const [value, expected] of pushback) t.equal(parsePushback(value), expected, JSON.stringify(value));

  const previous: [string | undefined, number][] = [
    [undefined, 0],
    ['', 0],
    ['2', 2],
    ['-1', 0],
    ['x', 0],
    ['999999999', 1000],
    ['9999999999', 0],
  ];
  for (const [value, expected] of previous) t.equal(parsePreviousAttempts(value), expected, String(value));
  t.equal(previousAttemptsHeader(0, 0), undefined);
  t.equal(previousAttemptsHeader(0, 1), '1');
  t.equal(previousAttemptsHeader(1, 2), '3');
});

t.test('three hops over a dead leaf make three attempts, not twenty-seven', async (t) => {
  interface Chain {
    /** Sidecars report that a hop has given up. */
    readonly pushback: boolean;
    /** Sidecars count the attempts of the hops before. */
    readonly counts: boolean;
  }
  const attemptsAtLeaf = ({ pushback, counts }: Chain): number => {
    let atLeaf = 0;
    const policies = [1, 2, 3].map(() => new RetryPolicy(SETTINGS, plentiful()));
    const callFrom = (hop: number, callersAttempts: number): AttemptEnd => {
      if (hop === policies.length) {
        atLeaf++;
        return { ...UNAVAILABLE, kind: 'no_connection', unprocessed: true };
      }
      for (let attempts = 1; ; attempts++) {
        const end = callFrom(hop + 1, counts ? callersAttempts + attempts - 1 : 0);
        const decision = policies[hop]!.next(end, { ...CALL, attempts, callersAttempts }, 1000, 0.5);
        if (decision.again) continue;
        return { ...UNAVAILABLE, notAgain: pushback ? decision.notAgain : NotAgain.NOBODY };
      }
    };
    callFrom(0, 0);
    return atLeaf;
  };
  t.equal(attemptsAtLeaf({ pushback: false, counts: false }), 27);
  t.equal(attemptsAtLeaf({ pushback: true, counts: true }), 3);
  t.equal(attemptsAtLeaf({ pushback: true, counts: false }), 3);
  t.equal(
    attemptsAtLeaf({ pushback: false, counts: true }),
    10,
    'the count alone bounds it, too, less tightly',
  );
});
