// Connections to endpoints, seen through whole calls: limits, peers that allow few streams, leave or die.
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import {
  errorCode,
  flag,
  frameType,
  grpcMessage,
  type H2Peer,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient, startRawServer, type UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { ConnectionPool } from '../sidecar/cluster/connection/pool.ts';
import { answerWith, type SeenCall, startUpstream } from './support/upstream.ts';

const poolOf = (plane: DataPlane): ConnectionPool =>
  plane.sidecar.outbound.clusters.clusters.get('upstream')!.endpoints[0]!.pool;

/** An upstream whose calls wait for `answerAll`. */
async function startWaiting(
  t: Test,
): Promise<{ address: string; calls: readonly SeenCall[]; answerAll(): void }> {
  const upstream = await startUpstream(t, { onCall: () => {} });
  return {
    ...upstream,
    answerAll: () => {
      for (const { stream } of upstream.calls) if (!stream.headersSent) answerWith(stream, 'ok');
    },
  };
}

function expectOverloaded(t: Test, outcome: UnaryOutcome, what: RegExp): void {
  t.equal(outcome.code, status.RESOURCE_EXHAUSTED);
  t.strictSame(outcome.trailers.get('outrigger-reason'), ['overloaded']);
  t.match(String(outcome.trailers.get('grpc-retry-pushback-ms')[0]), /^\d+$/, 'says when to come again');
  t.match(outcome.details, what, 'names the limit');
}

t.test('a peer with few streams gets more connections, and every call its turn', async (t) => {
  const running: (() => void)[] = [];
  let most = 0;
  let answers = false;
  const server = await startRawServer(
    t,
    {
      unary: (call, callback) => {
        running.push(() => callback(null, call.request));
        most = Math.max(most, running.length);
        if (answers) setImmediate(() => running.shift()!());
      },
    },
    { 'grpc.max_concurrent_streams': 3 },
  );
  const plane = await startDataPlane(t, oneCluster([server.address], { limits: { max_connections: 4 } }));
  const client = new RawClient(t, plane.outboundPort);
  const calls = Array.from({ length: 200 }, (_, i) => client.unary(Buffer.from(`${i}`)));
  await waitUntil('as many run as may', () => running.length === 12);
  answers = true;
  for (const answer of running.splice(0)) answer();
  const outcomes = await Promise.all(calls);
  t.ok(outcomes.every(({ code, response }, i) => code === status.OK && String(response) === `${i}`));
  t.equal(poolOf(plane).connectionCount, 4);
  t.equal(most, 12, 'three on each of four connections');
});

const MAX_CONCURRENT_STREAMS = 3;

/** A server by hand: what it allows is told with `allow`, and `hold` keeps its answers back. */
async function startLimited(t: Test, first: number) {
  let allowed = first;
  const limited = {
    address: '',
    streams: 0,
    refused: 0,
    answered: 0,
    hold: false,
    peers: [] as readonly H2Peer[],
    /** Says so on all connections, and on those that come. */
    allow: (count: number): void => {
      allowed = count;
      for (const peer of limited.peers) void peer.send(settings([MAX_CONCURRENT_STREAMS, count]));
    },
    /** Called for each stream that is begun. */
    onStream: (_peer: H2Peer, _streamId: number): boolean => true,
    answer: (peer: H2Peer, streamId: number): void => {
      limited.answered++;
      void peer.headers(streamId, [
        [':status', '200'],
        ['content-type', 'application/grpc'],
      ]);
      void peer.data(streamId, grpcMessage(Buffer.from('hi')));
      void peer.headers(streamId, [['grpc-status', '0']], true);
    },
  };
  const server = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      const { type, flags, streamId } = received;
      if (type === frameType.headers) {
        limited.streams++;
        if (!limited.onStream(peer, streamId)) return;
      }
      if (streamId > 0 && (flags & flag.endStream) !== 0 && !peer.resets.has(streamId) && !limited.hold)
        limited.answer(peer, streamId);
    };
    void peer.send(settings([MAX_CONCURRENT_STREAMS, allowed]));
  });
  limited.address = server.address;
  limited.peers = server.peers;
  return limited;
}

const callAll = (client: RawClient, count: number): Promise<UnaryOutcome[]> =>
  Promise.all(Array.from({ length: count }, () => client.unary(Buffer.from('x'))));

const codesOf = (outcomes: readonly UnaryOutcome[]): string =>
  [...new Set(outcomes.map(({ code, details }) => `${code} ${details}`.trim()))].sort().join('; ');

t.test('an endpoint that allows no streams gets no calls while another one does', async (t) => {
  for (const balancer of ['round_robin', 'peak_ewma', 'ring_hash']) {
    const shut = await startLimited(t, 0);
    const open = await startLimited(t, 100);
    const plane = await startDataPlane(
      t,
      oneCluster([shut.address, open.address], { balancer, connect_timeout: '60s', timeout: '60s' }),
    );
    const client = new RawClient(t, plane.outboundPort);
    t.equal(codesOf(await callAll(client, 30)), '0', balancer);
    t.equal(open.answered, 30);
    t.equal(shut.streams, 0);
    // One that has just begun to allow some is used again.
    shut.allow(10);
    await waitUntil('the first one gets calls', async () => {
      await callAll(client, 4);
      return balancer === 'ring_hash' || shut.answered > 0;
    });
  }
});

