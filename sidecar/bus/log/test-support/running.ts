// Contract: leases, their fence, and what follows a run that was lost.
import { setTimeout as sleep } from 'node:timers/promises';
import { waitUntil } from '../../../../scripts/harness/wait-until.ts';
import { FencedError } from '../log-errors.ts';
import type { Cases } from './cases.ts';
import {
  abortOf,
  answer,
  errorOf,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  runOne,
  store,
  takeOne,
  takesNothing,
} from './logs.ts';

export const running: Cases = {
  'a result is stored once, whatever its status, and ends the task': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'), newTask('b'));
    await (await runOne(log)).settle(answer('good'));
    const second = await runOne(log);
    await second.settle(answer('bad', 3));
    const [good, bad] = [await log.get(keyOf('a')), await log.get(keyOf('b'))];
    t.match(good, { state: 'done', run: 1, holder: '', result: { status: 0, lastSequence: 0 } });
    t.match(bad, { state: 'done', run: 1, result: { status: 3, lastSequence: 0 } });
    t.equal(String(bad?.result?.short), 'bad');
    t.ok(good!.endedAtMs >= good!.startedAtMs);
    t.notOk(second.cancelled.aborted);
    t.ok(await takesNothing(log));
  },

  'a lease that is extended holds; one that is not is lost, and the task runs again': async (t, open) => {
    const [one, other] = [await open({ leaseMs: 3_000 }), await open({ leaseMs: 3_000 })];
    await store(one, newTask('a'));
    const lease = await runOne(one, 'one');
    const next = takeOne(other, 'other');
    const endMs = one.nowMs() + 4_500;
    while (one.nowMs() < endMs) {
      await lease.extend();
      await sleep(100);
    }
    t.match(await other.get(keyOf('a')), { state: 'running', run: 1, holder: 'one', lostRuns: 0 });
    const second = await next;
    t.match(second.record, { key: keyOf('a'), run: 2, lostRuns: 1, holder: 'other', generation: 1 });
    t.equal(String(await second.request()), 'request a');
    await second.settle(answer('by the second run'));
    t.match(await one.get(keyOf('a')), { state: 'done', run: 2, lostRuns: 1 });
  },

  'what an earlier run still writes is refused after another one has begun': async (t, open) => {
    const [one, other] = [await open(), await open({ leaseMs: LONG_LEASE_MS })];
    await store(one, newTask('a'));
    const first = await takeOne(one, 'one');
    // On a busy machine its lease may be over already.
    const lastSequence = await first.write(2, Buffer.from('first')).then(
      () => 2,
      () => 0,
    );
    const second = await runOne(other, 'other');
    t.equal(second.record.run, 2);
    const late = {
      begin: first.begin(),
      extend: first.extend(),
      write: first.write(1, Buffer.from('late')),
      settle: first.settle(answer('late')),
      giveBack: first.giveBack(),
      lose: first.lose('late'),
      bury: first.bury('late'),
    };
    for (const [name, promise] of Object.entries(late)) {
      const error = await errorOf(promise);
      t.ok(error instanceof FencedError, name);
      t.match(error, { because: 'lost' }, name);
    }
    t.match(await one.get(keyOf('a')), { state: 'running', run: 2, holder: 'other', lastSequence });
    await second.settle(answer('second'));
    t.ok((await errorOf(first.settle(answer('later still')))) instanceof FencedError);
    const record = await one.get(keyOf('a'));
    t.match(record, { state: 'done', run: 2, result: { lastSequence: 0 } });
    t.equal(String(record?.result?.short), 'second');
  },

  'any sidecar finds a lost lease, also when the one that held it is closed': async (t, open) => {
    const [one, other] = [await open(), await open()];
    await store(one, newTask('a'));
    await takeOne(one, 'one');
    await one.close();
    const second = await takeOne(other);
    t.match(second.record, { run: 2, lostRuns: 1 });
  },

  'the wait after a lost run grows': async (t, open) => {
    const retryDelay = { baseMs: 300, maxMs: 450 };
    const log = await open({ leaseMs: LONG_LEASE_MS, maxRuns: 5, retryDelay });
    await store(log, newTask('a'));
    for (const delayMs of [300, 450, 450]) {
      const lease = await runOne(log);
      const lostAtMs = log.nowMs();
      await lease.lose('its agent crashed');
      const next = await takeOne(log);
      const waitedMs = next.record.startedAtMs - lostAtMs;
      t.ok(waitedMs >= delayMs - 2, `waited ${waitedMs} of ${delayMs} ms`);
      await next.giveBack();
    }
  },

  'a task whose runs were lost too often is dead, and says why': async (t, open) => {
    const log = await open({ maxRuns: 2, leaseMs: LONG_LEASE_MS });
    const short = await open({ maxRuns: 2 });
    await store(log, newTask('a'), newTask('b'));
    for (const run of [1, 2]) {
      const lease = await runOne(log);
      t.equal(lease.record.run, run);
      await lease.lose('its agent crashed with SIGSEGV');
      if (run === 1) t.match(await log.get(keyOf('a')), { state: 'queued', lostRuns: 1, holder: '' });
      else t.match(await log.get(keyOf('a')), { state: 'dead', lostRuns: 2, cause: /SIGSEGV/ });
      // b is in between: callers' tasks come in turns, and a waits for its delay.
      if (run === 1) await (await runOne(log)).giveBack();
      if (run === 1) await log.cancel(keyOf('b'), 'out of the way');
    }
    t.ok((await log.get(keyOf('a')))!.endedAtMs > 0);
    await store(short, newTask('c'));
    await takeOne(short);
    await takeOne(short);
    const dead = await waitUntil('c is dead', async () => {
      const record = await log.get(keyOf('c'));
      return record?.state === 'dead' && record;
    });
    t.match(dead, { lostRuns: 2, cause: /lease/ });
    t.ok(await takesNothing(log));
  },

  'a task that is given back waits where it was, and its run is not counted': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS, maxRuns: 1 });
    await store(log, newTask('a'), newTask('b'));
    for (let time = 0; time < 3; time++) {
      const lease = await (time === 1 ? runOne(log) : takeOne(log));
      t.match(lease.record, { key: keyOf('a'), run: 1, lostRuns: 0 });
      await lease.giveBack();
      t.match(await log.get(keyOf('a')), {
        state: 'queued',
        run: 0,
        lostRuns: 0,
        holder: '',
        startedAtMs: 0,
      });
      t.ok(
        (await errorOf(lease.settle(answer('late')))) instanceof FencedError,
        'its holder has no lease any more',
      );
    }
    t.equal((await takeOne(log)).record.key, keyOf('a'));
    const other = await open({ leaseMs: LONG_LEASE_MS });
    const lost = await runOne(other);
    t.equal(lost.record.key, keyOf('b'));
    await lost.lose('its agent crashed');
    const second = await takeOne(other);
    t.match(second.record, { key: keyOf('b'), run: 2 });
    await second.giveBack();
    const { startedAtMs } = lost.record;
    t.match(await log.get(keyOf('b')), { run: 1, lostRuns: 1, startedAtMs }, 'it began when run 1 did');
  },

  'a given back run can not write into the next one, although that has its number': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'));
    const first = await takeOne(log);
    await first.giveBack();
    const second = await runOne(log);
    t.equal(second.record.run, first.record.run);
    t.ok((await errorOf(first.write(1, Buffer.from('x')))) instanceof FencedError);
    t.ok((await errorOf(first.settle(answer('x')))) instanceof FencedError);
    await second.settle(answer('y'));
    t.equal(String((await log.get(keyOf('a')))?.result?.short), 'y');
  },

  'a run of an earlier generation can not write into the next one': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'));
    const first = await runOne(log);
    await log.cancel(keyOf('a'), 'not wanted');
    await store(log, newTask('a'));
    const second = await runOne(log);
    t.match(second.record, { generation: 2, run: 1 });
    const late = [first.settle(answer('late')), first.write(1, Buffer.from('late')), first.lose('late')];
    for (const promise of late) t.ok((await errorOf(promise)) instanceof FencedError);
    await second.settle(answer('second'));
    t.equal(String((await log.get(keyOf('a')))?.result?.short), 'second');
  },

  'a run that never began does not count where a task waits for others to end': async (t, open) => {
    const holds = await open({ leaseMs: LONG_LEASE_MS, maxRuns: 3 });
    const loses = await open({ maxRuns: 3 });
    await store(holds, newTask('a'));
    for (let run = 0; run < 2; run++) await (await runOne(holds)).lose('its agent crashed');
    const waiting = await takeOne(loses);
    t.match(waiting.record, { run: 3, lostRuns: 2 });
    const again = await takeOne(holds);
    t.match(again.record, { run: 3, lostRuns: 2 }, 'it was lost before it began');
    t.ok((await errorOf(waiting.begin())) instanceof FencedError);
    await again.begin();
    await again.lose('its agent crashed');
    t.match(await holds.get(keyOf('a')), { state: 'dead', lostRuns: 3 });
  },

  'a task can be buried with a cause': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'));
    const lease = await takeOne(log);
    await lease.bury('its request can not be read');
    t.match(await log.get(keyOf('a')), {
      state: 'dead',
      lostRuns: 0,
      cause: 'its request can not be read',
      holder: '',
    });
    t.ok(await takesNothing(log));
  },

  'the signal of a lease tells that it was lost': async (t, open) => {
    const [one, other] = [await open(), await open()];
    await store(one, newTask('a'));
    const first = await takeOne(one);
    await takeOne(other);
    const reason = await abortOf(first.cancelled);
    t.ok(reason instanceof FencedError && reason.because === 'lost');
  },
};
