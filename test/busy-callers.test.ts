// A caller may cancel much. That costs no call of others: neither on its own connection, nor on those to the endpoints
// that all share, whose servers count resets (node's, which is nghttp2, ends a connection at 1,000).
import t, { type Test } from 'tap';
import { type DataPlane, policiesOff, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  settings,
} from '../scripts/harness/h2-peer.ts';
import { RawClient, rawPaths, startRawServer, type UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { grpcFrame, type SeenCall, startUpstream, type Upstream } from './support/upstream.ts';

t.setTimeout(180_000);

const STREAM = '/busy.Service/Stream';
const HANGS = '/busy.Service/Hangs';
const UNARY = '/busy.Service/Unary';

/** An app with streams that go on until they are ended here, calls that hang, and calls that are answered. */
interface App extends Upstream {
  readonly streams: SeenCall[];
}

async function startApp(t: Test): Promise<App> {
  const streams: SeenCall[] = [];
  const upstream = await startUpstream(t, {
    onCall: (call) => {
      const { stream, headers } = call;
      if (headers[':path'] === HANGS) return;
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      if (headers[':path'] === STREAM) streams.push(call);
      else stream.end(grpcFrame('answer'));
    },
  });
  return Object.assign(upstream, { streams });
}

const startPlane = (t: Test, app: string, endpoint: string): Promise<DataPlane> =>
  startDataPlane(t, {
    inbound: { app },
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: {
        upstream: { endpoints: [endpoint], ...policiesOff },
      },
    },
  });

/** A stream of a caller, of which a message comes and goes whenever it is asked whether it lives. */
class Running {
  readonly peer: H2Peer;
  private readonly id: number;
  private readonly call: SeenCall;
  private messages = 0;

  private constructor(peer: H2Peer, id: number, call: SeenCall) {
    this.peer = peer;
    this.id = id;
    this.call = call;
  }

  static async begin(peer: H2Peer, id: number, app: App): Promise<Running> {
    const before = app.streams.length;
    await peer.headers(id, grpcRequest(STREAM));
    await peer.data(id, grpcMessage(Buffer.from('x')), true);
    await waitUntil('the stream is at the app', () => app.streams.length > before);
    return new Running(peer, id, app.streams[before]!);
  }

  async lives(t: Test, when: string): Promise<void> {
    const { peer, id, call } = this;
    const before = peer.dataBytes;
    call.stream.write(grpcFrame(`chunk ${++this.messages}`));
    await peer.until(
      `a chunk came ${when}`,
      () => peer.dataBytes > before || peer.ended.has(id) || peer.resets.has(id) || peer.closed,
    );
    t.ok(peer.dataBytes > before, `it lives ${when}: ${JSON.stringify(peer.heads.get(id)?.at(-1))}`);
  }

  async end(t: Test, when: string): Promise<void> {
    const { peer, id, call } = this;
    call.stream.end();
    await peer.until('it ended', () => peer.ended.has(id) || peer.resets.has(id) || peer.closed);
    t.equal(peer.field(id, 'grpc-status'), '0', `and ends in order ${when}`);
  }
}

/** Begins and cancels calls in waves, each of which is open at once. @returns the next id */
async function cancel(peer: H2Peer, firstId: number, count: number, wave: number): Promise<number> {
  let id = firstId;
  for (let left = count; left > 0 && peer.goaway === undefined; left -= wave) {
    const ids = Array.from({ length: Math.min(wave, left) }, (_, n) => id + 2 * n);
    id += 2 * ids.length;
    for (const open of ids) void peer.headers(open, grpcRequest(HANGS));
    await peer.data(ids.at(-1)!, grpcMessage(Buffer.from('x')));
    if (wave > 1) {
      // They are there before they are cancelled.
      const before = peer.count(frameType.settings);
      await peer.send(settings());
      await peer.until('they are there', () => peer.count(frameType.settings) > before || peer.closed);
    }
    for (const open of ids) void peer.reset(open, errorCode.cancel);
    await peer.until('a turn', () => true);
  }
  return id;
}

const connect = async (t: Test, port: number): Promise<H2Peer> => (await H2Peer.connect(t, port)).behave();

async function callsGoOn(t: Test, peer: H2Peer, id: number, when: string): Promise<void> {
  await peer.headers(id, grpcRequest(UNARY));
  await peer.data(id, grpcMessage(Buffer.from('x')), true);
  await peer.until('a call ended', () => peer.ended.has(id) || peer.resets.has(id) || peer.closed);
  t.equal(peer.field(id, 'grpc-status'), '0', `calls go on ${when}`);
}

/** What a caller's port is behind, and the app that its streams come to. */
const ways = {
  inbound: async (t: Test) => {
    const app = await startApp(t);
    return { app, port: (await startPlane(t, app.address, app.address)).inboundPort };
  },
  outbound: async (t: Test) => {
    const app = await startApp(t);
    return { app, port: (await startPlane(t, app.address, app.address)).outboundPort };
  },
  'two sidecars': async (t: Test) => {
    const app = await startApp(t);
    const beside = await startPlane(t, app.address, app.address);
    const caller = await startPlane(t, app.address, `127.0.0.1:${beside.inboundPort}`);
    return { app, port: caller.outboundPort };
  },
};

for (const [way, start] of Object.entries(ways)) {
  t.test(`${way}: cancelled calls end no others`, async (t) => {
    const { app, port } = await start(t);
    const busy = await connect(t, port);
    const other = await connect(t, port);
    const sameChannel = await Running.begin(busy, 1, app);
    const otherChannel = await Running.begin(other, 1, app);
    let id = 3;
    for (const [count, wave] of [
      [2_000, 1],
      [1_000, 100],
      // As when a caller that had so many dies.
      [900, 900],
    ] as const) {
      const when = `behind ${count} cancelled calls, ${wave} at once`;
      id = await cancel(busy, id, count, wave);
      await sameChannel.lives(t, when);
      await otherChannel.lives(t, when);
      await callsGoOn(t, busy, id, when);
      id += 2;
      t.equal(busy.goaway, undefined, 'and the channel stays');
    }
    await sameChannel.end(t, 'on the same channel');
    await otherChannel.end(t, 'on another one');
  });
}

