// Where calls go when replicas differ: seen from real replicas.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream } from './support/upstream.ts';

interface Replica {
  readonly address: string;
  calls: number;
}

/** The replicas' time is the clock's: how long they take is what the test says, on any machine. */
const clock = new TestClock();

/** Calls that replicas have and have not answered: they wait for the clock. */
let waiting = 0;

async function startReplica(t: Test, answer: (call: SeenCall) => void): Promise<Replica> {
  const upstream = await startUpstream(t, {
    onCall: (call) => {
      if (call.headers[':path'] === rawPaths.unary) replica.calls++;
      answer(call);
    },
  });
  const replica: Replica = { address: upstream.address, calls: 0 };
  return replica;
}

const quick = ({ stream, headers }: SeenCall): void => {
  if (headers[':path'] === rawPaths.unary) answerWith(stream, 'ok');
};
const after =
  (ms: number) =>
  ({ stream }: SeenCall): void => {
    waiting++;
    clock.after(ms, () => {
      waiting--;
      answerWith(stream, 'ok');
    });
  };

const start = (t: Test, replicas: readonly Replica[], settings: Record<string, unknown> = {}) =>
  startDataPlane(
    t,
    oneCluster(
      replicas.map(({ address }) => address),
      settings,
    ),
    {},
    clock,
  );

/** So many calls, a few at a time. */
async function load(client: RawClient, count: number, atATime: number): Promise<number> {
  let left = count;
  let running = 0;
  let failed = 0;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      running++;
      if ((await client.unary(Buffer.from('x'))).code !== status.OK) failed++;
      running--;
    }
  };
  let over = false;
  const workers = Promise.all(Array.from({ length: atATime }, worker)).then(() => {
    over = true;
  });
  while (!over) {
    // Time passes once all calls that run are with a replica.
    if (waiting > 0 && waiting === running) clock.advance(clock.nextInMs);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await workers;
  return failed;
}

t.test('a slow replica gets fewer calls', async (t) => {
  const fast = [await startReplica(t, after(2)), await startReplica(t, after(2))];
  const slow = await startReplica(t, after(120));
  const plane = await start(t, [...fast, slow]);
  t.equal(await load(new RawClient(t, plane.outboundPort), 300, 6), 0);
  const share = slow.calls / 300;
  t.ok(slow.calls > 0, 'it is tried');
  t.ok(share < 0.15, `${slow.calls} of 300 went to the slow one of three`);
  for (const { calls } of fast) t.ok(calls > 60, `${calls} of 300 to a fast one`);
});

t.test('a slow replica gets fewer calls even when calls arrive one by one', async (t) => {
  const fast = [await startReplica(t, after(1)), await startReplica(t, after(1))];
  const slow = await startReplica(t, after(40));
  const plane = await start(t, [...fast, slow]);
  t.equal(await load(new RawClient(t, plane.outboundPort), 120, 1), 0);
  t.ok(slow.calls < 15, `${slow.calls} of 120 went to the slow one of three`);
});

for (const balancer of ['peak_ewma', 'least_request'] as const) {
  t.test(`replicas with open streams get fewer new calls: ${balancer}`, async (t) => {
    // Streams that have begun to answer and go on, as an agent's do while its model writes.
    const streaming = (call: SeenCall): void => {
      const { stream, headers } = call;
      if (headers[':path'] === rawPaths.unary) {
        after(1)(call);
        return;
      }
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(grpcFrame('first'));
    };
    const replicas = [await startReplica(t, streaming), await startReplica(t, streaming)];
    const [busy, idle] = replicas as [Replica, Replica];
    const plane = await start(t, [busy], { balancer });
    const client = new RawClient(t, plane.outboundPort);
    const streams = Array.from({ length: 20 }, () => client.serverStream(Buffer.from('x')));
    await Promise.all(
      streams.map((stream) => new Promise((resolve) => stream.on('error', () => {}).once('data', resolve))),
    );
    await plane.apply(oneCluster([busy.address, idle.address], { balancer }));
    t.equal(await load(client, 100, 2), 0);
    t.ok(idle.calls > 85, `${idle.calls} of 100 calls went where no stream runs, ${busy.calls} elsewhere`);
    for (const stream of streams) stream.cancel();
  });
}

t.test('a replica that fails at once does not attract the calls of the others', async (t) => {
  const works = await startReplica(t, after(10));
  const fails = await startReplica(t, ({ stream }) =>
    stream.respond({ ':status': 200, 'grpc-status': '14' }, { endStream: true }),
  );
  const plane = await start(t, [works, fails]);
  const failed = await load(new RawClient(t, plane.outboundPort), 200, 4);
  t.equal(failed, fails.calls);
  t.ok(failed < 60, `${failed} of 200 calls met the replica that fails`);
});

t.test('round robin gives each replica the same number of calls', async (t) => {
  const replicas = [await startReplica(t, quick), await startReplica(t, quick), await startReplica(t, quick)];
  const plane = await start(t, replicas, { balancer: 'round_robin' });
  await load(new RawClient(t, plane.outboundPort), 90, 3);
  t.strictSame(
    replicas.map(({ calls }) => calls),
    [30, 30, 30],
  );
});
