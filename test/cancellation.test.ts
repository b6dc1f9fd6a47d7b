// Who gives a call up is heard at its other end, at once, in both directions.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode, frameType, grpcRequest, H2Peer, startPeerServer } from '../scripts/harness/h2-peer.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream } from './support/upstream.ts';

const message = Buffer.from('message');

/** caller → outbound → outbound → inbound → the address. */
async function startThreeHops(t: Test, app: string): Promise<DataPlane[]> {
  const third = await startDataPlane(t, { inbound: { app } });
  const second = await startDataPlane(t, oneCluster([`127.0.0.1:${third.inboundPort}`]));
  const first = await startDataPlane(t, oneCluster([`127.0.0.1:${second.outboundPort}`]));
  return [first, second, third];
}

function activeCalls(planes: readonly DataPlane[]): number {
  return planes.reduce(
    (sum, { sidecar }) => sum + sidecar.inbound.stats.activeCalls + sidecar.outbound.stats.activeCalls,
    0,
  );
}

/** Calls of the test; the look at the app's health is not one. */
const callsTo = (calls: readonly SeenCall[]): SeenCall[] =>
  calls.filter(({ headers }) => headers[':path']!.startsWith('/test.Raw/'));

/** Answers nothing to unary kinds, and begins to answer streams. */
const beginOnly = ({ stream, headers }: SeenCall): void => {
  const path = headers[':path'];
  if (path !== rawPaths.serverStream && path !== rawPaths.bidi) return;
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
  stream.write(grpcFrame('first'));
};

t.test('a cancelled call of each kind is reset at the app behind three sidecars', async (t) => {
  const app = await startUpstream(t, { onCall: beginOnly });
  const planes = await startThreeHops(t, app.address);
  const client = new RawClient(t, planes[0]!.outboundPort);
  const codes: number[] = [];
  const unary = client.client.makeUnaryRequest(
    rawPaths.unary,
    (bytes: Buffer) => bytes,
    (bytes) => bytes,
    message,
    () => {},
  );
  const clientStream = client.clientStream(() => {});
  clientStream.write(message);
  const serverStream = client.serverStream(message);
  const bidi = client.bidi();
  bidi.write(message);
  const calls = [unary, clientStream, serverStream, bidi];
  for (const call of calls) {
    call.on('error', () => {});
    call.on('status', ({ code }) => codes.push(code));
  }
  const begun = [serverStream, bidi].map((call) => new Promise((resolve) => call.once('data', resolve)));
  await Promise.all(begun);
  await waitUntil(
    'the app has all four',
    () => callsTo(app.calls).filter((call) => call.body.length > 5).length === 4,
  );
  t.equal(activeCalls(planes), 12, 'four calls at three hops');
  for (const call of calls) call.cancel();
  await waitUntil('the app heard', () => callsTo(app.calls).every((call) => call.closedWith !== undefined));
  t.strictSame(
    callsTo(app.calls).map(({ closedWith }) => closedWith),
    [errorCode.cancel, errorCode.cancel, errorCode.cancel, errorCode.cancel],
  );
  t.strictSame(codes, [status.CANCELLED, status.CANCELLED, status.CANCELLED, status.CANCELLED]);
  t.equal(activeCalls(planes), 0);
});

t.test('a disconnected caller ends its calls, and no others', async (t) => {
  const app = await startUpstream(t, { onCall: beginOnly });
  const planes = await startThreeHops(t, app.address);
  const [leaves, stays] = await Promise.all([0, 1].map(() => H2Peer.connect(t, planes[0]!.outboundPort)));
  for (const peer of [leaves!, stays!]) {
    peer.behave();
    for (const [index, path] of Object.values(rawPaths).entries()) {
      await peer.headers(index * 2 + 1, grpcRequest(path, ['x-peer', peer === stays ? 'stays' : 'leaves']));
      await peer.data(index * 2 + 1, grpcFrame(message), path === rawPaths.unary);
    }
  }
  await waitUntil(
    'the app has all',
    () => callsTo(app.calls).filter((call) => call.body.length > 5).length === 8,
  );
  leaves!.socket.destroy();
  const of = (peer: string): SeenCall[] =>
    callsTo(app.calls).filter((call) => call.headers['x-peer'] === peer);
  await waitUntil('the app heard', () => of('leaves').every((call) => call.closedWith === errorCode.cancel));
  t.equal(activeCalls(planes), 12);
  t.ok(of('stays').every((call) => call.closedWith === undefined));
  answerWith(of('stays')[0]!.stream, 'answer');
  await stays!.until('it was answered', () => stays!.ended.has(1));
  t.equal(stays!.field(1, 'grpc-status'), '0');
});