t.test(
  'a caller that only cancels is moved to another connection, and its running calls continue',
  async (t) => {
    const app = await startApp(t);
    const plane = await startPlane(t, app.address, app.address);
    for (const [listener, port, stats] of [
      ['inbound', plane.inboundPort, plane.sidecar.inbound.stats],
      ['outbound', plane.outboundPort, plane.sidecar.outbound.stats],
    ] as const) {
      const busy = await connect(t, port);
      const running = await Running.begin(busy, 1, app);
      await cancel(busy, 3, 100_000, 100);
      await busy.until('it was sent away', () => busy.goaway !== undefined);
      // Any other code would make some libraries end all calls.
      t.equal(busy.goaway?.code, errorCode.noError, listener);
      await running.lives(t, `${listener}: when its connection takes no more`);
      t.equal(busy.closed, false);
      await callsGoOn(t, await connect(t, port), 1, 'on another connection');
      await running.end(t, listener);
      await busy.until('it is closed behind the last call', () => busy.closed);

      if (listener === 'outbound') continue;
      const alone = await connect(t, port);
      await cancel(alone, 1, 100_000, 100);
      await alone.until('so is one that has no other calls', () => alone.closed);
      t.equal(alone.goaway?.code, errorCode.noError);
      t.equal(stats.rejected.get('enhance_your_calm'), undefined);
    }
  },
);

t.test('calls of a busy caller that has not read our GOAWAY yet end no running call', async (t) => {
  const app = await startApp(t);
  const plane = await startPlane(t, app.address, app.address);
  const busy = await connect(t, plane.inboundPort);
  const running = await Running.begin(busy, 1, app);
  const next = await cancel(busy, 3, 100_000, 100);
  await busy.until('it was sent away', () => busy.goaway !== undefined);
  await busy.until('for good', () => busy.goaway!.lastStreamId < next);
  const lateCalls = 6_000;
  for (let call = 1; call <= lateCalls; call++) {
    const id = next + 2 * call;
    void busy.headers(id, grpcRequest(HANGS));
    const sent = busy.reset(id, errorCode.cancel);
    if (call % 100 === 0) await sent;
  }
  await running.lives(t, `behind ${lateCalls} late calls`);
  await running.end(t, 'in order');
});

t.test('a grpc-js channel that cancels often loses no other call', async (t) => {
  const server = await startRawServer(t, {
    unary: (call, callback) => {
      if (String(call.request) !== 'hang') callback(null, call.request);
    },
  });
  const plane = await startDataPlane(t, { inbound: { app: server.address } });
  const client = new RawClient(t, plane.inboundPort);
  const running = client.bidi();
  let echoed = 0;
  running.on('data', () => echoed++);
  running.write(Buffer.from('x'));
  await waitUntil('the stream runs', () => echoed === 1);
  const codes = new Set<number>();
  const { stats } = plane.sidecar.inbound;
  let connections = 1;
  for (let cancelled = 0; connections === 1 && cancelled < 30_000; cancelled += 100) {
    const ends: Promise<UnaryOutcome>[] = [];
    const calls = Array.from({ length: 100 }, () => {
      const call = client.client.makeUnaryRequest(
        rawPaths.unary,
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.from('hang'),
        () => {},
      );
      ends.push(new Promise((resolve) => call.on('status', resolve)));
      return call;
    });
    await waitUntil('they run', () => stats.activeCalls >= 100);
    const before = client.unary(Buffer.from('hi'));
    for (const call of calls) call.cancel();
    const behind = client.unary(Buffer.from('hi'));
    for (const { code } of await Promise.all([before, behind])) codes.add(code);
    await Promise.all(ends);
    connections = stats.activeConnections;
  }
  t.ok(connections > 1, 'the channel got GOAWAY and opened another connection');
  t.strictSame([...codes], [0], 'and no call has noticed');
  running.write(Buffer.from('y'));
  await waitUntil('the stream lives', () => echoed === 2);
  const ended = new Promise((resolve) => running.once('end', resolve));
  running.end();
  await ended;
});

t.test('a connection with many resets stays in use when no other is available', async (t) => {
  const app = await startApp(t);
  const plane = await startPlane(t, app.address, app.address);
  const busy = await connect(t, plane.outboundPort);
  const other = await connect(t, plane.outboundPort);
  const running = await Running.begin(other, 1, app);
  const cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  const { pool } = cluster.endpoints[0]!;
  let id = await cancel(busy, 1, 200, 1);
  await callsGoOn(t, busy, id, 'on the first connection');
  t.equal(pool.connectionCount, 1);
  // From here on the endpoint takes no connections.
  const environment = pool['environment'] as { connect(address: string): unknown };
  const { connect: open } = environment;
  environment.connect = () => {
    throw new Error('no more connections');
  };
  id = await cancel(busy, id + 2, 250, 1);
  await callsGoOn(t, busy, id, 'when no other connection can be made');
  t.ok(cluster.connectFailures.get('no_socket')! > 0, 'which was tried');
  await running.lives(t, 'there');
  environment.connect = open;
  await waitUntil('another connection takes over', async () => {
    id += 2;
    await callsGoOn(t, busy, id, 'while another one is looked for');
    return pool.connections.every(({ resetsSent }) => resetsSent < 300);
  });
  await running.end(t, 'on the closing connection');
});
