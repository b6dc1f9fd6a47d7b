// What the egress decides: where a request goes, when, and what may be sent; on a virtual clock.

import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { JointBudget, TokenBudget } from '../../policy/token-budget.ts';
import { OPENAI_QUOTAS } from '../kinds/openai.ts';
import { FairLimiter } from '../limits/fair-limiter.ts';
import { LearnedLimit } from '../limits/learned-limit.ts';
import { TaskBudgets, taskKey } from '../limits/task-budgets.ts';
import type { LlmRetrySettings } from '../shared/llm-settings.ts';
import type { OwnerCall } from '../shared/owner-call.ts';
import type { ProviderFailure } from '../shared/provider-failure.ts';
import { kindOfEnd } from './attempt-verdict.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import { type ProviderAttemptKind, ProviderRecords } from './provider-record.ts';
import { type Candidate, chooseUpstream, isRetryable, restMs } from './provider-retry.ts';

const RETRY: LlmRetrySettings = {
  maxAttempts: 3,
  maxRetryAfterMs: 60_000,
  resend: false,
  backoff: { baseMs: 500, maxMs: 8_000 },
  incompleteAnswers: false,
};

const free: Candidate = {
  closed: true,
  freeAtMs: Number.NEGATIVE_INFINITY,
  probeAtMs: 0,
  tried: false,
  lastResort: false,
};

function choose(
  candidates: readonly Candidate[],
  more: Partial<{ attempts: number; deadlineMs: number }> = {},
) {
  return chooseUpstream(candidates, RETRY, {
    attempts: 1,
    nowMs: 1_000,
    deadlineMs: 1e9,
    random: 0.5,
    ...more,
  });
}

t.test('the first free and untried upstream gets the next attempt at once', async (t) => {
  const open = { ...free, closed: false, probeAtMs: 9_000 };
  const cooling = { ...free, freeAtMs: 5_000 };
  const tried = { ...free, tried: true };
  t.match(choose([free, free]), { go: true, candidate: 0, atMs: 1_000 });
  t.match(choose([open, cooling, tried, free]), { go: true, candidate: 3, atMs: 1_000 });
  t.match(choose([tried]), { go: true, candidate: 0, atMs: 1_500 }, 'the same one after a back-off');
  t.match(choose([tried], { attempts: 2 }), { go: true, atMs: 2_000 }, 'which grows');
  t.match(choose([cooling, tried]), { go: true, candidate: 1, atMs: 1_500 }, 'the one that is free soonest');
  t.match(
    choose([open, cooling]),
    { go: true, candidate: 1, atMs: 5_125 },
    'with some jitter after a cooldown',
  );
  t.match(choose([open]), { go: false, because: 'circuit_open', againAtMs: 9_000 });
  t.match(
    choose([{ ...free, freeAtMs: 62_000 }]),
    { go: false, because: 'cooling', againAtMs: 62_000 },
    'beyond the cap: again when it is free, to the millisecond',
  );
  t.match(choose([tried], { attempts: 0 }), { go: true, atMs: 1_000 }, "a client's own retry has waited");
  t.match(choose([tried, free], { attempts: 0 }), { candidate: 1 }, 'and goes where it was not yet');
  const unpaid = { ...free, lastResort: true };
  t.match(choose([unpaid, cooling]), { go: true, candidate: 1 }, 'who wants to be paid is asked last');
  t.match(choose([unpaid, open]), { go: true, candidate: 0, atMs: 1_000 });
  t.match(choose([{ ...unpaid, tried: true }]), { go: false }, 'and once');
  t.match(choose([cooling], { deadlineMs: 4_000 }), { go: false, because: 'cooling' }, 'beyond the deadline');
});

