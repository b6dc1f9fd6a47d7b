/** A JetStream of three servers: the leader is killed in the middle of tasks, and nothing that was acknowledged is lost. */
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import t from 'tap';
import { PATIENCE_MS } from '../../../scripts/harness/patience.ts';
import { skipWithout } from '../../../scripts/harness/tool.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { LogUnavailableError } from '../log/log-errors.ts';
import { answer, JOIN, keyOf, newTask, SETTINGS } from '../log/test-support/logs.ts';
import { KEYS } from './names.ts';
import { openNatsLog } from './nats-task-log.ts';
import { startNatsCluster } from './test-support/nats-cluster.ts';

const skip = skipWithout('nats-server');
t.setTimeout(4 * PATIENCE_MS);

/** Does it until the bus is there. */
async function insist<T>(act: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof LogUnavailableError)) throw error;
      await sleep(50);
    }
  }
}

t.test(
  'tasks go on when the leader of three servers is killed, none is lost, and none runs twice',
  { skip },
  async (t) => {
    const { servers, addresses } = await startNatsCluster(t);
    const options = {
      servers: addresses,
      settings: { ...SETTINGS, leaseMs: 60_000, maxQueuedPerCaller: 1_000 },
      replicas: 3,
    };
    // Its servers take a while to elect who makes the streams.
    const [publisher, consumer] = [
      await insist(() => openNatsLog(options)),
      await insist(() => openNatsLog(options)),
    ];
    t.teardown(() => Promise.all([publisher.close(), consumer.close()]));
    const runs: string[] = [];
    const end = new AbortController();
    const places = Array.from({ length: 8 }, async () => {
      for (;;) {
        const lease = await insist(() => consumer.take(['research'], 'c', end.signal));
        if (lease === undefined) return;
        runs.push(lease.record.key);
        await sleep(10);
        await insist(() => lease.write(1, Buffer.from('chunk')));
        await insist(() => lease.settle(answer('end')));
      }
    });
    const names = Array.from({ length: 120 }, (_, at) => `task ${at}`);
    const submit = async (name: string): Promise<void> => {
      const { outcome } = await insist(() => publisher.submit(newTask(name), JOIN));
      t.not(outcome, 'refused');
    };
    for (const name of names.slice(0, 40)) await submit(name);

    const nc = await connect({ servers: [...addresses] });
    const leader = (await (await jetstreamManager(nc)).streams.info(KEYS)).cluster?.leader ?? '';
    await nc.close();
    const killed = servers.get(leader)!;
    const rest = Promise.all(names.slice(40, 80).map(submit));
    await killed.kill();
    await rest;
    await killed.restart();
    await Promise.all(names.slice(80).map(submit));

    for (const name of names) {
      const record = await waitUntil(`${name} ends`, async () => {
        const found = await insist(() => publisher.get(keyOf(name)));
        return found?.state === 'done' && found;
      });
      t.match(record, { run: 1, lostRuns: 0, generation: 1, lastSequence: 1 });
    }
    // Acknowledgements that the election lost are delivered once more at the end of their lease, and not run.
    const isEmpty = async (): Promise<boolean> => {
      const [status] = await insist(() => publisher.status());
      return status?.queued === 0 && status.running === 0 && status.dead === 0;
    };
    const limitMs = options.settings.leaseMs + PATIENCE_MS;
    await waitUntil('the queue is empty', isEmpty, { limitMs, everyMs: 200 });
    end.abort();
    await Promise.all(places);
    t.equal(runs.length, names.length, 'each ran once');
  },
);