t.test(
  'a lone endpoint without streams is waited for like a starting one, and then the error says why',
  async (t) => {
    const shut = await startLimited(t, 0);
    const clock = new TestClock();
    const settings = { connect_timeout: '2s' };
    const plane = await startDataPlane(t, oneCluster([shut.address], settings), {}, clock);
    const client = new RawClient(t, plane.outboundPort);
    const calls = callAll(client, 5);
    await waitUntil('they wait', () => poolOf(plane).pendingCount === 5);
    shut.allow(1);
    t.equal(codesOf(await calls), '0');
    shut.allow(0);
    await waitUntil('it allows none any more', () => poolOf(plane).shut);
    const late = callAll(client, 1);
    await waitUntil('it waits', () => poolOf(plane).pendingCount === 1);
    clock.advance(2_010);
    const [refused] = await late;
    t.equal(refused!.code, status.UNAVAILABLE);
    t.strictSame(refused!.trailers.get('outrigger-reason'), ['connect_failed']);
    t.match(refused!.details, /it takes no calls: its SETTINGS_MAX_CONCURRENT_STREAMS is 0/);
    shut.allow(5);
    await waitUntil('it is used again', async () => {
      clock.advance(100);
      return (await callAll(client, 1))[0]!.code === status.OK;
    });
  },
);

t.test('calls that wait for a stream move when their endpoint lowers its limit', async (t) => {
  const lowered = await startLimited(t, 1);
  const open = await startLimited(t, 100);
  lowered.hold = true;
  const limits = { max_connections: 1 };
  const first = oneCluster([lowered.address], { limits, balancer: 'round_robin', timeout: '60s' });
  const plane = await startDataPlane(t, first);
  const client = new RawClient(t, plane.outboundPort);
  const calls = callAll(client, 6);
  await waitUntil('five wait', () => poolOf(plane).pendingCount === 5);
  // Another endpoint comes.
  await plane.apply(
    oneCluster([lowered.address, open.address], { limits, balancer: 'round_robin', timeout: '60s' }),
  );
  lowered.allow(0);
  await waitUntil('they have gone there', () => open.answered === 5);
  const [peer] = lowered.peers;
  lowered.answer(peer!, 1);
  t.equal(codesOf(await calls), '0', 'and the one that ran has gone on');
});

t.test('a lowered limit loses no calls in flight', async (t) => {
  // As a server does that finds itself with too much to do: each connection begins with 100, and is told 2 when
  // that many run; what was on its way is refused.
  const limited = await startLimited(t, 100);
  const open = new Map<H2Peer, Set<number>>();
  limited.hold = true;
  limited.onStream = (peer, streamId) => {
    const running = open.get(peer) ?? new Set();
    open.set(peer, running);
    if (running.size >= 2) {
      if (running.size === 2 && !peer.resets.has(0)) void peer.send(settings([MAX_CONCURRENT_STREAMS, 2]));
      limited.refused++;
      void peer.reset(streamId, errorCode.refusedStream);
      return false;
    }
    running.add(streamId);
    setTimeout(() => {
      running.delete(streamId);
      limited.answer(peer, streamId);
    }, 5);
    return true;
  };
  const plane = await startDataPlane(t, oneCluster([limited.address], { timeout: '60s' }));
  const client = new RawClient(t, plane.outboundPort);
  t.equal(codesOf(await callAll(client, 200)), '0');
  t.equal(limited.answered, 200);
  t.ok(limited.refused > 0, `${limited.refused} were refused on the way`);
});

t.test('calls that would wait beyond max_pending_calls are refused', async (t) => {
  const running: (() => void)[] = [];
  const server = await startRawServer(
    t,
    { unary: (call, callback) => running.push(() => callback(null, call.request)) },
    { 'grpc.max_concurrent_streams': 2 },
  );
  const limits = { max_connections: 1, max_pending_calls: 3 };
  const plane = await startDataPlane(t, oneCluster([server.address], { limits }));
  const client = new RawClient(t, plane.outboundPort);
  const first = client.unary(Buffer.from('x'));
  await waitUntil('a connection is there', () => running.length === 1);
  const others = Array.from({ length: 4 }, () => client.unary(Buffer.from('x')));
  await waitUntil(
    'two have streams, three wait',
    () => running.length === 2 && poolOf(plane).pendingCount === 3,
  );
  for (let call = 0; call < 3; call++) {
    expectOverloaded(t, await client.unary(Buffer.from('x')), /3 calls already wait.*max_pending_calls/);
  }
  const answering = setInterval(() => running.shift()?.(), 5);
  t.teardown(() => clearInterval(answering));
  for (const { code } of await Promise.all([first, ...others])) t.equal(code, status.OK);
  t.equal(poolOf(plane).pendingCount, 0);
});