t.test('a call that is cancelled before it has a connection is never sent', async (t) => {
  // The first connection gets its SETTINGS only when the test says so.
  let welcome = (): void => {};
  const server = await startPeerServer(t, (peer) => {
    welcome = () => void peer.behave().send(Buffer.from('000000040000000000', 'hex'));
  });
  const plane = await startDataPlane(t, oneCluster([server.address]));
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  const pool = plane.sidecar.outbound.clusters.clusters.get('upstream')!.endpoints[0]!.pool;
  for (const id of [1, 3]) {
    await peer.headers(id, grpcRequest(`/call/${id}`));
    await peer.data(id, grpcFrame(message), true);
  }
  await waitUntil('both wait', () => pool.pendingCount === 2);
  await peer.reset(1, errorCode.cancel);
  await waitUntil('one waits', () => pool.pendingCount === 1);
  welcome();
  await waitUntil('the other came', () => (server.peers[0]?.heads.size ?? 0) > 0);
  const heads = [...server.peers[0]!.heads.values()].map(
    ([head]) => head!.find(([name]) => name === ':path')![1],
  );
  t.strictSame(heads, ['/call/3']);
});

t.test('a reset by the upstream becomes the status for its error code', async (t) => {
  const codes: [code: number, status: status][] = [
    [errorCode.noError, status.INTERNAL],
    [errorCode.protocolError, status.INTERNAL],
    [2, status.INTERNAL],
    [errorCode.flowControlError, status.INTERNAL],
    [errorCode.streamClosed, status.INTERNAL],
    [errorCode.refusedStream, status.UNAVAILABLE],
    [errorCode.cancel, status.CANCELLED],
    [errorCode.enhanceYourCalm, status.RESOURCE_EXHAUSTED],
    [12, status.PERMISSION_DENIED],
    [0x1234, status.INTERNAL],
  ];
  const server = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (frame) => {
      behaved(frame);
      if (frame.type !== 1) return;
      const code = Number(peer.field(frame.streamId, 'x-code'));
      if (peer.field(frame.streamId, 'x-begin') === 'yes') {
        peer.headers(frame.streamId, [
          [':status', '200'],
          ['content-type', 'application/grpc'],
        ]);
        peer.data(frame.streamId, grpcFrame('first'));
      }
      peer.reset(frame.streamId, code);
    };
    peer.send(Buffer.from('000000040000000000', 'hex'));
  });
  const planes = await startThreeHops(t, server.address);
  const peer = (await H2Peer.connect(t, planes[0]!.outboundPort)).behave();
  let id = -1;
  for (const begin of ['no', 'yes']) {
    for (const [code, expected] of codes) {
      id += 2;
      await peer.headers(id, grpcRequest('/a.B/C', ['x-code', `${code}`], ['x-begin', begin]));
      await peer.data(id, grpcFrame(message));
      await peer.until('it ended', () => peer.ended.has(id));
      t.equal(peer.field(id, 'grpc-status'), `${expected}`, `code ${code}, begun: ${begin}`);
      t.equal(peer.heads.get(id)!.length, begin === 'yes' ? 2 : 1);
      await peer.until('the rest is refused', () => peer.resets.has(id));
      t.equal(peer.resets.get(id), errorCode.noError, 'the caller need not send the rest');
    }
  }
  t.equal(activeCalls(planes), 0);
});

