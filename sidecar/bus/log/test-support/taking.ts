// Contract: who gets which task, and when.
import { setTimeout as sleep } from 'node:timers/promises';
import type { TaskLease } from '../task-log.ts';
import type { Cases } from './cases.ts';
import {
  answer,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  patience,
  runOne,
  store,
  takeOne,
  takesNothing,
} from './logs.ts';

export const taking: Cases = {
  'a take gets a task with its request, once, and only of its agent types': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(one, newTask('w', { agentType: 'writing' }), newTask('r'));
    const lease = await takeOne(other, 'other', ['research']);
    t.match(lease.record, { key: keyOf('r'), state: 'running', run: 1, holder: 'other', lostRuns: 0 });
    t.equal(String(await lease.request()), 'request r');
    t.ok(lease.record.startedAtMs >= lease.record.submittedAtMs);
    t.ok(await takesNothing(one, ['research']), 'another one does not get it');
    t.match(await one.get(keyOf('r')), { state: 'running', run: 1, holder: 'other' });
    const several = await takeOne(one, 'one', ['research', 'writing']);
    t.equal(several.record.agentType, 'writing');
  },

  'a take waits for a task of another sidecar': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    const waiting = [takeOne(other), takeOne(other), takeOne(one, 'one', ['writing'])];
    await store(one, newTask('a'), newTask('b'));
    await store(other, newTask('c', { agentType: 'writing' }));
    const keys = (await Promise.all(waiting)).map(({ record }) => record.key);
    t.strictSame(keys.sort(), ['a', 'b', 'c'].map(keyOf).sort());
  },

  'who listens hears of a task of another sidecar, until it no longer listens': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    let heard = 0;
    const stop = one.listen('research', () => void heard++);
    // The other's server may hear of a listener a moment after its first task.
    for (let at = 0; heard === 0 && at < 100; at++) {
      await store(other, newTask(`a${at}`));
      await sleep(50);
    }
    t.ok(heard > 0);
    stop();
    stop();
    await sleep(100);
    const before = heard;
    await store(other, newTask('late'));
    await sleep(100);
    t.equal(heard, before);
  },

  'nothing is fetched ahead: what one sidecar does not take, another one gets at once': async (t, open) => {
    const [busy, free] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(busy, newTask('a'), newTask('b'), newTask('c'));
    const held = await runOne(busy);
    const others = [await runOne(free), await runOne(free)];
    t.strictSame(
      [held, ...others].map(({ record }) => record.key),
      ['a', 'b', 'c'].map(keyOf),
    );
  },

  'callers take turns, however much one of them has submitted': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    for (let at = 1; at <= 6; at++) await store(log, newTask(`a${at}`, { caller: 'alice' }));
    for (let at = 1; at <= 2; at++) await store(log, newTask(`b${at}`, { caller: 'bob' }));
    await store(log, newTask('c1', { caller: 'carol' }));
    const callers: string[] = [];
    for (let at = 0; at < 9; at++) callers.push((await takeOne(log)).record.caller);
    // The order of callers within a turn is the engine's.
    t.strictSame(callers.slice(0, 3).sort(), ['alice', 'bob', 'carol'], callers.join(' '));
    t.strictSame(callers.slice(3, 5).sort(), ['alice', 'bob'], callers.join(' '));
    t.strictSame(callers.slice(5), ['alice', 'alice', 'alice', 'alice']);
    t.match(await log.status(), [{ agentType: 'research', queued: 0, running: 9 }]);
  },

  'a caller that comes late has its turn soon': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    for (let at = 1; at <= 50; at++) await store(log, newTask(`a${at}`, { caller: 'alice' }));
    await takeOne(log);
    await takeOne(log);
    await store(log, newTask('b1', { caller: 'bob' }));
    const next = [await takeOne(log), await takeOne(log)].map(({ record }) => record.caller);
    t.ok(next.includes('bob'), next.join(' '));
  },

  'the signal ends a wait, and an ended signal takes nothing': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    const end = new AbortController();
    const waits = [log.take(['research'], 'a', end.signal), log.take(['research'], 'b', end.signal)];
    end.abort();
    t.strictSame(await Promise.all(waits), [undefined, undefined]);
    await store(log, newTask('a'));
    t.equal(await log.take(['research'], 'a', AbortSignal.abort()), undefined);
    t.match((await takeOne(log)).record, { key: keyOf('a'), run: 1 }, 'the task is there for the next');
  },

  'no task is lost when the signal comes at the same time': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    const taken = new Set<string>();
    const take = async (signal: AbortSignal): Promise<void> => {
      const lease = await log.take(['research'], 'a', signal);
      if (lease === undefined) return;
      taken.add(lease.record.key);
      await lease.settle(answer('x'));
    };
    for (let round = 0; round < 20; round++) {
      const end = new AbortController();
      const takes = [take(end.signal), take(end.signal)];
      const submits = [log.submit(newTask(`a${round}`), { joinEndedForMs: 0 })];
      // At each round a little later on the task's way.
      for (let wait = 0; wait < round; wait++) await new Promise((resolve) => setImmediate(resolve));
      end.abort();
      await Promise.all([...takes, ...submits]);
    }
    while (taken.size < 20) await take(patience());
    t.equal(taken.size, 20);
    t.ok(await takesNothing(log));
  },

  'many takers of several sidecars get each task once': async (t, open) => {
    const logs = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    const end = new AbortController();
    const leases: TaskLease[] = [];
    const taker = async (at: number): Promise<void> => {
      for (;;) {
        const lease = await logs[at % 2]!.take(['research'], `taker ${at}`, end.signal);
        if (lease === undefined) return;
        leases.push(lease);
        await lease.begin();
        await lease.settle(answer(lease.record.key));
        if (leases.length === 60) end.abort();
      }
    };
    const takers = Array.from({ length: 8 }, (_, at) => taker(at));
    const names = Array.from({ length: 60 }, (_, at) => `a${at}`);
    await Promise.all(names.map((name, at) => logs[at % 2]!.submit(newTask(name), { joinEndedForMs: 0 })));
    await Promise.all(takers);
    t.equal(new Set(leases.map(({ record }) => record.key)).size, 60);
    for (const name of names) {
      const record = await logs[0]!.get(keyOf(name));
      t.match(record, { state: 'done', run: 1, lostRuns: 0 });
      t.equal(String(record?.result?.short), keyOf(name));
    }
  },
};
