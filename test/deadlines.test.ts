// grpc-timeout: read, shortened, passed on, and kept.
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode, grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { parseTimeout } from '../sidecar/grpc/timeout.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream, taskRequest } from './support/upstream.ts';

/** Of which nothing is known. */
const path = '/any.Service/Method';
const unary = '/agent.AgentService/ProcessTask';
const stream = '/agent.AgentService/StreamProcess';
const WATCH = '/grpc.health.v1.Health/Watch';
const message = grpcFrame('message');

/** A caller that does not watch the clock itself, so that the sidecar has to. */
async function connect(t: Test, port: number, { reads = true } = {}): Promise<H2Peer> {
  return (await H2Peer.connect(t, port)).behave({ reads });
}

/** Calls with these headers and one message; the fields of the answer's last HEADERS frame. */
async function ask(
  peer: H2Peer,
  id: number,
  to = path,
  ...headers: [string, string][]
): Promise<Record<string, string>> {
  const request = grpcRequest(to, ...headers);
  const types = request.filter(([name]) => name === 'content-type');
  // The last one given replaces the one of gRPC.
  await peer.headers(id, types.length < 2 ? request : request.filter((field) => field !== types[0]));
  await peer.data(id, message, true);
  await peer.until(`call ${id} ended`, () => peer.ended.has(id) || peer.resets.has(id) || peer.closed);
  return Object.fromEntries(peer.heads.get(id)?.at(-1) ?? []);
}

/** Timers that are there without any call: keepalive of upstream connections, and the look at the app. */
const timersBeside = (plane: DataPlane): number => {
  let timers = plane.sidecar.inbound.listener.connectionCount;
  const clusters = [plane.sidecar.inbound.app, ...plane.sidecar.outbound.clusters.clusters.values()];
  for (const { endpoints, name } of clusters)
    for (const { pool } of endpoints)
      timers += (name === 'app' ? 0 : pool.connectionCount) + Number(pool.armed);
  return timers + Number(plane.sidecar.inbound.appHealth.armed);
};

const noTimersLeft = (plane: DataPlane): Promise<true> =>
  waitUntil('no call has a timer', () => plane.sidecar.wheel.size <= timersBeside(plane));

t.test("upstream receives the caller's deadline, and ours only for calls known to be unary", async (t) => {
  const upstream = await startUpstream(t, { health: true });
  const outbound = (settings: object) => oneCluster([upstream.address], { ...settings });
  const inbound = (settings: object) => ({ inbound: { app: upstream.address, ...settings } });
  for (const [side, configure] of [
    ['outbound', outbound],
    ['inbound', inbound],
  ] as const) {
    const plane = await startDataPlane(t, configure({}), {}, new TestClock());
    const peer = await connect(t, side === 'outbound' ? plane.outboundPort : plane.inboundPort);
    let id = -1;
    const sentOn = async (to: string, ...headers: [string, string][]): Promise<string | undefined> => {
      id += 2;
      const answer = await ask(peer, id, to, ...headers);
      t.match(answer, { 'grpc-status': '0' });
      const seen = upstream.calls.filter((call) => call.headers[':path'] === to).at(-1)!;
      return seen.headers['grpc-timeout'] as string | undefined;
    };
    const within = async (to: string, limitMs: number, ...headers: [string, string][]): Promise<void> => {
      const leftMs = parseTimeout((await sentOn(to, ...headers)) ?? '');
      const label = `${side}: ${to} ${headers.join()}: ${leftMs} of ${limitMs} ms`;
      t.equal(leftMs, limitMs, label);
    };
    await within(unary, 60_000);
    // Of its own health the inbound side answers itself.
    for (const to of side === 'outbound' ? [stream, path, WATCH] : [stream, path]) {
      t.equal(await sentOn(to), undefined, `${side}: ${to} may take as long as it likes`);
    }
    const http: [string, string] = ['content-type', 'application/json'];
    t.equal(await sentOn(unary, http), undefined, `${side}: what is no gRPC is not known`);
    for (const to of [unary, stream, path]) {
      await within(to, 7_000, ['grpc-timeout', '7S']);
      await within(to, 3_600, ['grpc-timeout', '3600000u']);
      await within(to, 300_000, ['grpc-timeout', '300S']);
      await within(to, 7_200_000, ['grpc-timeout', '2H']);
      // More digits than there may be, as C-core's servers take them; not all do, so that it is written anew.
      await within(to, 5_000, ['grpc-timeout', '5000000000n']);
      await within(to, 123_456_000, ['grpc-timeout', '123456000000u']);
      await within(to, 359_999_996_400_000, ['grpc-timeout', '9999999999H']);
      t.match(await sentOn(to, ['grpc-timeout', '0000000007S']), /^\d{1,8}[mu]$/);
    }
    await plane.apply(configure({ timeout: '90s', max_timeout: '2m' }));
    await within(unary, 90_000);
    t.equal(await sentOn(path), undefined, `${side}: the cap is for those who name a deadline`);
    for (const to of [unary, stream, path]) {
      await within(to, 7_000, ['grpc-timeout', '7S']);
      await within(to, 120_000, ['grpc-timeout', '300S']);
    }
    await plane.apply(configure({ timeout: '0s' }));
    await within(unary, 3_600_000, ['grpc-timeout', '1H']);
    t.equal(await sentOn(unary), undefined, `${side}: none, when neither says one`);
  }
});