t.test('each failure has its retry, and its rest of the upstream', async (t) => {
  const failure = (more: Partial<ProviderFailure>): ProviderFailure => ({
    reason: 'status',
    status: 500,
    retryAfterMs: undefined,
    shouldRetry: undefined,
    outOfCredit: undefined,
    clock: undefined,
    message: '',
    mayHaveCost: false,
    mayBeRunning: false,
    upstreamWasSilent: false,
    ...more,
  });
  for (const status of [408, 409, 429, 500, 502, 503, 504, 529])
    t.ok(isRetryable(failure({ status }), RETRY), `${status}`);
  for (const status of [400, 401, 403, 404, 422])
    t.notOk(isRetryable(failure({ status }), RETRY), `${status}`);
  t.notOk(isRetryable(failure({ shouldRetry: false }), RETRY), 'x-should-retry is obeyed');
  t.ok(isRetryable(failure({ status: 400, shouldRetry: true }), RETRY));
  for (const reason of ['connect_failed', 'connection_lost', 'first_byte'] as const)
    t.ok(isRetryable(failure({ reason }), RETRY), `${reason}, not sent whole`);
  for (const reason of ['connection_lost', 'first_byte'] as const) {
    const running = failure({ reason, mayBeRunning: true });
    t.notOk(isRetryable(running, RETRY), `${reason}, sent`);
    t.ok(isRetryable(running, { ...RETRY, resend: true }), `${reason}, sent, if that is asked for`);
  }
  t.ok(isRetryable(failure({ status: 402, outOfCredit: 'payment_required' }), RETRY), 'elsewhere');
  for (const reason of ['malformed_answer', 'answer_cut'] as const) {
    t.notOk(isRetryable(failure({ reason }), RETRY), reason);
    t.ok(isRetryable(failure({ reason }), { ...RETRY, incompleteAnswers: true }), reason);
  }
  for (const reason of ['deadline', 'idle', 'answer_too_large', 'draining'] as const)
    t.notOk(isRetryable(failure({ reason }), { ...RETRY, incompleteAnswers: true }), reason);
  t.equal(restMs(failure({ retryAfterMs: 7_000 }), RETRY, 1, 0.5), 7_000, 'whatever the status');
  t.equal(restMs(failure({ retryAfterMs: 3_600_000 }), RETRY, 1, 0.5), 3_600_000, 'also beyond the cap');
  t.equal(restMs(failure({ retryAfterMs: 1e12 }), RETRY, 1, 0.5), 86_400_000, 'a provider that exaggerates');
  t.equal(restMs(failure({ status: 429 }), RETRY, 3, 0.5), 2_000, 'longer each time in a row');
  t.equal(restMs(failure({}), RETRY, 3, 0.5), 0, 'a failure that asks for nothing');
});

t.test('the limiter admits what a minute holds, and more as the buckets refill', async (t) => {
  const limiter = new FairLimiter({ requestsPerMinute: 60, tokensPerMinute: 0 }, 0);
  const granted = (nowMs: number): number => {
    let count = 0;
    while (limiter.grant(nowMs) !== undefined) count++;
    return count;
  };
  for (let i = 0; i < 100; i++) limiter.enter('a', 1);
  t.equal(granted(0), 60);
  t.equal(limiter.nextAtMs(0), 1_000);
  t.equal(granted(999), 0);
  t.equal(granted(1_000), 1);
  t.equal(granted(11_000), 10);
  t.equal(limiter.waiting, 29);
});

t.test('a request gives back unused tokens, and owes those beyond its reservation', async (t) => {
  const limiter = new FairLimiter({ requestsPerMinute: 0, tokensPerMinute: 6_000 }, 0);
  const first = limiter.enter('a', 5_000);
  t.equal(limiter.grant(0), first);
  const second = limiter.enter('a', 5_000);
  t.equal(limiter.grant(0), undefined);
  limiter.settle(first, 500);
  t.equal(limiter.grant(0), second, '500 of 6000 are used');
  limiter.settle(second, 9_500);
  limiter.enter('a', 1_000);
  t.equal(limiter.nextAtMs(0), 50_000, '4000 owed and 1000 wanted, at 100 a second');
  const large = new FairLimiter({ requestsPerMinute: 0, tokensPerMinute: 100 }, 0);
  t.ok(
    large.grant(0) === undefined && large.enter('a', 1e6) && large.grant(0),
    'what never fits takes a full bucket',
  );
  const back = new FairLimiter({ requestsPerMinute: 1, tokensPerMinute: 0 }, 0);
  back.enter('a', 1);
  back.giveBack(back.grant(0)!);
  back.enter('a', 1);
  t.ok(back.grant(0), 'one that was never sent has used nothing');
});

