// What provably was not processed is sent again elsewhere, as it was; everything else is not.

import { createServer, type Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, endCooldown, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import {
  errorCode,
  type Frame,
  flag,
  frame,
  frameType,
  grpcRequest,
  H2Peer,
  settings,
  startPeerServer,
  uint32,
} from '../scripts/harness/h2-peer.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { Endpoint } from '../sidecar/cluster/endpoint.ts';
import { parseTimeout } from '../sidecar/grpc/timeout.ts';
import type { ClusterWithPolicies } from '../sidecar/proxy/cluster-policies.ts';
import { seededRandom } from './support/seeded-random.ts';
import { grpcFrame, startUpstream, type Upstream } from './support/upstream.ts';

const path = '/any.Service/Method';
const message = grpcFrame('message');

interface Misbehaving {
  readonly address: string;
  /** Streams that were begun there. */
  streams: number;
  readonly peers: readonly H2Peer[];
}

/** A server that does this with each frame of a call. */
async function startMisbehaving(t: Test, act: (peer: H2Peer, received: Frame) => void): Promise<Misbehaving> {
  const started = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      if (received.streamId === 0) return;
      if (received.type === frameType.headers) {
        server.streams++;
        // Windows that never close: these servers look at other things.
        peer.windowUpdate(0, 1_000_000);
        peer.windowUpdate(received.streamId, 1_000_000);
      }
      act(peer, received);
    };
    peer.send(settings());
  });
  const server: Misbehaving = { address: started.address, streams: 0, peers: started.peers };
  return server;
}

/** Refuses each call after its last byte: everything has to be sent again. */
const startRefusing = (t: Test): Promise<Misbehaving> =>
  startMisbehaving(t, (peer, { type, flags, streamId }) => {
    const ends = type === frameType.data || type === frameType.headers;
    if (ends && (flags & flag.endStream) !== 0) peer.reset(streamId, errorCode.refusedStream);
  });

const goaway = (lastStreamId: number): Buffer =>
  frame(frameType.goaway, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(0)]));

const clusterOf = (plane: DataPlane): ClusterWithPolicies =>
  plane.sidecar.outbound.clusters.clusters.get('upstream')!;
const endpointOf = (plane: DataPlane, address: string): Endpoint =>
  clusterOf(plane).endpoints.find((endpoint) => endpoint.address === address)!;
const retriesOf = (plane: DataPlane): number => clusterOf(plane).retries.get('retried') ?? 0;

/** Round robin over these, so that of as many calls one begins at each. */
const startRoundRobin = (
  t: Test,
  addresses: string[],
  more: Record<string, unknown> = {},
  clock?: TestClock,
): Promise<DataPlane> =>
  startDataPlane(t, oneCluster(addresses, { balancer: 'round_robin', ...more }), {}, clock);

t.test('a refused call is replayed byte for byte at another endpoint', async (t) => {
  const refuses = await startRefusing(t);
  const works = await startUpstream(t);
  const plane = await startRoundRobin(t, [refuses.address, works.address]);
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  const random = seededRandom(7);
  let id = -1;
  for (const size of [0, 1, 5, 2_000, 20_000, 65_536]) {
    for (const most of [16_384, 700, 3]) {
      if (size / most > 10_000) continue;
      const body = Buffer.from(Array.from({ length: size }, () => Math.floor(random() * 256)));
      body.fill(0, 0, Math.min(size, 5));
      if (size >= 5) body.writeUInt32BE(size - 5, 1);
      const before = works.calls.length;
      endCooldown(endpointOf(plane, refuses.address));
      // Of two calls one begins at the endpoint that refuses, or both do.
      for (let call = 0; call < 2; call++) {
        id += 2;
        await peer.headers(id, grpcRequest(path));
        for (let at = 0; at < size; ) {
          const end = Math.min(size, at + 1 + Math.floor(random() * most));
          peer.data(id, body.subarray(at, end));
          at = end;
        }
        await peer.data(id, Buffer.alloc(0), true);
        await peer.until(`${id} was answered`, () => peer.ended.has(id));
        t.equal(peer.field(id, 'grpc-status'), '0', `${size} bytes in frames of up to ${most}`);
      }
      for (const call of works.calls.slice(before))
        if (!call.body.equals(body)) t.fail(`${call.body.length} of ${size} bytes came`);
      t.equal(works.calls.length, before + 2);
    }
  }
  t.equal(retriesOf(plane), refuses.streams);
  t.ok(refuses.streams > 10, `${refuses.streams} calls were refused`);
  const refused = endpointOf(plane, refuses.address).attemptsByStatus;
  t.equal(refused[status.UNAVAILABLE], refuses.streams, 'each is counted where it failed');
  t.equal(endpointOf(plane, works.address).attemptsByStatus[status.OK], works.calls.length);
});