t.test('calls beyond max_concurrent_calls of a cluster are refused', async (t) => {
  const upstream = await startWaiting(t);
  const plane = await startDataPlane(
    t,
    oneCluster([upstream.address], { limits: { max_concurrent_calls: 3 } }),
  );
  const client = new RawClient(t, plane.outboundPort);
  const inFlight = Array.from({ length: 3 }, () => client.unary(Buffer.from('x')));
  await waitUntil('three are there', () => upstream.calls.length === 3);
  expectOverloaded(
    t,
    await client.unary(Buffer.from('x')),
    /upstream has 3 calls in flight.*max_concurrent_calls/,
  );
  t.equal(upstream.calls.length, 3);
  upstream.answerAll();
  for (const { code } of await Promise.all(inFlight)) t.equal(code, status.OK);
  const next = client.unary(Buffer.from('x'));
  await waitUntil('there is room again', () => upstream.calls.length === 4);
  upstream.answerAll();
  t.equal((await next).code, status.OK);
});

t.test('calls beyond max_concurrent_calls of the agent are refused, and health checks are not', async (t) => {
  const upstream = await startWaiting(t);
  const plane = await startDataPlane(t, { inbound: { app: upstream.address, max_concurrent_calls: 2 } });
  const client = new RawClient(t, plane.inboundPort);
  const inFlight = Array.from({ length: 2 }, () => client.unary(Buffer.from('x')));
  await waitUntil('two are there', () => upstream.calls.length === 2);
  expectOverloaded(t, await client.unary(Buffer.from('x')), /2 calls are in flight/);
  const health = await client.unary(Buffer.alloc(0), { path: '/grpc.health.v1.Health/Check' });
  t.equal(health.code, status.OK);
  upstream.answerAll();
  for (const { code } of await Promise.all(inFlight)) t.equal(code, status.OK);
  const again = Array.from({ length: 2 }, () => client.unary(Buffer.from('x')));
  await waitUntil('there is room again', () => upstream.calls.length === 4);
  upstream.answerAll();
  for (const { code } of await Promise.all(again)) t.equal(code, status.OK);
});

t.test('aged connections are replaced without a lost call', async (t) => {
  let connections = 0;
  const server = await startRawServer(
    t,
    { unary: (call, callback) => setTimeout(() => callback(null, call.request), 10) },
    { 'grpc.max_connection_age_ms': 150, 'grpc.max_connection_age_grace_ms': 5_000 },
  );
  const plane = await startDataPlane(t, oneCluster([server.address]));
  const client = new RawClient(t, plane.outboundPort);
  let seen: unknown;
  let calls = 0;
  const failed: UnaryOutcome[] = [];
  const worker = async (): Promise<void> => {
    while (connections < 4) {
      const outcome = await client.unary(Buffer.from(`${++calls}`));
      if (outcome.code !== status.OK) failed.push(outcome);
      const [connection] = poolOf(plane).connections;
      if (connection === undefined || connection === seen) continue;
      seen = connection;
      connections++;
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  t.strictSame(
    failed.map(({ code, details }) => `${code} ${details}`),
    [],
  );
  t.ok(calls > 30, `${calls} calls over ${connections} connections`);
});

t.test('keepalive ends the calls of a hanging peer long before their deadline', async (t) => {
  const port = await freePort();
  const script = join(import.meta.dirname, 'support', 'agent-process.ts');
  const agent = startProcess(t, process.execPath, [script, `${port}`]);
  await waitUntil('the agent listened', () => agent.logs().includes('listening'));
  const plane = await startDataPlane(
    t,
    oneCluster([`127.0.0.1:${port}`], { timeout: '1h', keepalive: { time: '300ms', timeout: '1s' } }),
  );
  const client = new RawClient(t, plane.outboundPort);
  t.equal((await client.unary(Buffer.from('x'))).code, status.OK);
  agent.kill('SIGSTOP');
  const outcome = await client.unary(Buffer.from('x'));
  t.equal(outcome.code, status.UNAVAILABLE);
  t.strictSame(outcome.trailers.get('outrigger-reason'), ['stream_cut']);
  t.match(outcome.details, /keepalive PING/);
});

t.test('an agent on a Unix socket is served like one on TCP', async (t) => {
  const { mkdtempSync, rmSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  const { createServer } = await import('node:http2');
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'agent.sock');
  const server = createServer();
  server.on('stream', (stream) => {
    stream.resume();
    stream.on('end', () => answerWith(stream, 'from a socket'));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const plane = await startDataPlane(t, { inbound: { app: `unix:${path}` } });
  const { code, response } = await new RawClient(t, plane.inboundPort).unary(Buffer.from('x'));
  t.equal(code, status.OK);
  t.equal(String(response), 'from a socket');
  plane.sidecar.close();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});