t.test('each half of a call ends independently', async (t) => {
  const app = await startUpstream(t, { onCall: () => {} });
  const planes = await startThreeHops(t, app.address);
  const client = new RawClient(t, planes[0]!.outboundPort);
  const next = async (count: number): Promise<SeenCall> => {
    await waitUntil('the app has it', () => callsTo(app.calls).length === count);
    return callsTo(app.calls)[count - 1]!;
  };

  // The caller's half first: the answer goes on for as long as it likes.
  const reader = client.bidi();
  reader.write(message);
  reader.end();
  const read: string[] = [];
  reader.on('data', (bytes: Buffer) => read.push(bytes.toString()));
  const readerEnded = new Promise<number>((resolve) => reader.on('status', ({ code }) => resolve(code)));
  const half = await next(1);
  await waitUntil('the app heard END_STREAM', () => half.complete);
  half.stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  half.stream.on('wantTrailers', () => half.stream.sendTrailers({ 'grpc-status': '0' }));
  for (const part of ['one', 'two']) {
    half.stream.write(grpcFrame(part));
    await waitUntil(`${part} arrived`, () => read.includes(part));
  }
  half.stream.end();
  t.equal(await readerEnded, status.OK);

  // The answer's half first: the caller has it although it was still sending, and the app's stream is let go.
  const writer = client.bidi();
  const written: string[] = [];
  writer.on('data', (bytes: Buffer) => written.push(bytes.toString()));
  const writerEnded = new Promise<number>((resolve) => writer.on('status', ({ code }) => resolve(code)));
  writer.write(message);
  const early = await next(2);
  answerWith(early.stream, 'enough');
  t.equal(await writerEnded, status.OK);
  t.strictSame(written, ['enough']);
  await waitUntil('the connection to the app was closed', () => early.closedWith !== undefined);
  t.equal(early.closedWith, errorCode.cancel);
  await waitUntil('all is over', () => activeCalls(planes) === 0);
});

t.test('a caller that stopped reading can still cancel', async (t) => {
  const app = await startUpstream(t, {
    onCall: ({ stream }) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(grpcFrame(Buffer.alloc(1_000_000)));
    },
  });
  const planes = await startThreeHops(t, app.address);
  const peer = (await H2Peer.connect(t, planes[0]!.outboundPort)).behave({ reads: false });
  await peer.headers(1, grpcRequest(rawPaths.serverStream));
  await peer.data(1, grpcFrame(message), true);
  await peer.until('its window was full', () => peer.dataBytes === 65_535);
  await peer.reset(1, errorCode.cancel);
  const [call] = callsTo(app.calls);
  await waitUntil('the app heard', () => call!.closedWith === errorCode.cancel);
  t.equal(activeCalls(planes), 0);
});

t.test('the sidecar detects a silently lost caller, and ends its calls', async (t) => {
  const app = await startUpstream(t, { onCall: beginOnly });
  const clock = new TestClock();
  const inbound = { app: app.address, keepalive: { time: '200ms', timeout: '200ms' } };
  const plane = await startDataPlane(t, { inbound }, {}, clock);
  // Answers no PING, as a host does that has lost its power.
  const dead = await H2Peer.connect(t, plane.inboundPort);
  const alive = (await H2Peer.connect(t, plane.inboundPort)).behave();
  for (const [peer, path] of [
    [dead, '/test.Raw/Dead'],
    [alive, '/test.Raw/Alive'],
  ] as const) {
    await peer.headers(1, grpcRequest(path));
    await peer.data(1, grpcFrame(message), true);
  }
  const call = (path: string): SeenCall | undefined =>
    app.calls.find(({ headers }) => headers[':path'] === path);
  await waitUntil('the app has both', () => callsTo(app.calls).length === 2);
  clock.advance(210);
  await alive.until('it was asked', () => alive.count(frameType.ping) === 1);
  // What comes behind its answer shows that the sidecar has that.
  await alive.headers(3, grpcRequest('/test.Raw/Behind'), true);
  await waitUntil('the sidecar has the answer', () => call('/test.Raw/Behind'));
  clock.advance(210);
  await waitUntil('the app heard', () => call('/test.Raw/Dead')?.closedWith === errorCode.cancel);
  t.ok(dead.closed);
  t.equal(call('/test.Raw/Alive')!.closedWith, undefined, 'one that answers PINGs may be silent for long');
  t.equal(alive.closed, false);
});
