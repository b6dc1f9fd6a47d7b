// A request larger than every window on its way arrives whole, also when it begins before a connection is there; one
// that goes on behind its answer is stopped when its caller has had time to read.
import t from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  frameType,
  grpcRequest,
  H2Peer,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { RawClient, rawPaths, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { LINGER_MS } from '../sidecar/proxy/early-end.ts';
import { grpcFrame } from './support/upstream.ts';

t.test('uploads larger than the windows never stall, also the first one on a new connection', async (t) => {
  const server = await startRawServer(t, {
    unary: (call, callback) => callback(null, Buffer.from(String(call.request.length))),
  });
  for (let round = 0; round < 5; round++) {
    const inner = await startDataPlane(t, { inbound: { app: server.address } });
    const outer = await startDataPlane(t, oneCluster([`127.0.0.1:${inner.inboundPort}`]));
    const client = new RawClient(t, outer.outboundPort);
    for (const mebibytes of [9, 1, 5]) {
      const request = Buffer.alloc(mebibytes << 20, round);
      const outcome = await client.unary(request, { path: rawPaths.unary, deadline: Date.now() + 30_000 });
      t.equal(outcome.code, 0, `${mebibytes} MiB, round ${round}: ${outcome.details}`);
      t.equal(outcome.response?.toString(), String(request.length));
    }
  }
});

t.test('a sending caller can read its answer before it stops', async (t) => {
  const server = await startPeerServer(t, (peer) => {
    peer.onFrame = ({ type, streamId }) => {
      if (type !== frameType.headers) return;
      peer.headers(streamId, [
        [':status', '200'],
        ['content-type', 'application/grpc'],
      ]);
      peer.data(streamId, grpcFrame('enough'));
      peer.headers(streamId, [['grpc-status', '0']], true);
    };
    peer.behave();
    peer.send(settings());
  });
  const clock = new TestClock();
  const plane = await startDataPlane(t, oneCluster([server.address]), {}, clock);
  const caller = (await H2Peer.connect(t, plane.outboundPort)).behave();
  const [goesOn, ends, leaves] = [1, 3, 5];
  for (const id of [goesOn, ends, leaves]) {
    await caller.headers(id, grpcRequest('/test.Raw/Bidi'));
    await caller.until('it was answered', () => caller.ended.has(id));
    // What is sent goes nowhere.
    for (let sent = 0; sent < 3; sent += 1) await caller.data(id, Buffer.alloc(16_384));
  }
  await caller.data(ends, Buffer.alloc(0), true);
  await caller.reset(leaves, errorCode.cancel);
  await caller.roundTrip();
  clock.advance(LINGER_MS / 2);
  await caller.roundTrip();
  t.strictSame([...caller.resets], [], 'nobody is stopped right behind the answer');
  clock.advance(LINGER_MS);
  await caller.until('the one who goes on was stopped', () => caller.resets.has(goesOn));
  t.strictSame([...caller.resets], [[goesOn, errorCode.noError]], 'and nobody else');
  t.equal(caller.goaway, undefined);
});
