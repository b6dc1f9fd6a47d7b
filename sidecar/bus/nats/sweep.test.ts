/** The sweep removes what crashes leave on the bus, and nothing that a task still needs. */
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import t from 'tap';
import { PATIENCE_MS } from '../../../scripts/harness/patience.ts';
import { skipWithout } from '../../../scripts/harness/tool.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import type { TaskLog } from '../log/task-log.ts';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import type { TaskRecord } from '../log/task-record.ts';
import {
  answer,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  runOne,
  SETTINGS,
  store,
  takeOne,
} from '../log/test-support/logs.ts';
import { BusConnection } from './connection.ts';
import type { QueuedTask } from './delivery.ts';
import { KEYS, resultSubject } from './names.ts';
import { openNatsLog } from './nats-task-log.ts';
import { Provision } from './provision.ts';
import { Store } from './store.ts';
import { newStoredTask } from './stored-task.ts';
import { Sweep } from './sweep.ts';
import { startNats } from './test-support/nats-server.ts';

const skip = skipWithout('nats-server');
t.setTimeout(2 * PATIENCE_MS);

t.test('orphans are swept, and nothing else', { skip }, async (t) => {
  const server = await startNats(t);
  const options = {
    servers: [server.address],
    settings: { ...SETTINGS, leaseMs: LONG_LEASE_MS, maxRuns: 1 },
  };
  const log = await openNatsLog(options);
  t.teardown(() => log.close());
  const provision: Provision = new Provision(options, () => connection);
  const connection: BusConnection = new BusConnection(options, (jsm) => provision.prepare(jsm));
  await connection.open(PATIENCE_MS);
  t.teardown(() => connection.close());
  const parts = new Store(connection, options.settings, provision);
  const untilMs = performance.now() + PATIENCE_MS;
  const large = Buffer.alloc(3 << 20, 'x');
  const publisher = 'tests';

  // Tasks that are as they should be: one done, one dead, one that runs, one that waits.
  await store(log, newTask('done', { payload: large }));
  const done = await runOne(log);
  await done.write(1, Buffer.from('chunk'));
  await done.settle({ status: 0, payload: large });
  await store(log, newTask('dead', { payload: large }));
  await (await runOne(log)).lose('crashed');
  await store(log, newTask('running', { payload: large }));
  const running = await runOne(log);
  await running.write(1, Buffer.from('chunk'));
  await store(log, newTask('waiting', { payload: large }));

  // A sidecar died behind each first step.
  const lost = newTask('request without a key', { payload: large });
  await parts.queue.putParts(lost, untilMs);
  await parts.results.put((id) => resultSubject({ publisher, key: keyOf('running') }, id), large, untilMs);
  const letter: QueuedTask = {
    ...{ key: keyOf('done'), digest: '', agentType: 'research', caller: '', publisher, sequence: 1 },
    ...{ generation: 1, revision: 1, submittedAtMs: 0, deadlineAtMs: null, wanted: { waiters: {} } },
    ...{ requestBytes: 1, large: '', body: Buffer.alloc(1) },
  };
  await parts.deadLetters.put(letter, 'it ended in another way');
  await parts.chunks.fence({ publisher, key: keyOf('gone') }, 1, 1, untilMs);
  const never = {
    digest: '',
    agentType: 'research',
    publisher,
    caller: '',
    generation: 1,
    requestBytes: 0,
    largeRequest: '',
  };
  const times = { submittedAtMs: parts.nowMs(), deadlineAtMs: null, wanted: { waiters: {} } };
  await parts.keys.write(
    { publisher, key: keyOf('never queued') },
    0,
    newStoredTask({ ...never, ...times }, 0),
  );

  const none = { requests: 0, results: 0, deadLetters: 0, chunks: 0, keys: 0 };
  t.strictSame(await new Sweep(parts).run(), none, 'what is young may belong to a step that is being made');
  const sweep = new Sweep(parts, 0);
  t.strictSame(await sweep.run(), { requests: 1, results: 1, deadLetters: 1, chunks: 1, keys: 1 });
  t.strictSame(await sweep.run(), none);
  t.equal(await log.get(keyOf('never queued')), undefined);

  t.equal((await log.get(keyOf('done')))?.result?.bytes, large.length);
  t.ok(await log.retryDead(keyOf('dead')), 'its letter is there');
  await running.settle(answer('end'));
  const waiting = await runOne(log);
  t.equal(waiting.record.key, keyOf('waiting'));
  t.equal((await waiting.request()).length, large.length);
  const retried = await runOne(log);
  t.equal(retried.record.key, keyOf('dead'));
  t.equal((await retried.request()).length, large.length);
});

t.test('a request whose key is gone runs only where it can not have run before', { skip }, async (t) => {
  const server = await startNats(t);
  const open = async (settings: Partial<TaskLogSettings>): Promise<TaskLog> => {
    const log = await openNatsLog({ servers: [server.address], settings: { ...SETTINGS, ...settings } });
    t.teardown(() => log.close());
    return log;
  };
  // Both sidecars find the keys gone; by the settings of the second, the key of a task that has ended goes at once.
  const [log, hasty] = [await open({}), await open({ resultsMaxAgeMs: 1 })];
  const nc = await connect({ servers: server.address });
  t.teardown(() => nc.close());
  const jsm = await jetstreamManager(nc);
  const loseKeys = (): Promise<unknown> => jsm.streams.purge(KEYS);

  await store(log, newTask('young'));
  await loseKeys();
  const young = await takeOne(log);
  t.match(young.record, { key: keyOf('young'), run: 1 }, 'a task that was just submitted has never run');
  await young.settle(answer('end'));

  await store(log, newTask('ended'));
  await takeOne(log);
  await loseKeys();
  // Its acknowledgement never comes: after the lease it is handed out again.
  t.match(await buriedBy(log, 'ended'), { state: 'dead', cause: /may have ended before/ });
  t.ok(await log.retryDead(keyOf('ended')), 'its request is kept');
  const retried = await takeOne(log);
  t.equal(String(await retried.request()), 'request ended');
  await retried.settle(answer('end'));

  await store(log, newTask('cancelled'));
  await loseKeys();
  t.ok(await buriedBy(hasty, 'cancelled'), 'a task may have been cancelled while it waited');
});

/** The record of a task that a taker gets as a dead letter, and not to run. */
async function buriedBy(log: TaskLog, name: string): Promise<TaskRecord> {
  const end = new AbortController();
  const taken = log.take(['research'], 'c', end.signal);
  const record = await waitUntil('it is a dead letter', () => log.get(keyOf(name)));
  end.abort();
  if ((await taken) !== undefined) throw new Error(`${name} was taken`);
  return record;
}

t.test('one sidecar of all sweeps at a time', { skip }, async (t) => {
  const server = await startNats(t);
  const options = { servers: [server.address], settings: SETTINGS };
  const stores = await Promise.all(
    [1, 2, 3].map(async () => {
      const provision: Provision = new Provision(options, () => connection);
      const connection: BusConnection = new BusConnection(options, (jsm) => provision.prepare(jsm));
      await connection.open(PATIENCE_MS);
      t.teardown(() => connection.close());
      return new Store(connection, options.settings, provision);
    }),
  );
  const swept = await Promise.all(stores.map((each) => new Sweep(each).runInTurn()));
  t.equal(swept.filter((each) => each !== undefined).length, 1);
});
