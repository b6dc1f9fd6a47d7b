// Scenes of failures that happen to tasks of every bus, with real processes, for the tests of both engines.
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { TaskRecord } from '../../sidecar/bus/log/task-record.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../../sidecar/task/task-message.ts';
import { type BusPod, Diary, type PodOptions, startPod } from './bus-pod.ts';
import { StreamCall } from './bus-scene.ts';
import { logFile, Submitter } from './task-consumer.ts';
import { taskRequest } from './upstream.ts';

/** Only a lease that must end is short: a busy machine may be late to extend it. */
const CONSUME = { lease: '30s', max_runs: 10, retry_delay: { base: '50ms', max: '100ms' } };

/** Returns the `bus.url` of a new, empty bus. */
export type NewBus = (t: Test) => Promise<string>;

export interface FaultScene {
  readonly url: string;
  readonly submitter: Submitter;
  readonly diary: Diary;
  pod(options?: Partial<PodOptions>): Promise<BusPod>;
  submit(count: number, input: string, path?: string): Promise<string[]>;
  /** All have ended with a result. */
  done(keys: readonly string[]): Promise<TaskRecord[]>;
  /** So many runs have begun. */
  begun(count: number): Promise<void>;
}

export async function startFaultScene(t: Test, url: string): Promise<FaultScene> {
  const diary = new Diary(join(dirname(logFile(t)), 'diary'));
  const submitter = await Submitter.open(t, url, CONSUME);
  return {
    url,
    submitter,
    diary,
    pod: (options = {}) =>
      startPod(t, { url, diary, ...options, consume: { ...CONSUME, ...options.consume } }),
    async submit(count, input, path = PROCESS_TASK_PATH) {
      const keys: string[] = [];
      for (let i = 0; i < count; i++)
        keys.push((await submitter.submit({ id: `task-${i}`, input, path })).key);
      return keys;
    },
    async done(keys) {
      const records: TaskRecord[] = [];
      for (const key of keys) records.push(await submitter.ended(key));
      for (const record of records) {
        t.equal(record.state, 'done', record.cause);
        t.equal(record.result?.status, 0);
      }
      return records;
    },
    async begun(count) {
      await waitUntil(`${count} runs have begun`, () => diary.count('begin') >= count);
    },
  };
}

/**
 * A sidecar is killed behind its result and before the bus has its acknowledgement: nothing is lost, and nothing runs twice.
 *
 * @param url of the bus, and the way on which the doomed sidecar reaches it
 * @param atResult resolves when the result of this task is stored, and nothing of the sidecar behind it
 */
export async function crashesBehindResult(
  t: Test,
  { url, doomed }: { readonly url: string; readonly doomed: string },
  atResult: (submitter: Submitter, key: string) => Promise<unknown>,
): Promise<void> {
  const scene = await startFaultScene(t, url);
  const consume = { places: 1, lease: '5s' };
  const pod = await scene.pod({ url: doomed, consume });
  const [key] = await scene.submit(1, 'sleep 300');
  await atResult(scene.submitter, key!);
  await pod.kill();
  const [record] = await scene.done([key!]);
  t.match(record, { run: 1, lostRuns: 0 });
  await scene.pod({ consume });
  // The next one works, and finds nothing to do behind the lease.
  await scene.done([(await scene.submitter.submit({ id: 'next', input: 'sleep 1' })).key]);
  await waitUntil('the queue is empty', async () =>
    (await scene.submitter.log.status()).every(({ queued, running, dead }) => queued + running + dead === 0),
  );
  t.equal(scene.diary.count('begin', 'task-0'), 1);
  t.match(await scene.submitter.log.get(key!), { state: 'done', run: 1, generation: 1 });
}

const SHORT_LEASE = { consume: { places: 1, lease: '2s' } };