t.test('each hop subtracts the elapsed time', async (t) => {
  const app = await startUpstream(t);
  const clock = new TestClock();
  const beside = await startDataPlane(t, { inbound: { app: app.address } }, {}, clock);
  const outbound = {
    routes: [{ match: { agent_type: 'code' }, cluster: 'code' }],
    clusters: { code: { endpoints: [`127.0.0.1:${beside.inboundPort}`] } },
  };
  const plane = await startDataPlane(t, { outbound }, {}, clock);
  const peer = await connect(t, plane.outboundPort);
  await peer.headers(1, grpcRequest('/agent.AgentService/ProcessTask', ['grpc-timeout', '20S']));
  await peer.roundTrip();
  clock.advance(150);
  await peer.data(1, grpcFrame(taskRequest({ type: 'code' })), true);
  await peer.until('it was answered', () => peer.ended.has(1));
  const call = app.calls.find(({ headers }) => headers[':path'] === '/agent.AgentService/ProcessTask')!;
  const leftMs = parseTimeout(call.headers['grpc-timeout'] as string);
  t.equal(leftMs, 20_000 - 150);
  t.equal(Object.keys(call.headers).filter((name) => name === 'grpc-timeout').length, 1);
});

t.test('at the deadline the caller gets DEADLINE_EXCEEDED and the upstream CANCEL', async (t) => {
  const upstream = await startUpstream(t, {
    onCall: ({ stream, headers }) => {
      if (headers['x-begin'] === undefined) return;
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(message);
    },
  });
  const clock = new TestClock();
  const plane = await startDataPlane(t, oneCluster([upstream.address], { timeout: '150ms' }), {}, clock);
  const peer = await connect(t, plane.outboundPort);
  /** The upstream has the call, and what it has said of it is with the caller, when its time is over. */
  const timesOut = async (id: number, ms: number, ...headers: [string, string][]) => {
    const asked = ask(peer, id, unary, ...headers);
    await waitUntil('upstream has it', () => upstream.calls.length === (id + 1) / 2);
    if (headers.some(([name]) => name === 'x-begin'))
      await peer.until('it has begun', () => peer.dataBytes > 0);
    clock.advance(ms);
    return asked;
  };

  const silent = await timesOut(1, 160);
  t.match(silent, { ':status': '200', 'grpc-status': '4', 'outrigger-reason': 'deadline' });
  t.equal(peer.heads.get(1)!.length, 1, 'Trailers-Only, as nothing had been said');
  t.match(decodeURIComponent(silent['grpc-message']!), /configured timeout of 150 ms/);
  t.match(decodeURIComponent(silent['grpc-message']!), upstream.address, 'names the awaited endpoint');

  const begun = await timesOut(3, 160, ['x-begin', '1']);
  t.match(begun, { 'grpc-status': '4', 'outrigger-reason': 'deadline' });
  t.notOk(':status' in begun, 'trailers behind an answer that had begun');

  const callers = await timesOut(5, 50, ['grpc-timeout', '40m']);
  t.match(decodeURIComponent(callers['grpc-message']!), /caller's grpc-timeout/);
  await waitUntil('upstream heard of all', () =>
    upstream.calls.every(({ closedWith }) => closedWith !== undefined),
  );
  t.strictSame(
    upstream.calls.map(({ closedWith }) => closedWith),
    [errorCode.cancel, errorCode.cancel, errorCode.cancel],
  );
  t.equal(plane.sidecar.outbound.stats.rejected.get('deadline'), 3);
  // What watches the endpoints ends by itself.
  clock.advance(30_000);
  await noTimersLeft(plane);
});

t.test('the deadline applies before the call has a connection', async (t) => {
  // Accepts the connection and says nothing, as a process does that is stopped.
  const { createServer } = await import('node:net');
  const sockets: import('node:net').Socket[] = [];
  const hole = createServer((socket) => sockets.push(socket.on('error', () => {})));
  await new Promise<void>((resolve) => hole.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    hole.close();
  });
  const address = `127.0.0.1:${(hole.address() as import('node:net').AddressInfo).port}`;
  const plane = await startDataPlane(t, {
    outbound: {
      routes: [
        { match: { agent_type: 'code' }, cluster: 'hole' },
        { match: { authority: 'upstream' }, cluster: 'hole' },
      ],
      clusters: { hole: { endpoints: [address] } },
    },
  });
  const peer = await connect(t, plane.outboundPort);
  const waiting = await ask(peer, 1, path, ['grpc-timeout', '100m']);
  t.match(waiting, { 'grpc-status': '4', 'outrigger-reason': 'deadline' }, 'while it waits for a connection');
  const pool = plane.sidecar.outbound.clusters.clusters.get('hole')!.endpoints[0]!.pool;
  t.equal(pool.pendingCount, 0, 'and it waits no longer');

  await peer.headers(3, grpcRequest('/agent.AgentService/ProcessTask', ['grpc-timeout', '100m']));
  await peer.data(3, Buffer.from([0, 0, 0]));
  await peer.until('it ended', () => peer.ended.has(3));
  t.equal(peer.field(3, 'outrigger-reason'), 'deadline', 'while its first message is waited for');
  await peer.until('the rest is refused', () => peer.resets.has(3));
  t.equal(peer.resets.get(3), errorCode.noError);
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
});

