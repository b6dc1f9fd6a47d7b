// A peer that sends very many frames that are next to nothing gets as little work done for each, and never more than a
// turn's at a time: others are served in between, whichever side the flood comes from.
import t, { type Test } from 'tap';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  headerBlock,
  preface,
  settings,
  startPeerServer,
  uint32,
} from '../../scripts/harness/h2-peer.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { grpcFrame, taskRequest } from '../support/upstream.ts';
import { type Scene, startScene } from './scene.ts';

const skip = skipWithout('python');
t.setTimeout(180_000);

const INITIAL_WINDOW_SIZE = 4;
/** Finished tasks whose answers wait because their caller's windows are closed. */
const WAITING = 900;
/** Units of a flood in one write. */
const BATCH = 1_000;
/** How much of each flood is sent, unless its connection ends before. */
const FLOOD_BYTES = 12_000_000;

/** A caller whose windows are closed, and whose tasks have been run: the answers wait in the sidecar. */
async function callerWithAnswers(t: Test, { sidecar }: Scene, name: string): Promise<H2Peer> {
  const begin = Buffer.concat([preface, settings([INITIAL_WINDOW_SIZE, 0])]);
  const peer = (await H2Peer.connect(t, sidecar.inboundPort, begin)).behave({ reads: false });
  for (let nth = 0; nth < WAITING; nth++) {
    const id = 2 * nth + 1;
    void peer.headers(id, grpcRequest(PROCESS_TASK_PATH));
    const task = taskRequest({ id: `${name}-${nth}`, type: 'echo', input: 'echo hello' });
    await peer.data(id, grpcFrame(task), true);
  }
  await peer.until('the tasks were run', () => peer.heads.size === WAITING || peer.closed);
  return peer;
}

/** Sends `unit`, over and over, on streams that go on. Each takes 50,000 bytes of a message that promises more. */
async function flood(peer: H2Peer, unit: (id: number) => Buffer): Promise<number> {
  let sentBytes = 0;
  let id = 2 * WAITING + 1;
  while (sentBytes < FLOOD_BYTES && !peer.closed && peer.goaway === undefined) {
    id += 2;
    void peer.headers(id, grpcRequest(PROCESS_TASK_PATH));
    void peer.data(id, Buffer.concat([Buffer.from([0]), uint32(60_000)]));
    const batch = Buffer.concat(Array.from({ length: BATCH }, () => unit(id)));
    for (let sent = 0; sent < 50_000 && sentBytes < FLOOD_BYTES; sent += BATCH) {
      await peer.send(batch);
      sentBytes += batch.length;
      if (peer.closed || peer.goaway !== undefined) break;
    }
    void peer.reset(id, errorCode.cancel);
  }
  return sentBytes;
}

async function sentAway(t: Test, peer: H2Peer, why: string): Promise<void> {
  await peer.until('it was sent away', () => peer.closed);
  // A peer that was busy sending may have been cut off before it read the GOAWAY.
  if (peer.goaway !== undefined) t.equal(peer.goaway.code, errorCode.enhanceYourCalm, peer.goaway.debug);
  t.pass(why);
}

const oneByte = (id: number) => frame(frameType.data, 0, id, Buffer.from([1]));
const windowUpdate = (id: number) => frame(frameType.windowUpdate, 0, id, uint32(1));

t.test(
  'tiny DATA and WINDOW_UPDATE frames cost only the caller with many unread answers',
  { skip },
  async (t) => {
    const scene = await startScene(t);

    const four = await callerWithAnswers(t, scene, 'four');
    const greedy = await scene.during(() =>
      flood(four, (id) => Buffer.concat([oneByte(id), ...Array(4).fill(windowUpdate(0))])),
    );
    await sentAway(t, four, 'a byte does not pay for four WINDOW_UPDATEs');
    scene.holds(t, greedy.bystander);

    const one = await callerWithAnswers(t, scene, 'one');
    const patient = await scene.during(() =>
      flood(one, (id) => Buffer.concat([oneByte(id), windowUpdate(0)])),
    );
    t.equal(one.goaway, undefined, 'a caller may waste its own time');
    const updates = one.count(frameType.windowUpdate);
    t.ok(updates < 100, `${updates} WINDOW_UPDATEs answer ${Math.round(patient.result / 23)} frames of DATA`);
    scene.holds(t, patient.bystander);
  },
);

