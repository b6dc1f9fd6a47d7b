/** The server holds limits of streams that are there already, and requests that wait for tasks. */
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import t from 'tap';
import { PATIENCE_MS } from '../../../scripts/harness/patience.ts';
import { skipWithout } from '../../../scripts/harness/tool.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { ANEW, answer, LONG_LEASE_MS, newTask, patience, SETTINGS, store } from '../log/test-support/logs.ts';
import { LANES, laneConsumer, queueStream } from './names.ts';
import type { NatsOptions } from './nats-options.ts';
import { openNatsLog } from './nats-task-log.ts';
import { startNats } from './test-support/nats-server.ts';

const skip = skipWithout('nats-server');
t.setTimeout(2 * PATIENCE_MS);

t.test(
  'streams keep the limits they have, a log says where they differ, and setup changes them',
  { skip },
  async (t) => {
    const server = await startNats(t);
    const open = async (maxQueuedPerCaller: number, setUp?: NatsOptions['setUp']) => {
      const settings = { ...SETTINGS, leaseMs: LONG_LEASE_MS, maxQueuedPerCaller };
      const log = await openNatsLog({ servers: [server.address], settings, setUp });
      t.teardown(() => log.close());
      return log;
    };
    const first = await open(100);
    await store(first, newTask('a'));
    t.strictSame(first.notices, []);
    const other = await open(1);
    await store(other, newTask('b'));
    t.match(other.notices, [
      /^OUTRIGGER_QUEUE_research: max_msgs_per_subject is 100, and 1 by this configuration$/,
    ]);
    const setup = await open(2, { agentTypes: ['writing'] });
    t.match(setup.notices, [/max_msgs_per_subject is 100, and 2/]);
    t.match(await first.submit(newTask('c'), ANEW), { outcome: 'refused', reason: 'caller_full' });
    const types = (await setup.status()).map(({ agentType }) => agentType);
    t.strictSame(types, ['research', 'writing'], 'the queues of the setup are there too');
  },
);

t.test(
  'requests wait at the server while a place is free, and what is too much goes on',
  { skip },
  async (t) => {
    const server = await startNats(t);
    const options = { servers: [server.address], settings: { ...SETTINGS, leaseMs: LONG_LEASE_MS } };
    const [narrow, wide] = [await openNatsLog(options), await openNatsLog(options)];
    t.teardown(() => Promise.all([narrow.close(), wide.close()]));
    const nc = await connect({ servers: server.address });
    t.teardown(() => nc.close());
    const jsm = await jetstreamManager(nc);
    const waiting = async (): Promise<number> => {
      const lanes = Array.from({ length: LANES }, (_, lane) =>
        jsm.consumers.info(queueStream('research'), laneConsumer(lane)),
      );
      return (await Promise.all(lanes)).reduce((sum, { num_waiting: each }) => sum + each, 0);
    };
    const one = narrow.take(['research'], 'narrow', patience());
    await waitUntil('one waits at each lane', async () => (await waiting()) === LANES);
    // Remove messages that are no task, so that nobody receives them again.
    await nc.request('outrigger.tasks.research.0.caller.stranger', 'no task');
    await waitUntil('it is gone', async () => {
      const [queue] = await narrow.status();
      return queue?.queued === 0 && queue.running === 0;
    });
    await waitUntil('the place waits on', async () => (await waiting()) === LANES);
    const others = Array.from({ length: 5 }, () => wide.take(['research'], 'wide', patience()));
    await waitUntil('those of the other wait too', async () => (await waiting()) === 2 * LANES);
    // Each of another caller: they come by several lanes at once, to whoever asked first.
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    await Promise.all(names.map((name) => narrow.submit(newTask(name, { caller: name }), ANEW)));
    const leases = await Promise.all([one, ...others]);
    t.strictSame(
      leases.map((lease) => lease?.record.run),
      names.map(() => 1),
    );
    t.equal(new Set(leases.map((lease) => lease?.record.key)).size, names.length);
    await waitUntil('nobody asks for more', async () => (await waiting()) === 0);
    for (const lease of leases) await lease?.settle(answer('end'));
  },
);
