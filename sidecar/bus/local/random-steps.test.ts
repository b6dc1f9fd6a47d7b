// Random steps on a task file: whatever happens in whatever order, its counts are true, nothing is left behind of what was
// forgotten, and of all that have taken a task only the last one may write.
import { join } from 'node:path';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { FencedError } from '../log/log-errors.ts';
import { keyOf, newTask, SETTINGS } from '../log/test-support/logs.ts';
import { attend, leave } from './callers.ts';
import { LogClock } from './log-clock.ts';
import { openFile } from './open-file.ts';
import { cancel } from './operations.ts';
import { passDueTime } from './passing-time.ts';
import type { Held } from './requests.ts';
import { begin, bury, extend, giveBack, lose, settle, take, write } from './runs.ts';
import { dropDead, retryDead, submit } from './submissions.ts';
import { TaskFile } from './task-file.ts';
import { taskOf } from './task-steps.ts';

const settings = { ...SETTINGS, leaseMs: 1_000, maxRuns: 2, maxQueuedPerCaller: 3, maxAgeMs: 5_000 };
const limits = {
  ...settings,
  resultsMaxAgeMs: 4_000,
  deadMaxAgeMs: 9_000,
  resultsMaxBytes: 3_000,
  maxQueuedBytes: 3_000,
};

const name = fc.integer({ min: 1, max: 3 });
const bytes = fc.integer({ min: 0, max: 900 });
const waiter = fc.constantFrom('one.1', 'one.2', 'two.1', undefined);
/** Picks one of the runs that were taken so far, the latest first. */
const run = fc.integer({ min: 0, max: 3 });
const step = fc.oneof(
  fc.record({
    kind: fc.constant('submit' as const),
    name,
    bytes,
    timeLeftMs: fc.constantFrom(1_500, Infinity),
    waiter,
  }),
  fc.record({
    kind: fc.constant('leave' as const),
    name,
    waiter,
    leaving: fc.constantFrom('cancelled', 'vanished'),
  }),
  fc.record({ kind: fc.constant('take' as const) }),
  fc.record({ kind: fc.constantFrom('begin', 'extend', 'giveBack', 'lose', 'bury'), run }),
  fc.record({ kind: fc.constantFrom('write' as const, 'settle' as const), run, bytes }),
  fc.record({ kind: fc.constantFrom('cancel', 'retryDead', 'dropDead'), name }),
  fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 3_000 }) }),
);
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** Counts in two ways what must be equal after every step. */
const COUNTS = {
  tasks: [
    'SELECT agent_type, queued, running, dead FROM agents WHERE queued + running + dead > 0',
    `SELECT agent_type, sum(state = 'queued') AS queued, sum(state = 'running') AS running, sum(state = 'dead') AS dead
     FROM tasks WHERE state IN ('queued', 'running', 'dead') GROUP BY agent_type`,
  ],
  callers: [
    'SELECT agent_type, caller, queued FROM callers ORDER BY 1, 2',
    `SELECT agent_type, caller, count(*) AS queued FROM tasks WHERE state = 'queued' GROUP BY 1, 2 ORDER BY 1, 2`,
  ],
  bytes: [
    'SELECT request_bytes, result_bytes FROM log',
    `SELECT (SELECT total(length(payload)) FROM requests) AS request_bytes,
     (SELECT total(length(payload)) FROM results) + (SELECT total(length(payload)) FROM chunks) AS result_bytes`,
  ],
  callerBytes: [
    'SELECT caller, bytes FROM caller_bytes ORDER BY 1',
    `SELECT caller, sum(length(payload) + 1024) AS bytes FROM requests JOIN tasks ON tasks.id = requests.task
     GROUP BY 1 ORDER BY 1`,
  ],
  requests: [
    'SELECT task FROM requests ORDER BY 1',
    "SELECT id AS task FROM tasks WHERE state IN ('queued', 'running', 'dead') ORDER BY 1",
  ],
  results: [
    'SELECT part / 65536 AS task FROM results ORDER BY 1',
    "SELECT id AS task FROM tasks WHERE state = 'done' ORDER BY 1",
  ],
  chunks: [
    `SELECT DISTINCT task FROM chunks WHERE task NOT IN (SELECT id FROM tasks WHERE state IN ('running', 'done', 'cancelled'))
     OR run != (SELECT run FROM tasks WHERE id = task)`,
    'SELECT 0 AS task WHERE 0',
  ],
  leases: [
    "SELECT id FROM tasks WHERE state = 'running' ORDER BY 1",
    "SELECT id FROM tasks WHERE lease_until IS NOT NULL AND holder != '' ORDER BY 1",
  ],
  due: ['SELECT id FROM tasks WHERE due_at IS NULL', 'SELECT 0 AS id WHERE 0'],
} as const;

