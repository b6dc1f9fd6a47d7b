// Heads that cost their sender next to nothing and are held: they share one budget, those who hold most are turned away with a
// reason, and the calls of others go on.
import t from 'tap';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcRequest,
  H2Peer,
  headerBlock,
  preface,
  settings,
} from '../../scripts/harness/h2-peer.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { AGENT_SERVICE_PREFIX, PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { startScene } from './scene.ts';

t.setTimeout(240_000);

type Teardown = Parameters<typeof H2Peer.connect>[0];

const HEALTH_CHECK = '/grpc.health.v1.Health/Check';
/** Field `x: ` goes into the table, where it is known as 62 as long as nothing else is put there. */
const learned = Buffer.from([0x40, 1, 0x78, 0]);
const FIELDS = 1_880;
const fields = Buffer.alloc(FIELDS, 0x80 | 62);
const STREAMS = 1_024;

/** A head of some 62,000 bytes, as limits count them, in some 2,100 on the wire. */
function head(streamId: number, path: string, ending: number): Buffer {
  const begin = streamId === 1 ? learned : Buffer.alloc(0);
  const block = Buffer.concat([headerBlock(grpcRequest(path)), begin, fields]);
  return frame(frameType.headers, flag.endHeaders | ending, streamId, block);
}

/** A head of some 50,000 bytes that repeats nothing. */
function longHead(peer: H2Peer, streamId: number): Promise<void> {
  return peer.headers(streamId, grpcRequest(PROCESS_TASK_PATH, ['x-long', 'v'.repeat(50_000)]));
}

/** What became of calls that were answered: status and reason, with how many there are. */
function answersOf(peers: readonly H2Peer[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const peer of peers)
    for (const id of peer.ended) {
      const answer = `${peer.field(id, 'grpc-status')} ${peer.field(id, 'outrigger-reason')}`;
      counts.set(answer, (counts.get(answer) ?? 0) + 1);
    }
  return counts;
}

/** Opens as many streams as one may on each of these connections, and ends none of them. */
async function openHeads(t: Teardown, port: number, connections: number, path: string, ending = 0) {
  const first = Buffer.concat([preface, settings()]);
  const peers = await Promise.all(Array.from({ length: connections }, () => H2Peer.connect(t, port, first)));
  const send = async (peer: H2Peer): Promise<void> => {
    peer.behave();
    for (let opened = 0; opened < STREAMS && !peer.closed; opened += 64) {
      const heads = Array.from({ length: 64 }, (_, index) => head(2 * (opened + index) + 1, path, ending));
      await peer.send(...heads);
    }
    await peer.roundTrip();
  };
  await Promise.all(peers.map(send));
  return peers;
}

t.test(
  'memory is bounded under heads of calls whose message does not arrive',
  { skip: skipWithout('python') },
  async (t) => {
    const scene = await startScene(t);
    const { inboundPort } = scene.sidecar;
    const { result: peers, bystander } = await scene.during(async () => {
      const calls = await openHeads(t, inboundPort, 9, PROCESS_TASK_PATH);
      const questions = await openHeads(t, inboundPort, 9, HEALTH_CHECK);
      return { calls, questions };
    });
    scene.holds(t, bystander);
    const answers = answersOf(peers.calls);
    for (const answer of answers.keys()) t.match(answer, /^8 (overloaded|headers_too_large)$/);
    for (const peer of [...peers.calls, ...peers.questions]) peer.socket.destroy();
  },
);

t.test(
  'memory is bounded under long heads of calls whose message does not arrive',
  { skip: skipWithout('python') },
  async (t) => {
    const scene = await startScene(t);
    const { result: peers, bystander } = await scene.during(async () => {
      const peers = await Promise.all(
        Array.from({ length: 9 }, () => H2Peer.connect(t, scene.sidecar.inboundPort)),
      );
      const send = async (peer: H2Peer): Promise<void> => {
        peer.behave();
        for (let id = 1; id < 400 && !peer.closed; id += 2) await longHead(peer, id);
        await peer.roundTrip();
      };
      await Promise.all(peers.map(send));
      return peers;
    });
    scene.holds(t, bystander);
    const answers = answersOf(peers);
    t.strictSame([...answers.keys()], ['8 overloaded']);
    t.ok(
      answers.get('8 overloaded')! > 50,
      `${answers.get('8 overloaded')} calls were told that too much waits`,
    );
    t.ok(
      peers.every((peer) => !peer.closed),
      'their connections live on',
    );
    for (const peer of peers) peer.socket.destroy();
  },
);

t.test('memory is bounded under header blocks without an end', { skip: skipWithout('python') }, async (t) => {
  const scene = await startScene(t);
  const begin = Buffer.concat([headerBlock(grpcRequest(`${AGENT_SERVICE_PREFIX}Any`)), learned]);
  // Two characters a field: what a field costs beside them is most of it.
  const part = Buffer.concat(Array.from({ length: 880 }, () => headerBlock([['xy', 'zz']])));
  const { result: peers, bystander } = await scene.during(async () => {
    const peers = await Promise.all(
      Array.from({ length: 800 }, () => H2Peer.connect(t, scene.sidecar.inboundPort)),
    );
    const send = async (peer: H2Peer): Promise<void> => {
      await peer.behave().roundTrip();
      await peer.send(
        frame(frameType.headers, 0, 1, begin),
        frame(frameType.continuation, 0, 1, part),
        frame(frameType.continuation, 0, 1, part),
        frame(frameType.continuation, 0, 1, part),
        // The beginning of a field whose end does not come.
        frame(frameType.continuation, 0, 1, Buffer.concat([Buffer.from([0, 1, 0x61, 127, 0xc0, 0x70])])),
      );
    };
    await Promise.all(peers.map(send));
    // Each has its time, so that in the end all are gone.
    await Promise.all(
      peers.map((peer) => peer.until('an open block has ended its connection', () => peer.closed)),
    );
    return peers;
  });
  t.ok(
    peers.every(({ goaway }) => goaway?.code === errorCode.enhanceYourCalm),
    'each got the reason',
  );
  scene.holds(t, bystander);
});

t.test(
  'memory is bounded under unread answers with large heads',
  { skip: skipWithout('python') },
  async (t) => {
    const scene = await startScene(t);
    const { bystander, result: peers } = await scene.during(async () => {
      const first = Buffer.concat([preface, settings([4, 0])]);
      const peers = await Promise.all(
        Array.from({ length: 9 }, () => H2Peer.connect(t, scene.sidecar.inboundPort, first)),
      );
      const send = async (peer: H2Peer): Promise<void> => {
        peer.behave({ reads: false });
        for (let opened = 0; opened < STREAMS && !peer.closed; opened += 64) {
          const heads = Array.from({ length: 64 }, (_, index) => {
            const id = 2 * (opened + index) + 1;
            const message = frame(frameType.data, flag.endStream, id, Buffer.from([0, 0, 0, 0, 0]));
            return Buffer.concat([head(id, HEALTH_CHECK, 0), message]);
          });
          await peer.send(...heads);
        }
        await peer.roundTrip();
      };
      await Promise.all(peers.map(send));
      return peers;
    });
    scene.holds(t, bystander);
    for (const peer of peers) peer.socket.destroy();
  },
);
