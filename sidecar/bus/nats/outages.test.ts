/** Tasks survive a NATS server that dies, is away, is slow to answer, or loses an answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { PATIENCE_MS } from '../../../scripts/harness/patience.ts';
import { skipWithout } from '../../../scripts/harness/tool.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { type Cutter, startCutter } from '../../../test/support/cutter.ts';
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import type { TaskLog } from '../log/task-log.ts';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import {
  ANEW,
  answer,
  errorOf,
  JOIN,
  keyOf,
  newTask,
  patience,
  runOne,
  SETTINGS,
  store,
  Watcher,
} from '../log/test-support/logs.ts';
import { openNatsLog } from './nats-task-log.ts';
import { type NatsServer, startNats } from './test-support/nats-server.ts';

const skip = skipWithout('nats-server');
t.setTimeout(4 * PATIENCE_MS);
t.jobs = 4;

async function open(
  t: Pick<Test, 'teardown'>,
  server: Pick<NatsServer | Cutter, 'address'>,
  settings: Partial<TaskLogSettings> = {},
): Promise<TaskLog> {
  const log = await openNatsLog({ servers: [server.address], settings: { ...SETTINGS, ...settings } });
  t.teardown(() => log.close());
  return log;
}

/** Does it until the bus is back. */
async function insist<T>(act: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof LogUnavailableError)) throw error;
      await sleep(20);
    }
  }
}

t.test(
  'a server that is killed and back within the lease loses nothing, and nothing runs twice',
  { skip },
  async (t) => {
    const server = await startNats(t);
    const settings = { leaseMs: 20_000, maxQueuedPerCaller: 1_000 };
    const [publisher, consumer] = [await open(t, server, settings), await open(t, server, settings)];
    const runs = new Map<string, number>();
    let isOver = false;
    const end = new AbortController();
    const works = Array.from({ length: 8 }, async () => {
      while (!isOver) {
        const lease = await insist(() => consumer.take(['research'], 'c', end.signal));
        if (lease === undefined) return;
        runs.set(lease.record.key, (runs.get(lease.record.key) ?? 0) + 1);
        await sleep(5);
        await insist(() => lease.write(1, Buffer.from('chunk')));
        await insist(() => lease.settle(answer('end')));
      }
    });
    const names = Array.from({ length: 300 }, (_, at) => `task ${at}`);
    let next = 0;
    const submits = Array.from({ length: 4 }, async () => {
      while (next < names.length) {
        const name = names[next++]!;
        const { outcome } = await insist(() => publisher.submit(newTask(name), JOIN));
        if (outcome === 'refused') t.fail(`${name} was refused`);
      }
    });
    for (let kill = 0; kill < 3; kill++) {
      await sleep(150);
      await server.kill();
      await sleep(100);
      await server.restart();
      await waitUntil('both are back', () => publisher.connected && consumer.connected);
    }
    await Promise.all(submits);
    for (const name of names) {
      const record = await waitUntil(`${name} ends`, async () => {
        const found = await insist(() => publisher.get(keyOf(name)));
        return found?.state === 'done' && found;
      });
      t.match(record, { run: 1, lostRuns: 0, generation: 1, lastSequence: 1 });
    }
    isOver = true;
    end.abort();
    await Promise.all(works);
    t.equal(runs.size, names.length);
    t.strictSame(
      [...runs.values()].filter((count) => count !== 1),
      [],
    );
  },
);

