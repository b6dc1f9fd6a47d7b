// A sidecar process that is asked to go: it finishes what it has, tells everybody, and ends.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode, flag, frame, frameType, grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { canConnect } from '../scripts/harness/net.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream, type Upstream } from './support/upstream.ts';

const MAX_STREAM_ID = 2 ** 31 - 1;
const message = grpcFrame('message');

async function http(port: number, path: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  await response.arrayBuffer();
  return response.status;
}

const isReady = (sidecar: Sidecar): Promise<number> => http(sidecar.healthPort, '/healthz/ready');

/** An app whose calls wait, and a sidecar beside it. */
async function startBeside(
  t: Test,
  drain: Record<string, string>,
  more: Record<string, unknown> = {},
): Promise<{ app: Upstream; sidecar: Sidecar }> {
  const app = await startUpstream(t, { onCall: () => {} });
  return { app, sidecar: await startSidecar(t, { inbound: { app: app.address }, drain, ...more }) };
}

/** A caller that answers PINGs only when the test says so. */
async function connectHolding(t: Test, port: number): Promise<{ peer: H2Peer; answerPings(): void }> {
  const peer = await H2Peer.connect(t, port);
  const pings: Buffer[] = [];
  let holding = true;
  const answer = (payload: Buffer): void => void peer.send(frame(frameType.ping, flag.ack, 0, payload));
  peer.onFrame = ({ type, flags, payload }) => {
    if ((flags & flag.ack) !== 0) return;
    if (type === frameType.settings) peer.send(frame(frameType.settings, flag.ack, 0));
    if (type !== frameType.ping) return;
    if (holding) pings.push(Buffer.from(payload));
    else answer(payload);
  };
  await peer.until('it is welcome', () => peer.count(frameType.settings) > 0);
  return {
    peer,
    answerPings: () => {
      holding = false;
      pings.splice(0).forEach(answer);
    },
  };
}

const callTo = (app: Upstream, path: string): Promise<SeenCall> =>
  waitUntil(`${path} came`, () => app.calls.find(({ headers }) => headers[':path'] === path));

async function begin(peer: H2Peer, id: number): Promise<void> {
  await peer.headers(id, grpcRequest(`/call/${id}`));
  await peer.data(id, message, true);
}

t.test('a drain reports not ready, sends GOAWAY in two steps, and every call completes', async (t) => {
  const { app, sidecar } = await startBeside(t, { delay: '3s', timeout: '30s' });
  const { peer, answerPings } = await connectHolding(t, sidecar.inboundPort);
  await begin(peer, 1);
  await begin(peer, 3);
  const unary = await callTo(app, '/call/1');
  const { stream } = await callTo(app, '/call/3');
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.write(grpcFrame('one'));
  t.equal(await isReady(sidecar), 200);

  sidecar.kill('SIGTERM');
  await waitUntil('it was not ready', async () => (await isReady(sidecar)) === 503);
  t.equal(await http(sidecar.healthPort, '/healthz/live'), 200, 'but alive');
  t.equal(peer.goaway, undefined, 'no connection closes before the readiness has spread');
  await begin(peer, 5);
  const during = await callTo(app, '/call/5');

  await peer.until('GOAWAY came', () => peer.goaway !== undefined);
  t.strictSame(peer.goaway, { lastStreamId: MAX_STREAM_ID, code: errorCode.noError, debug: '' });
  await begin(peer, 7);
  const late = await callTo(app, '/call/7');
  t.pass('a call that was on its way is served');
  answerPings();
  await peer.until('the second came', () => peer.goaway?.lastStreamId !== MAX_STREAM_ID);
  t.strictSame(peer.goaway, { lastStreamId: 7, code: errorCode.noError, debug: '' });
  await begin(peer, 9);
  t.equal(await canConnect(sidecar.inboundPort), false, 'no new connections');

  for (const call of [unary, during, late]) answerWith(call.stream, 'ok');
  stream.end(grpcFrame('two'));
  await peer.until('all have ended', () => [1, 3, 5, 7].every((id) => peer.ended.has(id)));
  for (const id of [1, 3, 5, 7]) t.equal(peer.field(id, 'grpc-status'), '0', `call ${id}`);
  t.notOk(peer.heads.has(9), 'and the one that came too late is the caller’s to send again');
  t.equal(await sidecar.ended, 0);
  t.ok(peer.closed);
});

