// Contract: what ends tasks before they have a result, and what ends a log.
import { waitUntil } from '../../../../scripts/harness/wait-until.ts';
import { FencedError, LogUnavailableError } from '../log-errors.ts';
import type { Cases } from './cases.ts';
import {
  abortOf,
  answer,
  errorOf,
  JOIN,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  patience,
  runOne,
  store,
  takeOne,
  takesNothing,
  Watcher,
} from './logs.ts';

export const stopping: Cases = {
  'a queued task that is cancelled is never taken': async (t, open) => {
    const [one, other] = [await open(), await open()];
    await store(one, newTask('a'));
    const watcher = new Watcher(other, keyOf('a'));
    await watcher.until('queued 0');
    const record = await other.cancel(keyOf('a'), 'the caller has gone');
    t.match(record, { key: keyOf('a'), state: 'cancelled', cause: 'the caller has gone', run: 0 });
    t.ok(record!.endedAtMs >= record!.submittedAtMs);
    t.strictSame(await one.get(keyOf('a')), record);
    await watcher.ended;
    t.equal(watcher.texts.at(-1), 'cancelled 0');
    t.ok(await takesNothing(one));
    t.equal(await one.cancel(keyOf('unknown'), 'x'), undefined);
  },

  'the holder of a running task that is cancelled hears of it, and its result is refused': async (
    t,
    open,
  ) => {
    const [holder, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(holder, newTask('a'));
    const lease = await runOne(holder);
    await lease.write(1, Buffer.from('one'));
    const watcher = new Watcher(other, keyOf('a'));
    await watcher.until('chunks 1: 1-1');
    t.match(await other.cancel(keyOf('a'), 'no longer wanted'), { state: 'cancelled', run: 1, holder: '' });
    const reason = await abortOf(lease.cancelled);
    t.ok(reason instanceof FencedError && reason.because === 'cancelled');
    for (const promise of [
      lease.extend(),
      lease.begin(),
      lease.write(1, Buffer.from('x')),
      lease.settle(answer('x')),
    ]) {
      const error = await errorOf(promise);
      t.ok(error instanceof FencedError && error.because === 'cancelled');
    }
    await watcher.ended;
    t.equal(watcher.texts.at(-1), 'cancelled 1');
    t.match(await other.get(keyOf('a')), { state: 'cancelled', cause: 'no longer wanted' });
    t.ok(await takesNothing(other));
  },

  'an ended task stays as it is when it is cancelled': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'), newTask('b'));
    await (await runOne(log)).settle(answer('end'));
    await (await runOne(log)).bury('unreadable');
    t.match(await log.cancel(keyOf('a'), 'late'), { state: 'done', cause: '' });
    t.match(await log.cancel(keyOf('b'), 'late'), { state: 'dead', cause: 'unreadable' });
  },

  'a deadline that passes cancels the task, whether it waits or runs': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(
      one,
      newTask('runs', { timeLeftMs: 4_000 }),
      newTask('waits', { timeLeftMs: 4_000, agentType: 'writing' }),
    );
    const watcher = new Watcher(other, keyOf('waits'));
    const lease = await takeOne(other);
    t.equal(lease.record.key, keyOf('runs'));
    const reason = await abortOf(lease.cancelled);
    t.ok(reason instanceof FencedError && reason.because === 'cancelled');
    t.ok((await errorOf(lease.settle(answer('late')))) instanceof FencedError);
    await watcher.ended;
    t.equal(watcher.texts.at(-1), 'cancelled 0');
    for (const name of ['runs', 'waits']) {
      const record = await one.get(keyOf(name));
      t.match(record, { state: 'cancelled', cause: /deadline/ });
      t.ok(record!.endedAtMs >= record!.deadlineAtMs, 'no earlier than its deadline');
    }
    t.ok(await takesNothing(one, ['research', 'writing']));
  },

  'a task that has waited too long is dead': async (t, open) => {
    const log = await open({ maxAgeMs: 3_000, leaseMs: LONG_LEASE_MS });
    await store(log, newTask('runs'), newTask('waits'));
    const lease = await runOne(log);
    const watcher = new Watcher(log, keyOf('waits'));
    await watcher.ended;
    t.equal(watcher.texts.at(-1), 'dead 0');
    t.match(await log.get(keyOf('waits')), { state: 'dead', run: 0, cause: /max_age/ });
    t.ok(await takesNothing(log));
    await lease.settle(answer('a run may take longer'));
    t.match(await log.get(keyOf('runs')), { state: 'done' });
  },

  'results and dead tasks are forgotten after their time': async (t, open) => {
    const log = await open({ resultsMaxAgeMs: 300, deadMaxAgeMs: 600, leaseMs: LONG_LEASE_MS });
    await store(log, newTask('done'), newTask('dead'), newTask('cancelled'));
    const lease = await runOne(log);
    await lease.write(1, Buffer.from('chunk'));
    await lease.settle(answer('end'));
    await (await runOne(log)).bury('unreadable');
    await log.cancel(keyOf('cancelled'), 'not wanted');
    await waitUntil('the result is forgotten', async () => {
      const record = await log.get(keyOf('done'));
      return record?.result === undefined;
    });
    const watcher = new Watcher(log, keyOf('done'));
    await watcher.ended;
    t.notOk(
      watcher.texts.some((text) => text.startsWith('chunks')),
      'and so are its chunks',
    );
    await waitUntil('the dead task is forgotten', async () => (await log.get(keyOf('dead'))) === undefined);
    await waitUntil('all are gone', async () => (await log.list({ limit: 10 })).records.length === 0);
    t.match(await store(log, newTask('done')), [{ state: 'queued' }]);
  },

  'close ends waits and watches, and what comes later fails': async (t, open) => {
    const [log, other] = [await open({ leaseMs: 1_000 }), await open()];
    await store(log, newTask('a'), newTask('b', { agentType: 'writing' }));
    await takeOne(log);
    const watcher = new Watcher(log, keyOf('b'));
    await watcher.until('queued 0');
    const wait = log.take(['code'], 'a', patience()).catch((error: unknown) => error);
    await log.close();
    const ended = await wait;
    t.ok(ended === undefined || ended instanceof LogUnavailableError);
    await watcher.ended.catch((error: unknown) => t.ok(error instanceof LogUnavailableError));
    t.equal(log.connected, false);
    t.ok((await errorOf(log.submit(newTask('c'), JOIN))) instanceof LogUnavailableError);
    t.ok((await errorOf(log.get(keyOf('a')))) instanceof LogUnavailableError);
    await log.close();
    t.match((await takeOne(other)).record, { key: keyOf('a'), run: 2, lostRuns: 1 }, 'its lease ran out');
  },
};