t.test('a stream that was refused midway continues elsewhere, with trailers', async (t) => {
  const refuses = await startMisbehaving(t, (peer, { type, streamId }) => {
    if (type === frameType.data) peer.reset(streamId, errorCode.refusedStream);
  });
  const works = await startUpstream(t);
  const plane = await startRoundRobin(t, [refuses.address, works.address]);
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  for (const id of [1, 3]) {
    await peer.headers(id, grpcRequest(path));
    await peer.data(id, message);
    await waitUntil('its beginning is there', () => works.calls.length === (id + 1) / 2);
    await peer.data(id, message);
    await peer.send(frame(frameType.headers, flag.endHeaders | flag.endStream, id));
    await peer.until('it was answered', () => peer.ended.has(id));
    t.equal(peer.field(id, 'grpc-status'), '0');
  }
  for (const { body } of works.calls) t.ok(body.equals(Buffer.concat([message, message])));
  t.ok(refuses.streams >= 1);
  t.equal(retriesOf(plane), refuses.streams);
});

t.test('a request that is not buffered completely is not sent again', async (t) => {
  const refuses = await startRefusing(t);
  const works = await startUpstream(t);
  for (const [bufferBytes, size] of [
    [65_536, 65_537],
    [1_000, 1_001],
    [0, 6],
  ] as const) {
    const plane = await startRoundRobin(t, [refuses.address, works.address], {
      retry: { buffer_bytes: bufferBytes },
    });
    const client = new RawClient(t, plane.outboundPort);
    const before = { refused: refuses.streams, worked: works.calls.length };
    const outcomes = [];
    for (let call = 0; call < 2; call++)
      outcomes.push(await client.unary(Buffer.alloc(size - 5, 7), { path }));
    t.equal(refuses.streams, before.refused + 1);
    t.equal(works.calls.length, before.worked + 1, `${size} bytes, ${bufferBytes} may be kept`);
    const codes = outcomes.map(({ code }) => code).sort((a, b) => a - b);
    t.strictSame(codes, [status.OK, status.UNAVAILABLE]);
  }
});

t.test('a call above the last stream of a GOAWAY is sent again, and one below it completes', async (t) => {
  const leaves = await startMisbehaving(t, (peer, { type, streamId }) => {
    if (type !== frameType.headers) return;
    if (streamId === 3) peer.send(goaway(1));
  });
  const works = await startUpstream(t);
  const plane = await startRoundRobin(t, [leaves.address, works.address]);
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  // Round robin: two of four calls go to the one that leaves.
  for (const id of [1, 3, 5, 7]) {
    await peer.headers(id, grpcRequest(path));
    await peer.data(id, message, true);
  }
  await peer.until('three were answered', () => peer.ended.size === 3);
  t.equal(works.calls.length, 3);
  t.equal(retriesOf(plane), 1);
  const [waiting] = [1, 3, 5, 7].filter((id) => !peer.ended.has(id));
  await leaves.peers[0]!.headers(
    1,
    [
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['grpc-status', '0'],
      ['x-from', 'leaves'],
    ],
    true,
  );
  await peer.until('so was the fourth', () => peer.ended.has(waiting!));
  t.equal(peer.field(waiting!, 'x-from'), 'leaves', 'by the endpoint that was leaving');
});

t.test('the only endpoint gets the call again on a new connection after its GOAWAY', async (t) => {
  const leaves = await startMisbehaving(t, (peer, { type, streamId }) => {
    if (type !== frameType.headers) return;
    if (leaves.streams === 1) peer.send(goaway(0));
    else
      peer.headers(
        streamId,
        [
          [':status', '200'],
          ['grpc-status', '0'],
        ],
        true,
      );
  });
  const plane = await startDataPlane(t, oneCluster([leaves.address]));
  const client = new RawClient(t, plane.outboundPort);
  const { code } = await client.unary(Buffer.from('x'), { path });
  // Without a message OK is an error of its own to grpc-js; what counts here is that the answer came.
  t.not(code, status.UNAVAILABLE);
  t.equal(leaves.streams, 2);
  t.equal(leaves.peers.length, 2);
});