t.test('calls that do not end in time get UNAVAILABLE with a reason', async (t) => {
  const { app, sidecar } = await startBeside(t, { timeout: '300ms' });
  const client = new RawClient(t, sidecar.inboundPort);
  const unary = client.unary(Buffer.from('x'), { path: '/call/unary' });
  const stream = client.serverStream(Buffer.from('x'), { path: '/call/stream' });
  const read: string[] = [];
  stream.on('data', (bytes: Buffer) => read.push(String(bytes))).on('error', () => {});
  const streamEnd = new Promise<{ code: status; reason: unknown }>((resolve) =>
    stream.on('status', ({ code, metadata }) =>
      resolve({ code, reason: metadata.get('outrigger-reason')[0] }),
    ),
  );
  await callTo(app, '/call/unary');
  const call = await callTo(app, '/call/stream');
  call.stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
  call.stream.write(grpcFrame('one'));
  await waitUntil('the stream has begun', () => read.length === 1);
  sidecar.kill('SIGTERM');
  const { code, details, trailers } = await unary;
  t.equal(code, status.UNAVAILABLE);
  t.strictSame(trailers.get('outrigger-reason'), ['stream_cut'], 'the app has seen it');
  t.match(details, /shutting down/);
  t.strictSame(await streamEnd, { code: status.UNAVAILABLE, reason: 'stream_cut' });
  await waitUntil('the app heard', () =>
    app.calls.every(({ closedWith }) => closedWith === errorCode.cancel),
  );
  t.equal(await sidecar.ended, 0);
});

t.test('a second signal ends the process at once', async (t) => {
  for (const [first, second] of [
    ['SIGTERM', 'SIGTERM'],
    ['SIGINT', 'SIGTERM'],
  ] as const) {
    const { app, sidecar } = await startBeside(t, { timeout: '10m' });
    const client = new RawClient(t, sidecar.inboundPort);
    const unary = client.unary(Buffer.from('x'), { path: '/call/unary' });
    await callTo(app, '/call/unary');
    sidecar.kill(first);
    await waitUntil('it drains', async () => (await isReady(sidecar)) === 503);
    sidecar.kill(second);
    t.equal(await sidecar.ended, 0);
    t.equal((await unary).code, status.UNAVAILABLE, `${first}, ${second}`);
  }
});

t.test('a later signal does not shorten a drain that began over HTTP', async (t) => {
  const { app, sidecar } = await startBeside(t, { timeout: '10m' });
  const client = new RawClient(t, sidecar.inboundPort);
  const unary = client.unary(Buffer.from('x'), { path: '/call/unary' });
  const call = await callTo(app, '/call/unary');
  const asked = await fetch(`http://127.0.0.1:${sidecar.adminPort}/drain`, { method: 'POST' });
  t.equal(asked.status, 202);
  await waitUntil('it drains', async () => (await isReady(sidecar)) === 503);
  sidecar.kill('SIGTERM');
  await waitUntil('the signal came', () => sidecar.logs().includes('SIGTERM'));
  t.equal(call.closedWith, undefined);
  answerWith(call.stream, 'done');
  t.equal((await unary).code, status.OK);
  t.equal(await sidecar.ended, 0);
});

t.test('without calls the drain ends without waiting', async (t) => {
  const { sidecar } = await startBeside(t, { timeout: '10m' });
  const idle = (await H2Peer.connect(t, sidecar.inboundPort)).behave();
  const local = (await H2Peer.connect(t, sidecar.outboundPort)).behave();
  const silent = await H2Peer.connect(t, sidecar.inboundPort, Buffer.alloc(0));
  for (const peer of [idle, local])
    await peer.until('it is welcome', () => peer.count(frameType.settings) > 0);
  sidecar.kill('SIGINT');
  t.equal(await sidecar.ended, 0);
  for (const peer of [idle, local]) t.match(peer.goaway, { code: errorCode.noError });
  await waitUntil('all have ended', () => idle.closed && local.closed && silent.closed);
});

t.test('the app can call others while it serves calls', async (t) => {
  const other = await startUpstream(t, { name: 'other' });
  const { app, sidecar } = await startBeside(t, { timeout: '30s' }, oneCluster([other.address]));
  const outside = new RawClient(t, sidecar.inboundPort);
  const appsOwn = new RawClient(t, sidecar.outboundPort);
  const outer = outside.unary(Buffer.from('x'), { path: '/call/outer' });
  const call = await callTo(app, '/call/outer');
  sidecar.kill('SIGTERM');
  await waitUntil('inbound takes no more', async () => !(await canConnect(sidecar.inboundPort)));
  for (let step = 0; step < 3; step++) {
    const { code, response } = await appsOwn.unary(Buffer.from('x'));
    t.equal(code, status.OK);
    t.equal(String(response), 'other');
  }
  const last = appsOwn.unary(Buffer.from('x'));
  answerWith(call.stream, 'done');
  t.equal((await outer).code, status.OK);
  t.equal((await last).code, status.OK, 'also the call that outlives the one it was made for');
  t.equal(await sidecar.ended, 0);
});

