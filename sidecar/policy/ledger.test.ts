/** Tests that budgets are never exceeded, and that a refusal says which budget lacks what. */
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { NO_LIMIT } from './budget.ts';
import { type Granted, Ledger, type Scope, usd } from './ledger.ts';

const NOON = Date.UTC(2026, 10, 30, 12);
const none = Number.POSITIVE_INFINITY;

t.test('a request is reserved in all its budgets, or in none, and the refusal names the one', async (t) => {
  const ledger = new Ledger(() => NOON);
  const task = ledger.scope('task', 'alice 1', { tokens: 1_000, nanos: none });
  const caller = ledger.scope('caller', 'alice', { tokens: none, nanos: usd(1) });
  const day = ledger.scope('day', 'alice', { tokens: none, nanos: usd(0.5) });
  const scopes = [task, caller, day];
  const refused = ledger.reserve(scopes, { tokens: 600, nanos: usd(0.6) });
  t.match(refused, { granted: false, unit: 'usd', left: usd(0.5), worst: usd(0.6), missing: usd(0.1) });
  t.equal(refused.granted === false && refused.scope, day);
  t.strictSame(task.budget.reserved, { tokens: 0, nanos: 0 }, 'nothing stays reserved of a refusal');
  const first = ledger.reserve(scopes, { tokens: 600, nanos: usd(0.4) }) as Granted;
  t.match(ledger.reserve(scopes, { tokens: 600, nanos: 0 }), {
    scope: { kind: 'task' },
    unit: 'tokens',
    missing: 200,
  });
  ledger.settle(first, { tokens: 100, nanos: usd(0.1) });
  ledger.settle(first, { tokens: 100, nanos: usd(0.1) });
  t.strictSame(task.budget.spent, { tokens: 100, nanos: usd(0.1) }, 'a second end counts nothing');
  t.strictSame(ledger.use('day', 'alice')?.left, { tokens: none, nanos: usd(0.4) });
});

t.test('what is unknown is refused where it is limited, and counts as reserved at its end', async (t) => {
  const ledger = new Ledger(() => NOON);
  const money = ledger.scope('caller', 'a', { tokens: none, nanos: usd(1) });
  const tokens = ledger.scope('caller', 'b', { tokens: 500, nanos: none });
  t.match(ledger.reserve([money], { tokens: 1, nanos: undefined }), {
    granted: false,
    unit: 'usd',
    worst: undefined,
    missing: undefined,
  });
  t.match(ledger.reserve([tokens], { tokens: undefined, nanos: 1 }), { granted: false, unit: 'tokens' });
  t.match(ledger.reserve([tokens], { tokens: Number.NaN, nanos: 1 }), { granted: false, unit: 'tokens' });
  const taken = ledger.reserve([tokens], { tokens: 400, nanos: undefined }) as Granted;
  ledger.settle(taken, { tokens: undefined, nanos: undefined });
  t.strictSame(tokens.budget.spent, { tokens: 400, nanos: 0 });
});

t.test("a day ends at midnight of UTC, and a task's first limit stays", async (t) => {
  let nowMs = NOON;
  const ledger = new Ledger(() => nowMs);
  const limit = { tokens: none, nanos: usd(1) };
  const day = ledger.scope('day', 'a', limit);
  t.equal(day.renewsAtMs, Date.UTC(2026, 11, 1));
  const late = ledger.reserve([day], { tokens: 0, nanos: usd(1) }) as Granted;
  nowMs = Date.UTC(2026, 11, 1);
  t.equal(ledger.use('day', 'a'), undefined);
  const next = ledger.scope('day', 'a', limit);
  ledger.settle(late, { tokens: 0, nanos: usd(1) });
  t.equal(next.budget.left.nanos, usd(1), 'yesterday does not draw on today');
  t.equal(
    ledger.scope('day', 'a', { tokens: none, nanos: usd(3) }).budget.left.nanos,
    usd(3),
    'a lease grows',
  );
  t.equal(ledger.scope('task', 'x', limit), ledger.scope('task', 'x', NO_LIMIT));
  t.not(ledger.scope('task', '', limit), ledger.scope('task', '', limit));
  for (let i = 0; i < 10_050; i++) ledger.scope('task', `t${i}`, limit);
  t.equal(ledger.taskCount, 10_000);
});

t.test('no order of requests, ends and leases exceeds a budget by a nano-dollar', async () => {
  const amount = fc.record({ tokens: fc.nat(3_000), nanos: fc.nat(9_000) });
  const step = fc.record({
    what: fc.constantFrom('begin', 'begin', 'end', 'fail', 'midnight', 'lease'),
    who: fc.nat(2),
    worst: amount,
    share: fc.nat(100),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
      let nowMs = NOON;
      let lease = 5_000;
      const ledger = new Ledger(() => nowMs);
      const running: Granted[] = [];
      const all = new Set<Scope>();
      for (const { what, who, worst, share } of steps) {
        const scopes = [
          ledger.scope('task', `${who}`, { tokens: 9_000, nanos: none }),
          ledger.scope('caller', `${who % 2}`, { tokens: none, nanos: 40_000 }),
          ledger.scope('day', `${who % 2}`, { tokens: 20_000, nanos: lease }),
        ];
        for (const scope of scopes) all.add(scope);
        if (what === 'midnight') nowMs += 86_400_000;
        else if (what === 'lease') lease += 1_000;
        else if (what === 'begin') {
          const taken = ledger.reserve(scopes, worst);
          if (taken.granted) running.push(taken);
        } else {
          const ended = running.splice(who, 1)[0];
          if (ended === undefined) continue;
          const { tokens = 0, nanos = 0 } = ended.worst;
          // What is cut has an unknown cost.
          const used =
            what === 'fail'
              ? { tokens: undefined, nanos: undefined }
              : { tokens: Math.floor((tokens * share) / 100), nanos: Math.floor((nanos * share) / 100) };
          ledger.settle(ended, used);
        }
        for (const { budget } of all) {
          const { limit, spent, reserved } = budget;
          if (spent.tokens + reserved.tokens > limit.tokens || spent.nanos + reserved.nanos > limit.nanos)
            return false;
        }
      }
      for (const ended of running) ledger.settle(ended, { tokens: 0, nanos: 0 });
      return [...all].every(({ budget }) => budget.reserved.tokens === 0 && budget.reserved.nanos === 0);
    }),
    { numRuns: 300 },
  );
});
