// When the rest of a stream is asked for, and when it is given up.
import t from 'tap';
import { nextResume, type ResumeTry } from './resume.ts';

const backoff = { baseMs: 100, multiplier: 2, maxMs: 1_000 };
const lost: ResumeTry = {
  gone: false,
  reached: true,
  tries: 0,
  lostForMs: 0,
  lingerMs: 5_000,
  timeLeftMs: Number.POSITIVE_INFINITY,
  callsInFlight: 1,
};

function next(change: Partial<ResumeTry>, room = true): { decision: unknown; asked: number } {
  let asked = 0;
  const budget = {
    tryAcquire: () => {
      asked++;
      return room;
    },
  };
  return { decision: nextResume({ ...lost, ...change }, backoff, budget, 0, 0.5), asked };
}

t.test('the first try is made at once, and takes nothing from the budget', async (t) => {
  t.strictSame(next({}, false), {
    decision: { again: true, afterMs: 0, budgeted: false },
    asked: 0,
  });
});

t.test('further tries wait longer and longer, and take a place in the budget', async (t) => {
  const budgeted = true;
  t.strictSame(next({ tries: 1 }), { decision: { again: true, afterMs: 100, budgeted }, asked: 1 });
  t.strictSame(next({ tries: 3 }), { decision: { again: true, afterMs: 400, budgeted }, asked: 1 });
  t.strictSame(next({ tries: 1 }, false).decision, { again: false, outcome: 'budget_exhausted' });
});

t.test('a try behind one that reached nobody waits, and takes nothing from the budget', async (t) => {
  t.strictSame(next({ tries: 3, reached: false }, false), {
    decision: { again: true, afterMs: 400, budgeted: false },
    asked: 0,
  });
});

t.test('a try that would come too late is not made, and takes nothing', async (t) => {
  const gone = { decision: { again: false, outcome: 'gone' }, asked: 0 };
  t.strictSame(next({ gone: true }), gone);
  t.strictSame(next({ tries: 1, lostForMs: 4_900 }), gone, 'the run waits no longer');
  t.strictSame(next({ tries: 1, timeLeftMs: 100 }), {
    decision: { again: false, outcome: 'deadline' },
    asked: 0,
  });
});