t.test('a call without remaining time is not sent', async (t) => {
  const upstream = await startUpstream(t);
  const plane = await startDataPlane(t, oneCluster([upstream.address]));
  const peer = await connect(t, plane.outboundPort);
  let id = -1;
  for (const value of ['0m', '0n', '00000000H', '1n']) {
    id += 2;
    const answer = await ask(peer, id, path, ['grpc-timeout', value]);
    t.match(answer, { 'grpc-status': '4', 'outrigger-reason': 'deadline' }, value);
  }
  t.equal(upstream.calls.length, 0);
});

t.test('a malformed grpc-timeout is INVALID_ARGUMENT and is not forwarded', async (t) => {
  const upstream = await startUpstream(t);
  const plane = await startDataPlane(t, oneCluster([upstream.address]));
  const peer = await connect(t, plane.outboundPort);
  let id = -1;
  for (const value of ['', '5', 'S', '5 S', '5s', '-1S', '1.5S', '1Sx', '٣S'.normalize()]) {
    id += 2;
    const latin = Buffer.from(value, 'utf8').toString('latin1');
    const answer = await ask(peer, id, path, ['grpc-timeout', latin]);
    t.match(answer, { 'grpc-status': '3', 'outrigger-reason': 'bad_request' }, JSON.stringify(value));
  }
  t.equal(upstream.calls.length, 0);
  t.match(
    await ask(peer, id + 2, path, ['grpc-timeout', '99999999S']),
    { 'grpc-status': '0' },
    'eight digits are right',
  );
});

t.test('a caller that stopped reading gets DEADLINE_EXCEEDED, and costs nothing afterwards', async (t) => {
  const upstream = await startUpstream(t, {
    onCall: ({ stream, headers }: SeenCall) => answerWith(stream, Buffer.alloc(Number(headers['x-size']), 1)),
  });
  const plane = await startDataPlane(t, oneCluster([upstream.address], { timeout: '300ms' }));
  // No WINDOW_UPDATE: 65,535 bytes are taken, the rest waits in the sidecar.
  const peer = await connect(t, plane.outboundPort, { reads: false });
  // The first answer is complete in the sidecar, the second is more than it holds for one stream.
  for (const [id, size] of [
    [1, '100000'],
    [3, '400000'],
  ] as const) {
    const answer = await ask(peer, id, unary, ['x-size', size]);
    t.match(answer, { 'grpc-status': '4', 'outrigger-reason': 'deadline' }, `${size} bytes`);
  }
  await waitUntil('the upstream stream was reset', () =>
    upstream.calls.every((call) => call.closedWith !== undefined),
  );
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
  await noTimersLeft(plane);
});

t.test('an answer that waits for its reader, or loses it, leaves no timer behind', async (t) => {
  const big = Buffer.alloc(200_000, 1);
  const upstream = await startUpstream(t, { onCall: ({ stream }: SeenCall) => answerWith(stream, big) });
  const plane = await startDataPlane(t, oneCluster([upstream.address], { timeout: '1h' }));
  const reader = new RawClient(t, plane.outboundPort);
  const { code, response } = await reader.unary(Buffer.from('x'), { path: unary });
  t.equal(code, status.OK);
  t.equal(response?.length, big.length);
  await noTimersLeft(plane);

  const peer = await connect(t, plane.outboundPort, { reads: false });
  await peer.headers(1, grpcRequest(unary));
  await peer.data(1, message, true);
  await peer.until('the window was full', () => peer.dataBytes === 65_535);
  await waitUntil('the call was done', () => plane.sidecar.outbound.stats.activeCalls === 0);
  t.ok(plane.sidecar.wheel.size > timersBeside(plane), 'its answer waits, with its deadline');
  peer.socket.destroy();
  await noTimersLeft(plane);
});

t.test('many calls that end in time leave no timer behind', async (t) => {
  const upstream = await startUpstream(t);
  const plane = await startDataPlane(t, oneCluster([upstream.address]));
  const client = new RawClient(t, plane.outboundPort);
  const metadata = new Metadata();
  const outcomes = await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      client.unary(Buffer.from(`${i}`), { path, metadata, deadline: Date.now() + 60_000 }),
    ),
  );
  t.ok(outcomes.every(({ code }) => code === status.OK));
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
  await noTimersLeft(plane);
});