/** Registers the scenes. */
export function endWell(t: Test, newBus: NewBus): void {
  // It waits longest.
  t.test(
    'a caller counts for as long as its sidecar lives: a killed one keeps no task alive, and ends none',
    async (t) => {
      const scene = await startFaultScene(t, await newBus(t));
      await scene.pod();
      const callers = [await startCaller(t, scene.url, '3s'), await startCaller(t, scene.url, '3s')];
      const clients = callers.map(
        ({ outboundPort }) =>
          new RawClient(t, outboundPort, { 'grpc.default_authority': 'research', 'grpc.enable_retries': 0 }),
      );
      const request = taskRequest({ id: 'asked', input: 'stream 3000 100' });
      const call = async (client: RawClient): Promise<StreamCall> => {
        const begun = new StreamCall({ client }, request);
        await waitUntil('it has chunks', () => begun.chunks.length > 0);
        return begun;
      };
      const stays = await call(clients[0]!);
      const leaves = await call(clients[1]!);
      // Longer than the lease, so that it counts only because its sidecar says that it is there.
      await sleep(4_000);
      leaves.call.cancel();
      await leaves.status;
      const had = stays.chunks.length;
      await waitUntil('it goes on', () => stays.chunks.length > had + 5);
      const last = await call(clients[1]!);
      callers[0]!.kill('SIGKILL');
      await stays.status;
      await sleep(4_000);
      t.equal(scene.diary.count('cancelled'), 0, 'the killed one ends nothing');
      last.call.cancel();
      await waitUntil('the agent is cancelled', () => scene.diary.count('cancelled') === 1);
      t.equal(scene.diary.count('begin'), 1);
    },
  );

  t.test('a pod that is killed loses nothing, and what it ran runs once more elsewhere', async (t) => {
    const scene = await startFaultScene(t, await newBus(t));
    const doomed = await scene.pod({ consume: { places: 3, lease: '2s' } });
    const keys = await scene.submit(6, 'sleep 400');
    await scene.begun(3);
    await doomed.kill();
    await scene.pod({ consume: { places: 3 } });
    const records = await scene.done(keys);
    t.same(records.map(({ lostRuns }) => lostRuns).sort(), [0, 0, 0, 1, 1, 1]);
    t.equal(scene.diary.count('begin'), 9);
    t.equal(scene.diary.count('end'), 6);
  });

  t.test('an agent that is killed is noticed at once: its tasks do not wait for a lease', async (t) => {
    const scene = await startFaultScene(t, await newBus(t));
    const pod = await scene.pod({ consume: { places: 2 } });
    const keys = await scene.submit(2, 'sleep 400');
    const [stream] = await scene.submit(1, 'stream 10 50', STREAM_PROCESS_PATH);
    await scene.begun(2);
    await pod.killAgent();
    const records = await scene.done([...keys, stream!]);
    t.equal(records.filter(({ lostRuns }) => lostRuns === 1).length, 2);
    t.equal(scene.diary.count('begin'), 5);
    const last = (await scene.submitter.story(stream!)).filter((event) => event.kind === 'chunks').at(-1);
    t.equal(last?.kind === 'chunks' && last.batch.run, records[2]!.run, 'chunks carry their run');
  });

  t.test(
    'a sidecar that is stopped for longer than the lease does not end what another has run',
    async (t) => {
      const scene = await startFaultScene(t, await newBus(t));
      const pods = [await scene.pod(SHORT_LEASE), await scene.pod(SHORT_LEASE)];
      const [key] = await scene.submit(1, 'stubborn 8000');
      await scene.begun(1);
      const runner = Number(scene.diary.lines[0]!.split(' ')[2]);
      const stopped = pods.find(({ agent }) => agent.pid === runner)!;
      const other = pods.find((pod) => pod !== stopped)!;
      stopped.sidecar.kill('SIGSTOP');
      await scene.begun(2);
      stopped.sidecar.kill('SIGCONT');
      await waitUntil(
        'the agent of the stopped sidecar was cancelled',
        () => scene.diary.count('cancelled') === 1,
      );
      const [record] = await scene.done([key!]);
      t.equal(record!.lostRuns, 1);
      t.equal(record!.run, 2);
      t.match(stopped.sidecar.logs(), /run 1 of a task for research/);
      // Its place is free again, although its agent went on.
      await other.kill();
      await scene.done(await scene.submit(1, 'sleep 1'));
    },
  );

  t.test(
    'a drain finishes what runs, and leaves what waits to others; so does a rolling restart',
    async (t) => {
      const scene = await startFaultScene(t, await newBus(t));
      const pods = [await scene.pod({ consume: { places: 2 } }), await scene.pod({ consume: { places: 2 } })];
      const keys = await scene.submit(12, 'sleep 600');
      await scene.begun(4);
      for (const old of pods) {
        const [, code] = await Promise.all([scene.pod({ consume: { places: 2 } }), old.stop()]);
        t.equal(code, 0);
      }
      const records = await scene.done(keys);
      t.ok(records.every(({ lostRuns, run }) => lostRuns === 0 && run === 1));
      t.equal(scene.diary.count('begin'), 12);
    },
  );

  t.test('a drain that is too short gives back what it cuts, and that does not count as lost', async (t) => {
    const scene = await startFaultScene(t, await newBus(t));
    const short = await scene.pod({ consume: { places: 1 }, drain: { timeout: '100ms' } });
    const [key] = await scene.submit(1, 'sleep 4000');
    await scene.begun(1);
    await short.stop();
    await scene.submitter.isIn('queued', key!);
    await scene.pod();
    const [record] = await scene.done([key!]);
    t.equal(record!.lostRuns, 0);
  });

  t.test(
    'a task that crashes its agent each time ends in the dead letters with its cause, and takes nobody along',
    async (t) => {
      const scene = await startFaultScene(t, await newBus(t));
      const neighbours = await scene.submit(5, 'sleep 150');
      const poison = await scene.submitter.submit({ id: 'poison', input: 'crash' });
      await scene.pod({ consume: { places: 8, max_runs: 4 } });
      const dead = await scene.submitter.ended(poison.key);
      t.equal(dead.state, 'dead');
      t.equal(dead.lostRuns, 4);
      t.match(dead.cause, /4\b.*lost.*connection/i);
      t.equal(scene.diary.count('begin', 'poison'), 4);
      for (const { lostRuns } of await scene.done(neighbours)) t.ok(lostRuns <= 2, `${lostRuns} lost runs`);
      t.ok(await scene.submitter.log.retryDead(poison.key));
    },
  );

  t.test(
    'a caller and its sidecar that are killed lose nothing: who asks again gets the answer of the one run',
    async (t) => {
      const scene = await startFaultScene(t, await newBus(t));
      await scene.pod();
      const request = taskRequest({ id: 'asked', input: 'sleep 800' });
      const call = async (port: number) =>
        new RawClient(t, port, { 'grpc.default_authority': 'research', 'grpc.enable_retries': 0 }).unary(
          request,
          {
            path: PROCESS_TASK_PATH,
          },
        );
      const first = await startCaller(t, scene.url);
      const lost = call(first.outboundPort);
      await scene.begun(1);
      first.kill('SIGKILL');
      t.equal((await lost).code, 14);
      const again = await call((await startCaller(t, scene.url)).outboundPort);
      t.equal(again.code, 0, again.details);
      t.equal(scene.diary.count('begin'), 1);
    },
  );
}

/** The sidecar of an app that calls `research` over the bus. */
async function startCaller(t: Test, url: string, lease = '30s'): Promise<Sidecar> {
  const clusters = { research: { bus: 'research' } };
  const config = { inbound: { app: 'none' }, bus: { url, consume: { lease } }, outbound: { clusters } };
  const sidecar = await startSidecar(t, config, { until: 'live' });
  await waitUntil('it has the bus', () => sidecar.logs().includes('the bus is connected'));
  return sidecar;
}