t.test('a call between the two GOAWAYs has the whole time to end', async (t) => {
  const { app, sidecar } = await startBeside(t, { timeout: '30s' });
  const { peer, answerPings } = await connectHolding(t, sidecar.inboundPort);
  sidecar.kill('SIGTERM');
  await peer.until('GOAWAY came', () => peer.goaway !== undefined);
  await begin(peer, 1);
  const call = await callTo(app, '/call/1');
  answerPings();
  // Longer than anything the sidecar waits for besides calls.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  t.equal(call.closedWith, undefined, 'it still runs');
  answerWith(call.stream, 'ok');
  await peer.until('it was answered', () => peer.ended.has(1));
  t.equal(peer.field(1, 'grpc-status'), '0');
  t.equal(await sidecar.ended, 0);
});

t.test('a slowly read answer is read to its end', async (t) => {
  const { app, sidecar } = await startBeside(t, { timeout: '30s' });
  const peer = (await H2Peer.connect(t, sidecar.inboundPort)).behave({ reads: false });
  await begin(peer, 1);
  answerWith((await callTo(app, '/call/1')).stream, Buffer.alloc(200_000));
  await peer.until('its window is full', () => peer.dataBytes === 65_535);
  sidecar.kill('SIGTERM');
  await peer.until('GOAWAY came', () => peer.goaway !== undefined);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  await peer.windowUpdate(0, 1_000_000);
  await peer.windowUpdate(1, 1_000_000);
  await peer.until('it ended', () => peer.ended.has(1));
  t.equal(peer.dataBytes, 200_005);
  t.equal(peer.field(1, 'grpc-status'), '0');
  t.equal(await sidecar.ended, 0);
});

t.test('a health watcher is notified, and does not delay the end', async (t) => {
  const { sidecar } = await startBeside(t, { timeout: '10m' });
  const client = new RawClient(t, sidecar.inboundPort);
  const watch = client.serverStream(Buffer.alloc(0), { path: '/grpc.health.v1.Health/Watch' });
  const seen: number[] = [];
  watch.on('data', (bytes: Buffer) => seen.push(bytes[1]!)).on('error', () => {});
  const end = new Promise<status>((resolve) => watch.on('status', ({ code }) => resolve(code)));
  await waitUntil('it serves', () => seen.length === 1);
  sidecar.kill('SIGTERM');
  t.equal(await end, status.UNAVAILABLE);
  t.strictSame(seen, [1, 2], 'SERVING, NOT_SERVING');
  t.equal(await sidecar.ended, 0);
});

t.test('no call is lost when one of two replicas drains', async (t) => {
  const app = await startUpstream(t, {
    onCall: ({ stream }) => void setTimeout(() => answerWith(stream, 'ok'), 3),
  });
  const replicas = await Promise.all(
    [0, 1].map(() => startSidecar(t, { inbound: { app: app.address }, drain: { timeout: '10s' } })),
  );
  const plane = await startDataPlane(
    t,
    oneCluster(replicas.map(({ inboundPort }) => `127.0.0.1:${inboundPort}`)),
  );
  const client = new RawClient(t, plane.outboundPort);
  let going = true;
  let calls = 0;
  const failed: string[] = [];
  const worker = async (): Promise<void> => {
    while (going) {
      const { code, details } = await client.unary(Buffer.from('x'), { path: rawPaths.unary });
      calls++;
      if (code !== status.OK) failed.push(`${code} ${details}`);
    }
  };
  const workers = Array.from({ length: 10 }, worker);
  await waitUntil('calls flow', () => calls > 50);
  replicas[0]!.kill('SIGTERM');
  t.equal(await replicas[0]!.ended, 0);
  const before = calls;
  await waitUntil('they flow on', () => calls > before + 50);
  going = false;
  await Promise.all(workers);
  t.strictSame(failed, []);
});

t.test('a connection at its maximum age is closed by GOAWAY, without a lost call', async (t) => {
  const app = await startUpstream(t, { onCall: () => {} });
  const plane = await startDataPlane(t, {
    inbound: { app: app.address, keepalive: { max_connection_age: '150ms' } },
  });
  const { peer, answerPings } = await connectHolding(t, plane.inboundPort);
  await begin(peer, 1);
  const call = await callTo(app, '/call/1');
  await peer.until('GOAWAY came', () => peer.goaway !== undefined);
  t.equal(peer.goaway!.lastStreamId, MAX_STREAM_ID);
  answerPings();
  await peer.until('the second came', () => peer.goaway!.lastStreamId === 1);
  answerWith(call.stream, 'ok');
  await peer.until('the connection was closed', () => peer.closed);
  t.equal(peer.field(1, 'grpc-status'), '0', 'behind its last answer');
  t.equal(await canConnect(plane.inboundPort), true, 'others are welcome');
});
