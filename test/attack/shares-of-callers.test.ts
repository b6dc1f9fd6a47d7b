// One caller takes all that it can get: calls, connections, watches of health. Others are served as before.
import { Metadata, status } from '@grpc/grpc-js';
import t from 'tap';
import { grpcMessage, grpcRequest, type H2Peer } from '../../scripts/harness/h2-peer.ts';
import { RawClient, startRawServer } from '../../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { taskRequest } from '../support/upstream.ts';
import { connectFrom, peerFrom } from './connect-from.ts';
import { startScene } from './scene.ts';

t.setTimeout(120_000);

const LIMIT = 1_024;
const ATTACKER = '127.0.0.2';
const HOLD = 'hold this';

/** An agent whose calls cost it nothing while they last; it answers what it was asked. */
async function startPatientAgent(t: Parameters<typeof startRawServer>[0]) {
  let held = 0;
  const app = await startRawServer(
    t,
    {
      unary: (call, callback) => {
        if (!call.request.includes(HOLD)) {
          callback(null, call.request);
          return;
        }
        held++;
        call.on('cancelled', () => held--);
      },
    },
    { unaryPath: PROCESS_TASK_PATH },
  );
  return { address: app.address, held: () => held };
}

/** Opens so many calls on one connection, which do not end by themselves. */
async function openCalls(peer: H2Peer, first: number, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    const streamId = 2 * (first + n) + 1;
    const task = taskRequest({ id: `${ATTACKER} ${peer.socket.localPort} ${streamId}`, input: HOLD });
    void peer.headers(streamId, grpcRequest(PROCESS_TASK_PATH));
    void peer.data(streamId, grpcMessage(task), true);
  }
  await peer.roundTrip();
}

t.test('a caller that holds as many calls as it can get leaves room for others', async (t) => {
  const agent = await startPatientAgent(t);
  const scene = await startScene(t, { app: agent.address });
  const { result: peers, bystander } = await scene.during(async () => {
    const peers = await Promise.all(
      Array.from({ length: 8 }, () => peerFrom(t, ATTACKER, scene.sidecar.inboundPort)),
    );
    for (let round = 0; round < 4; round++) for (const peer of peers) await openCalls(peer, 40 * round, 40);
    await waitUntil('it holds as much as it can get', () => agent.held() >= (LIMIT * 7) / 8 - 1);
    return peers;
  });
  scene.holds(t, bystander);
  t.ok(agent.held() <= (LIMIT * 7) / 8, `${agent.held()} calls, of which an eighth is kept for others`);
  const refused = peers[7]!.field(2 * 159 + 1, 'grpc-message') ?? '';
  t.match(decodeURIComponent(refused), /89\d calls of this caller are in flight, which is its share of 1024/);
  t.equal(peers[7]!.field(2 * 159 + 1, 'outrigger-reason'), 'overloaded');

  // Another one that wants as many gets its share as the first one's calls end, though that asks again at once.
  const client = new RawClient(t, scene.sidecar.inboundPort);
  const others = Array.from({ length: 100 }, (_, n) =>
    client.unary(taskRequest({ id: `other ${n}`, input: 'echo' }), { path: PROCESS_TASK_PATH }),
  );
  for (const { code, details } of await Promise.all(others)) t.equal(code, status.OK, details);
});

t.test('a caller that holds idle connections leaves room for others', async (t) => {
  const scene = await startScene(t, { app: (await startPatientAgent(t)).address });
  const port = scene.sidecar.inboundPort;
  const { bystander } = await scene.during(async () => {
    // From one address, and then from so many that all places are taken.
    for (const [from, to] of [
      [2, 3],
      [3, 12],
    ] as const) {
      for (let last = from; last < to; last++) {
        for (let n = 0; n < (from === 2 ? 11 : 2); n++)
          await Promise.allSettled(
            Array.from({ length: 100 }, (_, i) =>
              i % 2 === 0 ? connectFrom(t, `127.0.0.${last}`, port) : peerFrom(t, `127.0.0.${last}`, port),
            ),
          );
      }
      for (let n = 0; n < 20; n++) {
        const newcomer = new RawClient(t, port);
        const task = taskRequest({ id: `newcomer ${from} ${n}`, input: 'echo' });
        const deadline = Date.now() + 10_000;
        const { code, details } = await newcomer.unary(task, { path: PROCESS_TASK_PATH, deadline });
        t.equal(code, status.OK, `a newcomer while 127.0.0.${to - 1} connects: ${details}`);
        newcomer.client.close();
      }
    }
  });
  scene.holds(t, bystander);
});

t.test('a caller with as many health watches as it can get leaves room for others', async (t) => {
  const scene = await startScene(t, { app: (await startPatientAgent(t)).address });
  const port = scene.sidecar.inboundPort;
  const path = '/grpc.health.v1.Health/Watch';
  const { bystander } = await scene.during(async () => {
    const peers = await Promise.all(Array.from({ length: 4 }, () => peerFrom(t, ATTACKER, port)));
    for (const peer of peers) {
      for (let n = 0; n < 400; n++) {
        void peer.headers(2 * n + 1, grpcRequest(path));
        void peer.data(2 * n + 1, grpcMessage(Buffer.alloc(0)), true);
      }
      await peer.roundTrip();
    }
    const watching = new RawClient(t, port).serverStream(Buffer.alloc(0), { path, metadata: new Metadata() });
    watching.on('error', () => {});
    const first = await new Promise<Buffer | undefined>((resolve) => {
      watching.once('data', resolve);
      watching.once('end', () => resolve(undefined));
    });
    t.same(first, Buffer.from([8, 1]), 'another caller gets SERVING');
    watching.cancel();
    let refused = 0;
    for (const peer of peers)
      for (const streamId of peer.heads.keys())
        if (peer.field(streamId, 'grpc-status') === `${status.RESOURCE_EXHAUSTED}`) refused++;
    t.ok(refused >= 1_600 - LIMIT, `${refused} watches were refused`);
  });
  scene.holds(t, bystander);
});