t.test('callers share by use: a flood waits behind itself', async (t) => {
  const limiter = new FairLimiter({ requestsPerMinute: 60, tokensPerMinute: 0 }, 0);
  for (let i = 0; i < 60; i++) limiter.enter('flood', 100);
  while (limiter.grant(0) !== undefined);
  for (let i = 0; i < 500; i++) limiter.enter('flood', 100);
  for (let i = 0; i < 5; i++) limiter.enter('small', 100);
  limiter.enter('large', 1_000);
  const order: string[] = [];
  for (let second = 1; second <= 15; second++) order.push(limiter.grant(second * 1_000)?.caller ?? '');
  t.equal(order.filter((caller) => caller === 'small').length, 5);
  t.ok(order.includes('large'));
  t.ok(order.filter((caller) => caller === 'flood').length >= 5, 'and nobody is starved');
});

t.test('the limiter never admits more than the limits, in any order of events', async () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          caller: fc.constantFrom('a', 'b', 'c'),
          tokens: fc.integer({ min: 0, max: 300 }),
          waitMs: fc.integer({ min: 0, max: 5_000 }),
          leave: fc.boolean(),
        }),
        { maxLength: 60 },
      ),
      (steps) => {
        const perMinute = 1_000;
        const limiter = new FairLimiter({ requestsPerMinute: 0, tokensPerMinute: perMinute }, 0);
        let nowMs = 0;
        let letIn = 0;
        for (const { caller, tokens, waitMs, leave } of steps) {
          const ticket = limiter.enter(caller, tokens);
          if (leave) limiter.leave(ticket);
          nowMs += waitMs;
          for (let next = limiter.grant(nowMs); next !== undefined; next = limiter.grant(nowMs))
            letIn += next.tokens;
          if (letIn > perMinute + (nowMs * perMinute) / 60_000 + 1e-6) return false;
        }
        // Everybody who waits gets in in the end.
        for (let i = 0; limiter.waiting > 0 && i < 1_000; i++) {
          nowMs = Math.max(nowMs, limiter.nextAtMs(nowMs));
          while (limiter.grant(nowMs) !== undefined);
        }
        return limiter.waiting === 0;
      },
    ),
  );
});

t.test('new limits apply at once, and what was used stays used', async (t) => {
  const limiter = new FairLimiter({ requestsPerMinute: 0, tokensPerMinute: 0 }, 0);
  limiter.enter('a', 1e9);
  t.ok(limiter.grant(0), 'none is none');
  limiter.setLimits({ requestsPerMinute: 2, tokensPerMinute: 0 }, 0);
  for (let i = 0; i < 3; i++) limiter.enter('a', 1);
  t.ok(limiter.grant(0) && limiter.grant(0));
  t.notOk(limiter.grant(0));
  limiter.setLimits({ requestsPerMinute: 3, tokensPerMinute: 0 }, 0);
  t.ok(limiter.grant(0));
  limiter.enter('a', 1);
  t.notOk(limiter.grant(0));
});

t.test(
  "a provider's own limits are followed in a straight line, with what is in flight taken off",
  async (t) => {
    const learned = new LearnedLimit();
    t.equal(learned.freeAtMs(1e9, 0), 0, 'nothing is known');
    const headers = {
      'x-ratelimit-limit-tokens': '1000',
      'x-ratelimit-remaining-tokens': '200',
      'x-ratelimit-reset-tokens': '8s',
    };
    learned.learn(OPENAI_QUOTAS, headers, 0, NaN);
    t.equal(learned.freeAtMs(200, 0), 0);
    t.equal(learned.freeAtMs(600, 0), 4_000);
    t.equal(learned.freeAtMs(5_000, 0), 8_000, 'what never fits waits for all of it');
    learned.begin(200);
    t.equal(learned.freeAtMs(200, 0), 2_000);
    learned.end(200);
    t.equal(learned.freeAtMs(200, 0), 0);
    t.strictSame(learned.left(4_000), { requests: undefined, tokens: 600 });
    learned.learn(
      OPENAI_QUOTAS,
      { 'x-ratelimit-remaining-tokens': 'x', 'x-ratelimit-reset-tokens': '1s' },
      0,
      0,
    );
    t.equal(learned.freeAtMs(200, 0), 0, 'what can not be read changes nothing');
  },
);