/** Accepts connections and says nothing. */
async function startBlackHole(t: Test): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on('error', () => {})));
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${port}`;
}

t.test('an unreachable endpoint costs no call', async (t) => {
  const works = await startUpstream(t);
  for (const [how, address] of [
    ['refuses connections', `127.0.0.1:${await freePort()}`],
    ['swallows them', await startBlackHole(t)],
    ['is a socket that is not there', 'unix:/nowhere/to.sock'],
  ] as const) {
    const clock = new TestClock();
    const plane = await startRoundRobin(t, [address, works.address], { connect_timeout: '200ms' }, clock);
    const dead = endpointOf(plane, address);
    const client = new RawClient(t, plane.outboundPort);
    const before = works.calls.length;
    const deadline = Date.now() + 60_000;
    const calls = Array.from({ length: 20 }, () => client.unary(Buffer.from('x'), { path, deadline }));
    const waiting = (): number => 20 - (works.calls.length - before);
    if (how === 'swallows them') {
      await waitUntil('the others wait for it', () => dead.pool.pendingCount === waiting());
      t.ok(waiting() > 0);
      clock.advance(210);
    }
    const codes = (await Promise.all(calls)).map(({ code }) => code);
    t.ok(
      codes.every((code) => code === status.OK),
      how,
    );
    t.equal(works.calls.length, before + 20);
    t.equal(dead.usable, false, 'it is left out from then on');
    t.match(dead.unusableBecause, address);
    const left = works.calls
      .slice(before)
      .map(({ headers }) => parseTimeout(headers['grpc-timeout'] as string));
    if (how === 'swallows them') t.ok(Math.min(...left) <= 59_800, 'the time it took is gone');
  }
});

t.test("a call that can't be sent to any endpoint gets the reason", async (t) => {
  const dead = [await freePort(), await freePort()].map((port) => `127.0.0.1:${port}`);
  for (const addresses of [dead.slice(0, 1), dead]) {
    // The time until an endpoint is tried again never comes.
    const plane = await startRoundRobin(t, addresses, {}, new TestClock());
    const client = new RawClient(t, plane.outboundPort);
    const first = await client.unary(Buffer.from('x'), { path });
    t.equal(first.code, status.UNAVAILABLE);
    t.strictSame(first.trailers.get('outrigger-reason'), ['connect_failed']);
    t.match(first.details, /ECONNREFUSED/);
    t.equal(retriesOf(plane), addresses.length - 1, 'only what was tried again is counted');
    const second = await client.unary(Buffer.from('x'), { path });
    t.equal(second.code, status.UNAVAILABLE);
    t.strictSame(second.trailers.get('outrigger-reason'), ['no_endpoint']);
    for (const address of addresses) t.match(second.details, address, 'each is named with its fault');
    t.match(second.details, /ECONNREFUSED/);
  }
});

t.test('when all endpoints refuse, the call ends soon', async (t) => {
  const refusing = await Promise.all(Array.from({ length: 8 }, () => startRefusing(t)));
  const addresses = refusing.map(({ address }) => address);
  for (const [count, attempts] of [
    [1, 2],
    [2, 3],
    [8, 5],
  ] as const) {
    for (const server of refusing) server.streams = 0;
    const plane = await startRoundRobin(t, addresses.slice(0, count));
    const { code, details } = await new RawClient(t, plane.outboundPort).unary(Buffer.from('x'), { path });
    t.equal(code, status.UNAVAILABLE);
    t.match(details, /REFUSED_STREAM/);
    const streams = refusing.reduce((sum, server) => sum + server.streams, 0);
    t.equal(streams, attempts, `${count} endpoints`);
    if (count === 8)
      t.ok(
        refusing.every((server) => server.streams <= 1),
        'no endpoint is asked twice',
      );
  }
});

t.test('a call whose answer had begun is not sent again', async (t) => {
  const begins = await startMisbehaving(t, (peer, { type, streamId }) => {
    if (type !== frameType.headers) return;
    peer.headers(streamId, [
      [':status', '200'],
      ['content-type', 'application/grpc'],
    ]);
    peer.reset(streamId, errorCode.refusedStream);
  });
  const works = await startUpstream(t);
  const plane = await startRoundRobin(t, [begins.address, works.address]);
  const client = new RawClient(t, plane.outboundPort);
  const codes = [];
  for (let call = 0; call < 2; call++) codes.push((await client.unary(Buffer.from('x'), { path })).code);
  t.strictSame(
    codes.sort((a, b) => a - b),
    [status.OK, status.UNAVAILABLE],
  );
  t.equal(works.calls.length, 1);
  t.equal(retriesOf(plane), 0);
});

t.test('a lost connection after a written request is UNAVAILABLE, and the call ran once', async (t) => {
  const dies = await startMisbehaving(t, (peer, { type }) => {
    if (type === frameType.data) peer.socket.destroy();
  });
  const works = await startUpstream(t);
  const plane = await startRoundRobin(t, [dies.address, works.address]);
  const client = new RawClient(t, plane.outboundPort);
  const outcomes = [];
  for (let call = 0; call < 2; call++) outcomes.push(await client.unary(Buffer.from('x'), { path }));
  const failed = outcomes.filter(({ code }) => code !== status.OK);
  t.equal(failed.length, 1);
  t.equal(failed[0]!.code, status.UNAVAILABLE);
  t.strictSame(failed[0]!.trailers.get('outrigger-reason'), ['stream_cut']);
  t.match(failed[0]!.details, dies.address);
  t.equal(dies.streams + works.calls.length, 2, 'two calls, two executions');
  t.equal(retriesOf(plane), 0);
});

t.test('calls find an endpoint that returns', async (t) => {
  const port = await freePort();
  const plane = await startDataPlane(t, oneCluster([`127.0.0.1:${port}`]));
  const client = new RawClient(t, plane.outboundPort);
  t.equal((await client.unary(Buffer.from('x'), { path })).code, status.UNAVAILABLE);
  const back: Upstream = await startUpstream(t, { port });
  await waitUntil(
    'a call went through',
    async () => (await client.unary(Buffer.from('x'), { path })).code === status.OK,
    { everyMs: 100 },
  );
  t.equal(back.calls.length, 1);
});
