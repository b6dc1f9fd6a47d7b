// Contract: what operators see and do, and which sidecars take tasks.
import { waitUntil } from '../../../../scripts/harness/wait-until.ts';
import { UnknownPageError } from '../log-errors.ts';
import type { Consumer, ListOptions, TaskLog } from '../task-log.ts';
import type { Cases } from './cases.ts';
import { answer, errorOf, keyOf, LONG_LEASE_MS, newTask, runOne, store, takeOne } from './logs.ts';

/** The names of all tasks of a list, page by page. */
async function listed(log: TaskLog, names: readonly string[], options: ListOptions): Promise<string[][]> {
  const byKey = new Map(names.map((name) => [keyOf(name), name]));
  const pages: string[][] = [];
  for (let after: string | undefined; ; ) {
    const page = await log.list({ ...options, ...(after === undefined ? {} : { after }) });
    pages.push(page.records.map(({ key }) => byKey.get(key) ?? key));
    if (page.next === undefined) return pages;
    after = page.next;
  }
}

const consumer = (instance: string, changes: Partial<Consumer> = {}): Consumer => ({
  instance,
  name: 'research-agent',
  version: '1.2.3',
  agentTypes: ['research', 'writing'],
  places: 8,
  ...changes,
});

export const operating: Cases = {
  'a list has the latest tasks first, page by page, by caller, agent type and state': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    const names = ['a1', 'a2', 'a3', 'b1', 'w1'];
    await store(
      log,
      newTask('a1', { caller: 'alice' }),
      newTask('a2', { caller: 'alice' }),
      newTask('a3', { caller: 'alice' }),
      newTask('b1', { caller: 'bob' }),
      newTask('w1', { caller: 'alice', agentType: 'writing' }),
    );
    const list = (options: ListOptions): Promise<string[][]> => listed(log, names, options);
    t.strictSame((await list({ limit: 10 })).flat(), ['w1', 'b1', 'a3', 'a2', 'a1']);
    const pages = await list({ limit: 2 });
    t.strictSame(pages.flat(), ['w1', 'b1', 'a3', 'a2', 'a1']);
    t.ok(pages.every((page) => page.length <= 2));
    t.strictSame((await list({ limit: 2, caller: 'alice' })).flat(), ['w1', 'a3', 'a2', 'a1']);
    t.strictSame((await list({ limit: 10, caller: 'carol' })).flat(), []);
    t.strictSame((await list({ limit: 10, agentType: 'writing' })).flat(), ['w1']);
    const lease = await takeOne(log, 'holder', ['writing']);
    await lease.settle(answer('end'));
    await log.cancel(keyOf('a2'), 'x');
    t.strictSame((await list({ limit: 10, state: 'queued' })).flat(), ['b1', 'a3', 'a1']);
    t.strictSame((await list({ limit: 1, caller: 'alice', state: 'queued' })).flat(), ['a3', 'a1']);
    t.strictSame((await list({ limit: 10, state: 'done' })).flat(), ['w1']);
    t.strictSame((await list({ limit: 10, state: 'cancelled', agentType: 'research' })).flat(), ['a2']);
    const { records } = await log.list({ limit: 10, state: 'done' });
    t.match(records, [{ state: 'done', result: { status: 0 }, caller: 'alice' }]);
  },

  'a list goes on only after a page that it gave': async (t, open) => {
    const log = await open();
    await store(log, newTask('a'), newTask('b'));
    const { next } = await log.list({ limit: 1 });
    t.strictSame((await listed(log, ['a'], { limit: 1, after: next! })).flat(), ['a']);
    for (const after of ['', 'x', '-1', '1e3', '0', `${next}0x`, `${next!.slice(1, -1)}%`, '9'.repeat(400)]) {
      const error = await errorOf(log.list({ limit: 1, after }));
      t.ok(error instanceof UnknownPageError, JSON.stringify(after));
    }
  },

  'a dead task is submitted anew on request, with its request': async (t, open) => {
    const [log, other] = [
      await open({ leaseMs: LONG_LEASE_MS, maxRuns: 1 }),
      await open({ leaseMs: LONG_LEASE_MS }),
    ];
    await store(log, newTask('a', { caller: 'alice' }));
    const first = await runOne(log);
    await first.write(2, Buffer.from('void'));
    await first.lose('its agent crashed');
    t.match(await log.get(keyOf('a')), { state: 'dead' });
    t.equal(await other.retryDead(keyOf('a')), true);
    t.match(await log.get(keyOf('a')), {
      digest: keyOf('digest of a'),
      publisher: 'tests',
      caller: 'alice',
      state: 'queued',
      generation: 2,
      run: 0,
      lostRuns: 0,
      cause: '',
      endedAtMs: 0,
    });
    t.equal(await log.retryDead(keyOf('a')), false, 'it is dead no longer');
    t.equal(await log.retryDead(keyOf('unknown')), false);
    const lease = await runOne(other);
    t.equal(String(await lease.request()), 'request a');
    t.match(lease.record, { generation: 2, run: 1, lostRuns: 0 });
    await lease.settle(answer('end'));
    t.equal(await log.retryDead(keyOf('a')), false);
  },

  'a dead task is forgotten on request, and only a dead one': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'), newTask('b'));
    await (await takeOne(log)).bury('unreadable');
    t.equal(await log.dropDead(keyOf('a')), true);
    t.equal(await log.get(keyOf('a')), undefined);
    t.equal(await log.dropDead(keyOf('a')), false);
    t.equal(await log.dropDead(keyOf('b')), false);
    t.match(await log.get(keyOf('b')), { state: 'queued' });
    t.strictSame((await log.list({ limit: 10, state: 'dead' })).records, []);
  },

  'the status counts tasks by agent type and state': async (t, open) => {
    const [log, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open()];
    t.strictSame(await log.status(), []);
    await store(
      log,
      ...['a', 'b', 'c', 'd'].map((name) => newTask(name)),
      newTask('w', { agentType: 'writing' }),
    );
    await runOne(log);
    await (await runOne(log)).bury('unreadable');
    const byType = async (): Promise<Map<string, object>> =>
      new Map((await other.status()).map(({ oldestMs: _, ...counts }) => [counts.agentType, counts]));
    let status = await byType();
    t.strictSame(status.get('research'), { agentType: 'research', queued: 2, running: 1, dead: 1 });
    t.strictSame(status.get('writing'), { agentType: 'writing', queued: 1, running: 0, dead: 0 });
    const submittedAtMs = (await log.get(keyOf('c')))!.submittedAtMs;
    const research = (await log.status()).find(({ agentType }) => agentType === 'research');
    t.ok(
      research!.oldestMs >= 0 && research!.oldestMs <= log.nowMs() - submittedAtMs,
      'the oldest that waits',
    );
    await log.dropDead(keyOf('b'));
    await log.cancel(keyOf('c'), 'x');
    await log.cancel(keyOf('d'), 'x');
    await log.cancel(keyOf('a'), 'x');
    status = await byType();
    const idle = status.get('research') ?? { agentType: 'research', queued: 0, running: 0, dead: 0 };
    t.strictSame(idle, { agentType: 'research', queued: 0, running: 0, dead: 0 });
    t.equal((await log.status()).find(({ agentType }) => agentType === 'research')?.oldestMs ?? 0, 0);
  },

  'sidecars that take tasks are known until they withdraw or are silent': async (t, open) => {
    const [log, silent] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: 500 })];
    await log.announce(consumer('one'));
    await log.announce(consumer('two', { agentTypes: ['code'], places: 2, version: '2' }));
    await silent.announce(consumer('three'));
    t.strictSame(await log.consumers('code'), [
      consumer('two', { agentTypes: ['code'], places: 2, version: '2' }),
    ]);
    await log.announce(consumer('one', { places: 4 }));
    await waitUntil(
      'the silent one is forgotten',
      async () => (await silent.consumers('research')).length === 1,
    );
    t.strictSame(await silent.consumers('research'), [consumer('one', { places: 4 })]);
    t.strictSame(await log.consumers('unknown'), []);
    await log.announce(consumer('one', { places: 0 }));
    t.strictSame(await log.consumers('research'), []);
    t.strictSame(await log.consumers('writing'), []);
  },
};