t.test(
  'SETTINGS that change the windows of all streams cost their sender the work that they cause',
  { skip },
  async (t) => {
    const scene = await startScene(t);
    const peer = await callerWithAnswers(t, scene, 'settings');
    const { bystander } = await scene.during(() =>
      flood(peer, (id) =>
        Buffer.concat([oneByte(id), settings([INITIAL_WINDOW_SIZE, 1]), settings([INITIAL_WINDOW_SIZE, 0])]),
      ),
    );
    await sentAway(t, peer, 'SETTINGS are paid for by the streams that they touch');
    scene.holds(t, bystander);
  },
);

t.test('many simultaneous connections are served in turn', { skip }, async (t) => {
  const scene = await startScene(t);
  const peers = await Promise.all(
    Array.from({ length: 96 }, () => H2Peer.connect(t, scene.sidecar.inboundPort)),
  );
  const { bystander } = await scene.during(() =>
    Promise.all(
      peers.map(async (peer) => {
        peer.behave();
        void peer.headers(1, grpcRequest(PROCESS_TASK_PATH));
        void peer.data(1, Buffer.concat([Buffer.from([0]), uint32(60_000)]));
        const batch = Buffer.concat(Array.from({ length: BATCH }, () => oneByte(1)));
        // More than may wait in line.
        for (let sent = 0; sent < 20_000; sent += BATCH) await peer.send(batch);
        await peer.roundTrip();
      }),
    ),
  );
  t.ok(
    peers.every(({ closed }) => !closed),
    'no connection got GOAWAY',
  );
  scene.holds(t, bystander);
});

t.test('tiny DATA frames of an endpoint cost only its calls', { skip }, async (t) => {
  const CHUNKS = 400_000;
  const endpoint = await startPeerServer(t, (peer) => {
    peer.send(settings());
    peer.behave();
    peer.onFrame = ((before) => (received) => {
      before?.(received);
      if (received.type === frameType.headers) void answer(peer, received.streamId);
    })(peer.onFrame);
  });
  const head = headerBlock([
    [':status', '200'],
    ['content-type', 'application/grpc'],
  ]);
  const answer = async (peer: H2Peer, id: number): Promise<void> => {
    await peer.send(frame(frameType.headers, flag.endHeaders, id, head));
    const message = grpcMessage(Buffer.alloc(CHUNKS - 5));
    let left = message.length;
    while (left > 0 && !peer.closed) {
      const frames: Buffer[] = [];
      for (let count = 0; count < BATCH && left > 0; count++, left--) {
        const at = message.length - left;
        frames.push(frame(frameType.data, 0, id, message.subarray(at, at + 1)));
        if (count % 2 === 0) frames.push(frame(frameType.windowUpdate, 0, 0, uint32(1)));
      }
      await peer.send(...frames);
      // Within the window of a stream, which is given back by halves.
      await peer.until(
        'there is room',
        () => windowOf(peer, id) > message.length - left + BATCH || peer.closed,
      );
    }
    await peer.send(
      frame(frameType.headers, flag.endHeaders | flag.endStream, id, headerBlock([['grpc-status', '0']])),
    );
  };
  const scene = await startScene(t, {
    config: {
      outbound: {
        routes: [{ match: { path_prefix: '/tiny.' }, cluster: 'tiny' }],
        clusters: { tiny: { endpoints: [endpoint.address] } },
      },
    },
  });
  const caller = (await H2Peer.connect(t, scene.sidecar.outboundPort)).behave();
  const ids = [1, 3, 5, 7];
  const { bystander } = await scene.during(async () => {
    for (const id of ids) {
      void caller.headers(id, grpcRequest('/tiny.Service/Chunks'));
      void caller.data(id, grpcMessage(Buffer.from('x')), true);
    }
    await caller.until('all chunks came', () => ids.every((id) => caller.ended.has(id)) || caller.closed);
  });
  t.equal(caller.dataBytes, ids.length * CHUNKS);
  for (const id of ids) t.equal(caller.field(id, 'grpc-status'), '0');
  scene.holds(t, bystander);
});

/** Bytes that the sidecar lets this stream send in all. */
function windowOf(peer: H2Peer, id: number): number {
  let bytes = 262_144;
  for (const { type, streamId, payload } of peer.frames)
    if (type === frameType.windowUpdate && streamId === id) bytes += payload.readUInt32BE();
  return bytes;
}
