// Contract: what watchers see of a task.
import type { Cases } from './cases.ts';
import {
  answer,
  errorOf,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  patience,
  runOne,
  store,
  textOf,
  Watcher,
} from './logs.ts';

export const watching: Cases = {
  'a watcher sees the states and chunks of a task in order, and its result at the end': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(one, newTask('a'));
    const watchers = [new Watcher(one, keyOf('a')), new Watcher(other, keyOf('a'))];
    for (const watcher of watchers) await watcher.until('queued 0');
    const lease = await runOne(one);
    for (const watcher of watchers) await watcher.until('running 1');
    await lease.write(2, Buffer.from('one two'));
    for (const watcher of watchers) await watcher.until('chunks 1: 1-2');
    await lease.write(1, Buffer.from('three'));
    await lease.settle(answer('end'));
    for (const watcher of watchers) {
      await watcher.ended;
      t.strictSame(watcher.texts, ['queued 0', 'running 1', 'chunks 1: 1-2', 'chunks 1: 3-3', 'done 1']);
      const [chunks, last] = [watcher.events[2]!, watcher.events[4]!];
      t.equal(chunks.kind === 'chunks' && String(chunks.batch.payload), 'one two');
      t.match(last, { record: { result: { status: 0, lastSequence: 3 }, lastSequence: 3 } });
      t.equal(last.kind === 'state' && String(last.record.result?.short), 'end');
    }
  },

  'a watcher that joins in the middle gets what follows its sequence': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(one, newTask('a'));
    const lease = await runOne(one);
    for (let at = 0; at < 4; at++) await lease.write(2, Buffer.from(`batch ${at}`));
    const all = new Watcher(other, keyOf('a'));
    const some = new Watcher(other, keyOf('a'), 4);
    // The batch of 5 and 6 isn't cut.
    const within = new Watcher(other, keyOf('a'), 5);
    const late = new Watcher(other, keyOf('a'), 8);
    await all.until('chunks 1: 7-8');
    await late.until('running 1');
    await lease.write(1, Buffer.from('last'));
    await lease.settle(answer('end'));
    const of = (watcher: Watcher): Promise<string[]> => watcher.ended.then(() => watcher.texts);
    const batches = ['chunks 1: 1-2', 'chunks 1: 3-4', 'chunks 1: 5-6', 'chunks 1: 7-8', 'chunks 1: 9-9'];
    t.strictSame(await of(all), ['running 1', ...batches, 'done 1']);
    t.strictSame(await of(some), ['running 1', ...batches.slice(2), 'done 1']);
    t.strictSame(await of(within), ['running 1', ...batches.slice(2), 'done 1']);
    t.strictSame(await of(late), ['running 1', 'chunks 1: 9-9', 'done 1']);
    t.strictSame(await of(new Watcher(one, keyOf('a'), 6)), ['chunks 1: 7-8', 'chunks 1: 9-9', 'done 1']);
    t.strictSame(await of(new Watcher(one, keyOf('a'), 9)), ['done 1']);
  },

  'a new run is seen, and its chunks go on in the numbers of the task': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(one, newTask('a'));
    const watcher = new Watcher(other, keyOf('a'));
    const first = await runOne(one);
    await first.write(3, Buffer.from('void'));
    await watcher.until('chunks 1: 1-3');
    await first.lose('its agent crashed');
    const second = await runOne(one);
    t.match(second.record, { run: 2, lastSequence: 3 });
    await errorOf(first.write(1, Buffer.from('late')));
    await second.write(2, Buffer.from('good'));
    await second.settle(answer('end'));
    await watcher.ended;
    const texts = watcher.texts.filter((text) => !text.startsWith('queued'));
    t.strictSame(texts, ['running 1', 'chunks 1: 1-3', 'running 2', 'chunks 2: 4-5', 'done 2']);
    t.match(await one.get(keyOf('a')), { lastSequence: 5, result: { lastSequence: 5 } });
    const later = new Watcher(other, keyOf('a'));
    await later.ended;
    t.strictSame(
      later.texts.slice(-2),
      ['chunks 2: 4-5', 'done 2'],
      'who comes later needs only the last run',
    );
  },

  'a task knows its last sequence also where its run was handed back, or cancelled': async (t, open) => {
    const [one, other] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await store(one, newTask('a'));
    const first = await runOne(one);
    await first.write(3, Buffer.from('void'));
    await first.giveBack();
    t.match(await other.get(keyOf('a')), { state: 'queued', lastSequence: 3 });
    await (await runOne(one)).write(2, Buffer.from('more'));
    t.match(await other.get(keyOf('a')), { state: 'running', lastSequence: 5 });
    await other.cancel(keyOf('a'), 'not wanted');
    t.match(await one.get(keyOf('a')), { state: 'cancelled', lastSequence: 5 });
  },

  'a run that wrote nothing has no last sequence': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'));
    const first = await runOne(log);
    await first.write(3, Buffer.from('void'));
    await first.lose('its agent crashed');
    await (await runOne(log)).settle(answer('error', 13));
    t.match(await log.get(keyOf('a')), { lastSequence: 3, result: { status: 13, lastSequence: 0 } });
  },

  'writes that do not wait for each other are stored in their order': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'));
    const lease = await runOne(log);
    await Promise.all(Array.from({ length: 30 }, (_, at) => lease.write(1, Buffer.from(`${at} `))));
    await lease.settle(answer('end'));
    let text = '';
    for await (const event of log.watch(keyOf('a'), 0, patience()))
      if (event.kind === 'chunks') text += String(event.batch.payload);
    t.equal(text, Array.from({ length: 30 }, (_, at) => `${at} `).join(''));
  },

  'a slow watcher gets every chunk, and holds up nobody': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    await store(log, newTask('a'));
    const events = log.watch(keyOf('a'), 0, patience())[Symbol.asyncIterator]();
    await events.next();
    const lease = await runOne(log);
    const payload = Buffer.alloc(16 << 10, 'x');
    for (let at = 0; at < 100; at++) await lease.write(1, payload);
    await lease.settle(answer('end'));
    const texts: string[] = [];
    let bytes = 0;
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      texts.push(textOf(next.value));
      if (next.value.kind === 'chunks') bytes += next.value.batch.payload.length;
    }
    t.equal(bytes, 100 * payload.length);
    t.equal(texts.at(-1), 'done 1');
    const firsts = texts
      .filter((text) => text.startsWith('chunks'))
      .map((text) => Number(/: (\d+)-/.exec(text)?.[1]));
    t.strictSame(
      firsts,
      firsts.toSorted((a, b) => a - b),
    );
  },

  'the signal ends a watch, and that of an unknown task ends at once': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    const unknown = new Watcher(log, keyOf('unknown'));
    await unknown.ended;
    t.strictSame(unknown.events, []);
    await store(log, newTask('a'));
    const end = new AbortController();
    const watcher = new Watcher(log, keyOf('a'), 0, end.signal);
    await watcher.until('queued 0');
    end.abort();
    await watcher.ended;
    t.strictSame(watcher.texts, ['queued 0']);
  },
};