t.test('requests within their reservations never overspend a token budget', async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1_000 }),
      fc.array(
        fc.tuple(fc.integer({ min: 0, max: 400 }), fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean()),
      ),
      (total, steps) => {
        const budget = new TokenBudget(total);
        const open: { reservation: { tokens: number }; used: number }[] = [];
        for (const [tokens, share, settles] of steps) {
          const reservation = budget.reserve(tokens);
          if (reservation !== undefined) open.push({ reservation, used: Math.floor(tokens * share) });
          if (settles && open.length > 0) {
            const { reservation, used } = open.shift()!;
            budget.settle(reservation, used);
            // Twice is once.
            budget.settle(reservation, used);
          }
          if (budget.spent + budget.reserved > total) return false;
        }
        for (const { reservation, used } of open) budget.settle(reservation, used);
        return budget.reserved === 0 && budget.spent <= total;
      },
    ),
  );
  const budget = new TokenBudget(10);
  budget.settle(budget.reserve(10)!, 15);
  t.equal(budget.left, 0);
  t.equal(budget.reserve(1), undefined);
  t.throws(() => new TokenBudget(NaN), RangeError);
});

t.test('the number of task budgets is bounded, and no budget in use is forgotten', async (t) => {
  const budgets = new TaskBudgets();
  const held = budgets.of('held', 100);
  const reservation = held.reserve(60)!;
  for (let i = 0; i < 11_000; i++) budgets.of(`task-${i}`, 100);
  t.equal(budgets.size, 10_000);
  t.equal(budgets.of('held', 100), held);
  held.settle(reservation, 60);
  t.not(budgets.of('', 100), budgets.of('', 100), 'who tells no task is one of its own');
});

t.test('a request keeps within two budgets, and gives unused tokens back to both', async (t) => {
  const [one, other] = [new TokenBudget(100), new TokenBudget(60)];
  const joint = new JointBudget(one, other);
  t.equal(joint.left, 60);
  t.equal(joint.reserve(61), undefined);
  t.strictSame([one.reserved, other.reserved], [0, 0], 'what does not fit takes nothing from either');
  const reservation = joint.reserve(60)!;
  t.strictSame([one.left, other.left, joint.left], [40, 0, 0]);
  joint.settle(reservation, 10);
  joint.settle(reservation, 10);
  t.strictSame([one.spent, other.spent, one.reserved, other.reserved], [10, 10, 0, 0]);
  one.reserve(85);
  t.equal(joint.left, 5);
});

t.test("a caller's budget lowers the operator's, and never raises it or another caller's", async (t) => {
  const budgets = new TaskBudgets();
  const call = (callerScope: string | undefined, tokens?: number): OwnerCall => ({
    deadlineMs: Number.POSITIVE_INFINITY,
    callerScope,
    taskId: 'T',
    budget: tokens === undefined ? undefined : new TokenBudget(tokens),
    onEnd: () => () => {},
  });
  const of = (ownerCall: OwnerCall | undefined, headers: Record<string, string> = {}, own = 1_000) =>
    budgets.forRequest(ownerCall, taskKey(ownerCall, 'T'), headers, own);
  t.equal(of(call('alice', 999_999))?.left, 1_000);
  t.equal(of(call('alice', 10))?.left, 10);
  const alices = of(call('alice', 999_999))!;
  alices.settle(alices.reserve(1_000)!, 1_000);
  t.equal(of(call('alice', 999_999))?.left, 0, 'the task has had all, with whichever call');
  t.equal(of(call('alice'))?.left, 0);
  t.equal(of(call('bob'))?.left, 1_000, 'another caller may call its task the same');
  t.equal(of(call(''))?.left, 1_000);
  t.equal(of(undefined)?.left, 1_000);
  const unknown = of(call(undefined))!;
  unknown.reserve(1_000);
  t.equal(of(call(undefined))?.left, 1_000, 'of which it is not known whose it is');
  t.equal(of(call('carol'), { 'outrigger-token-budget': '5' })?.left, 5, "the request's own header");
  t.equal(of(call('dan', 7), { 'outrigger-token-budget': '5' })?.left, 7, 'the same header, handed on');
  t.equal(of(call('erin', 7), {}, 0)?.left, 7);
  t.equal(of(call('erin'), {}, 0), undefined);
});