t.setTimeout(290_000);

t.test('counts, contents and fences hold after any steps', async (t) => {
  const path = join(t.testdir(), 'tasks.db');
  const db = await openFile(path);
  // What a power loss would do is no matter here.
  db.exec('PRAGMA synchronous = OFF');
  let nowMs = 1_000_000;
  const steady = (): number => nowMs;
  const file = new TaskFile(path, db, limits, new LogClock(steady, steady));
  t.teardown(() => file.close());
  const rows = (sql: string): unknown[] => file.all<object>(sql).map((row) => ({ ...row }));

  const perform = (one: Step, taken: Held[]): void => {
    const held = 'run' in one ? taken[one.run % taken.length] : undefined;
    if (one.kind === 'wait') {
      nowMs += one.ms;
      file.write(() => passDueTime(file));
    } else if (one.kind === 'submit') {
      const { timeLeftMs, waiter } = one;
      const task = newTask(`${one.name}`, {
        caller: `${one.name % 2}`,
        payload: Buffer.alloc(one.bytes),
        timeLeftMs,
      });
      file.write(() => submit(file, task, { joinEndedForMs: 500, waiter }));
    } else if (one.kind === 'leave') {
      const { waiter = 'three.1', leaving } = one;
      file.write(() => {
        if (waiter === 'two.1') attend(file, 'one');
        leave(file, keyOf(`${one.name}`), waiter, leaving);
      });
    } else if (one.kind === 'take') {
      const lease = file.write(() => take(file, ['research'], 'holder'));
      if (lease !== undefined) taken.unshift(lease.held);
    } else if ('name' in one) {
      const key = keyOf(`${one.name}`);
      if (one.kind === 'cancel') file.write(() => cancel(file, key, 'x'));
      else file.write(() => (one.kind === 'retryDead' ? retryDead(file, key) : dropDead(file, key)));
    } else if (held !== undefined) writeAs(held, one, taken);
  };

  const writeAs = (held: Held, one: Step, taken: readonly Held[]): void => {
    const before = taskOf(file, held.key);
    const newest = taken.find(({ key }) => key === held.key);
    const payload = Buffer.alloc('bytes' in one ? one.bytes : 0);
    const next = (before?.last_sequence ?? 0) + 1;
    try {
      file.write(() => {
        if (one.kind === 'begin') begin(file, held);
        else if (one.kind === 'extend') extend(file, held);
        else if (one.kind === 'giveBack') giveBack(file, held);
        else if (one.kind === 'lose') lose(file, held, 'x');
        else if (one.kind === 'bury') bury(file, held, 'x');
        else if (one.kind === 'write') write(file, held, next, 2, payload);
        else if (one.kind === 'settle') settle(file, held, 0, payload);
      });
    } catch (error) {
      if (error instanceof FencedError) return;
      throw error;
    }
    const wasDone = one.kind === 'settle' && before?.state === 'done';
    if (held !== newest || !(before?.state === 'running' || wasDone) || before.fence !== held.fence)
      throw new Error(`${one.kind} was allowed to an earlier run`);
  };

  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 50, size: 'max' }), (steps) => {
      db.exec(
        'DELETE FROM tasks; DELETE FROM requests; DELETE FROM results; DELETE FROM chunks; DELETE FROM caller_bytes;',
      );
      db.exec('DELETE FROM agents; DELETE FROM callers; UPDATE log SET request_bytes = 0, result_bytes = 0');
      const taken: Held[] = [];
      for (const one of steps) {
        perform(one, taken);
        for (const [what, [stored, counted]] of Object.entries(COUNTS)) {
          const [left, right] = [JSON.stringify(rows(stored)), JSON.stringify(rows(counted))];
          if (left !== right) throw new Error(`${what} after ${one.kind}: ${left} for ${right}`);
        }
      }
      // Time alone brings every task to an end, and then forgets it.
      for (let turn = 0; turn < 40; turn++) perform({ kind: 'wait', ms: 3_000 }, taken);
      return rows('SELECT * FROM tasks').length === 0 && file.requestBytes === 0 && file.resultBytes === 0;
    }),
    { numRuns: 200 },
  );
  t.pass('200 series of steps');
});
