/** Tests that paths of calls end loops and chains that are too deep. */

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { CallPathGuard, DEFAULT_MAX_DEPTH } from './call-path.ts';

const guardOf = (self: string, maxDepth: number) => new CallPathGuard(self, { maxDepth, allowCycles: false });

/** Sends a call through agents in turn; returns the answer of the first one that refuses, or the last path. */
function through(names: readonly string[], maxDepth = DEFAULT_MAX_DEPTH) {
  let path: string | undefined;
  for (const name of names) {
    const check = guardOf(name, maxDepth).check(path);
    if (!check.ok) return { by: name, ...check };
    path = check.path;
  }
  return path;
}

t.test('the agent that would run again refuses a circle', async (t) => {
  t.equal(through(['gateway', 'research', 'writing', 'code']), 'gateway,research,writing,code');
  t.match(through(['a', 'b', 'a']), { by: 'a', refuse: 'cycle', message: /a → b → a/ });
  t.match(through(['gateway', 'a', 'b', 'c', 'b']), { by: 'b', message: /\(b → c → b\): agents must not/ });
  t.match(through(['a', 'a']), { by: 'a', refuse: 'cycle' });
  t.equal(through(['research', 'research-2', 'sea']), 'research,research-2,sea', 'names are compared whole');
});

t.test('a diamond is no circle', async (t) => {
  const d = guardOf('d', DEFAULT_MAX_DEPTH);
  t.strictSame(d.check(through(['a', 'b']) as string), { ok: true, path: 'a,b,d' });
  t.strictSame(d.check(through(['a', 'c']) as string), { ok: true, path: 'a,c,d' });
  t.strictSame(d.check(through(['a', 'b']) as string), { ok: true, path: 'a,b,d' });
});

t.test('only the depth stops agents that call each other in turns on purpose', async (t) => {
  const guard = new CallPathGuard('a', { maxDepth: 4, allowCycles: true });
  t.strictSame(guard.check('a,b'), { ok: true, path: 'a,b,a' });
  t.match(guard.check('a,b,a,b'), { ok: false, refuse: 'depth' });
});

t.test('the depth of calls is limited', async (t) => {
  const names = Array.from({ length: 9 }, (_, i) => `agent-${i}`);
  t.equal(through(names.slice(0, 8)), names.slice(0, 8).join(','));
  t.match(through(names), {
    by: 'agent-8',
    refuse: 'depth',
    message: /9 agents, agent-8 included; at most 8/,
  });
  t.match(through(['a', 'b'], 1), { by: 'b', refuse: 'depth' });
  const many = Array.from({ length: 101 }, (_, i) => `${i}`);
  t.equal(typeof through(many.slice(0, 100), 0), 'string', '0 is any number, within reason');
  t.match(through(many, 0), { refuse: 'depth', message: /at most 100/ });
});

t.test('any header becomes a short and valid value', async (t) => {
  t.equal(through(['a b,c', 'ü/"\n']), 'a%20b%2Cc,%C3%BC%2F%22%0A');
  t.match(through(['a b', 'x', 'a b']), { message: /a b → x → a b/ });
  t.match(guardOf('a', 8).check('%zz, a ,'), { ok: false, message: /\(a → a\)/ });
  t.match(guardOf('a', 8).check(',, b ,'), { ok: true, path: 'b,a' });
  t.strictSame(guardOf('', 8).check(undefined), { ok: true, path: 'unnamed' });
  const long = 'é'.repeat(100);
  t.match(through([long, 'b', long]), { refuse: 'cycle' }, 'long names are cut alike');
  const huge = guardOf('a', 8).check('x'.repeat(1_000_000));
  t.match(huge, { ok: false, refuse: 'depth' });
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary' }),
      fc.nat(10),
      (header, self, depth) => {
        const guard = guardOf(self, depth);
        const check = guard.check(header);
        if (guard.check(header) !== check && header !== '')
          throw new Error('the same header is checked once');
        if (!check.ok) return check.message.length < 10_000;
        if (check.path.length > 100 * 66) throw new Error('too long');
        const own = check.path.split(',').at(-1)!;
        if (!/^[A-Za-z0-9%._~-]+$/.test(own)) throw new Error(`not escaped: ${own}`);
        const again = guard.check(check.path);
        return !again.ok && (again.refuse === 'cycle' || again.refuse === 'depth');
      },
    ),
    { numRuns: 2_000 },
  );
});