t.test('a record shows how a provider has served a model lately', async (t) => {
  const records = new ProviderRecords();
  const record = records.of('m');
  let nowMs = 0;
  const attempt = () => {
    const one = { startedMs: nowMs };
    record.begin(one);
    return one;
  };
  const good = (tookMs: number): void => {
    const one = attempt();
    nowMs += tookMs;
    record.answered(one, nowMs);
    record.ended(one, 'good', '', '', nowMs);
  };
  const bad = (kind: ProviderAttemptKind, what = '', tookMs = 10): void => {
    const one = attempt();
    nowMs += tookMs;
    record.ended(one, kind, what, `it said ${what}`, nowMs);
  };
  for (let count = 0; count < 4; count++) good(200);
  t.strictSame(record.usual, { answers: 0, slowestMs: 0 }, 'too few');
  good(900);
  t.strictSame(record.usual, { answers: 5, slowestMs: 900 });
  t.match(record, { answers: 5, answersMs: 1_700 });
  t.equal(record.waiting.size, 0);

  bad('refused', '401');
  bad('none');
  bad('refused', '403');
  t.match(record, { kind: 'refused', what: '403', said: 'it said 403', inARow: 2, atMs: nowMs });
  bad('failed', '503');
  t.match(record, { kind: 'failed', inARow: 1 });
  const stream = attempt();
  record.answered(stream, nowMs);
  t.match(record, { kind: 'failed' }, 'a stream that begins may yet be cut');
  record.ended(stream, 'failed', 'stream_cut', '', nowMs);
  t.match(record, { inARow: 2, what: 'stream_cut' });
  bad('throttled', '429');
  record.answered(attempt(), nowMs);
  t.match(record, { kind: undefined, inARow: 0 }, 'and throttles no more');

  bad('unanswered', '', 800);
  t.match(record, { kind: undefined }, 'who leaves before answers come says nothing');
  bad('unanswered', '', 1_000);
  t.match(record, { kind: 'unanswered', inARow: 1 });
  for (let count = 0; count < 64; count++) good(50);
  t.strictSame(record.usual, { answers: 64, slowestMs: 50 }, 'the latest');
  for (let i = 0; i < 200; i++) records.of(`invented ${i}`);
  t.ok([...records.values()].length <= 101, 'names that callers invent are bounded');
  t.equal(records.of('m'), record, 'and push out no model that answers');
  t.equal(records.of('another').model, 'another');
});

t.test('only some ends of attempts say something about the provider', async (t) => {
  const end = (status: number, more = {}) =>
    ({ committed: true, failure: undefined, status, stale: false, ...more }) as unknown as ProviderAttemptEnd;
  const kinds = [200, 400, 401, 403, 404, 408, 422, 429, 500, 529].map((status) =>
    kindOfEnd(end(status), false, 'm'),
  );
  t.strictSame(kinds, [
    'good',
    'none',
    'refused',
    'refused',
    'refused',
    'failed',
    'none',
    'throttled',
    'failed',
    'failed',
  ]);
  t.equal(kindOfEnd(end(404), false, ''), 'none', 'a file that is none');
  t.equal(kindOfEnd(end(0), true, 'm'), 'unanswered');
  t.equal(kindOfEnd(end(200), true, 'm'), 'none', 'the caller had enough');
  t.equal(kindOfEnd(end(0, { stale: true }), false, 'm'), 'none');
  const failed = (reason: string, more = {}) =>
    kindOfEnd(end(0, { failure: { reason, ...more } }), false, 'm');
  t.equal(failed('connect_failed'), 'failed');
  t.equal(failed('answer_too_large'), 'none');
  t.equal(failed('deadline', { clock: 'timeout' }), 'failed');
  t.equal(failed('deadline', { clock: 'call' }), 'none', 'the caller may have given it too little time');
});