t.test(
  'while the server is away everything fails at once, and a run outlives it within its lease',
  { skip },
  async (t) => {
    const server = await startNats(t);
    const log = await open(t, server, { leaseMs: 30_000 });
    const changes: boolean[] = [];
    log.onConnected = (connected) => changes.push(connected);
    await store(log, newTask('a'), newTask('b', { agentType: 'writing' }));
    const lease = await runOne(log);
    const waiting = errorOf(log.take(['research'], 'c', patience()));
    const watcher = new Watcher(log, keyOf('b'));
    await watcher.until('queued 0');
    await server.kill();
    t.ok((await waiting) instanceof LogUnavailableError, 'a wait ends');
    t.ok((await errorOf(watcher.ended)) instanceof LogUnavailableError, 'a watch ends');
    t.equal(log.connected, false);
    const calls: Record<string, () => Promise<unknown>> = {
      submit: () => log.submit(newTask('c'), JOIN),
      take: () => log.take(['research'], 'c', patience()),
      get: () => log.get(keyOf('a')),
      watch: () => log.watch(keyOf('a'), 0, patience())[Symbol.asyncIterator]().next(),
      cancel: () => log.cancel(keyOf('a'), 'x'),
      list: () => log.list({ limit: 1 }),
      status: () => log.status(),
      consumers: () => log.consumers('research'),
      extend: () => lease.extend(),
    };
    for (const [name, call] of Object.entries(calls)) {
      const error = await errorOf(call());
      t.ok(error instanceof LogUnavailableError, name);
      t.match(error, { isOutcomeUnknown: false }, `${name}: nothing was sent`);
    }
    const settled = lease.settle(answer('end'));
    await server.restart();
    await settled;
    await waitUntil('it is back', () => log.connected);
    t.match(await log.get(keyOf('a')), { state: 'done', run: 1 });
    t.strictSame(changes, [false, true]);
    t.equal((await log.submit(newTask('c'), JOIN)).outcome, 'stored');
  },
);

t.test('an outage longer than the lease ends in one more run', { skip }, async (t) => {
  const server = await startNats(t);
  const log = await open(t, server, { leaseMs: 1_000 });
  await store(log, newTask('a'));
  const first = await runOne(log);
  await server.kill();
  await sleep(1_500);
  await server.restart();
  await waitUntil('it is back', () => log.connected);
  const second = await runOne(log);
  t.match(second.record, { run: 2, lostRuns: 1 });
  t.ok((await errorOf(first.settle(answer('late')))) instanceof FencedError);
  await second.settle(answer('end'));
});

t.test('a submit whose answer is lost is stored once', { skip }, async (t) => {
  const server = await startNats(t);
  // The submit makes several requests: each is cut off from its answer once.
  for (let cut = 0; cut < 6; cut++) {
    const cutter = await startCutter(t, server.port);
    const log = await open(t, cutter, { leaseMs: 20_000 });
    // The queue is made before, so that the submit alone is cut.
    await log.submit(newTask(`before ${cut}`, { agentType: `lost-${cut}` }), JOIN);
    const drops = (async () => {
      await sleep(cut);
      cutter.drop();
    })();
    const submitted = await insist(() =>
      log.submit(newTask(`lost ${cut}`, { agentType: `lost-${cut}` }), JOIN),
    );
    t.not(submitted.outcome, 'refused');
    await drops;
    await waitUntil('it is connected', () => log.connected);
    const { queued } = (await insist(() => log.status())).find(
      ({ agentType }) => agentType === `lost-${cut}`,
    )!;
    t.equal(queued, 2, `cut after ${cut} ms`);
    await log.close();
  }
});

t.test(
  'a server that does not answer makes the outcome of a submit unknown at its deadline',
  { skip },
  async (t) => {
    const server = await startNats(t);
    const log = await open(t, server);
    await store(log, newTask('before'));
    const started = performance.now();
    // The request is under way when the server stops.
    const submit = log.submit(newTask('a', { timeLeftMs: 1_500 }), ANEW);
    server.process.kill('SIGSTOP');
    const outcome = await submit.catch((error: unknown) => error);
    server.process.kill('SIGCONT');
    if (outcome instanceof LogUnavailableError) {
      t.ok(performance.now() - started < PATIENCE_MS);
      t.pass('it says so');
    } else t.match(outcome, { outcome: 'stored' }, 'it was faster than the signal');
    await waitUntil('it is back', async () => (await log.get(keyOf('before')))?.state === 'queued');
  },
);
