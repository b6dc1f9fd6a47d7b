// Connections to endpoints, seen through whole calls: limits, peers that allow few streams, leave or die.
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { ConnectionPool } from '../sidecar/cluster/connection-pool.ts';
import { type DataPlane, oneCluster, startDataPlane } from './support/data-plane.ts';
import { freePort } from './support/free-port.ts';
import { startProcess } from './support/process.ts';
import { RawClient, startRawServer, type UnaryOutcome } from './support/raw-grpc.ts';
import { answerWith, type SeenCall, startUpstream } from './support/upstream.ts';
import { waitUntil } from './support/wait-until.ts';

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

t.test('a peer that allows few streams gets more connections, and every call its turn', async (t) => {
  let active = 0;
  let most = 0;
  const server = await startRawServer(
    t,
    {
      unary: (call, callback) => {
        most = Math.max(most, ++active);
        setTimeout(() => {
          active--;
          callback(null, call.request);
        }, 30);
      },
    },
    { 'grpc.max_concurrent_streams': 3 },
  );
  const plane = await startDataPlane(t, oneCluster([server.address], { limits: { max_connections: 4 } }));
  const client = new RawClient(t, plane.outboundPort);
  const outcomes = await Promise.all(
    Array.from({ length: 200 }, (_, i) => client.unary(Buffer.from(`${i}`))),
  );
  t.ok(outcomes.every(({ code, response }, i) => code === status.OK && String(response) === `${i}`));
  t.equal(poolOf(plane).connectionCount, 4);
  t.equal(most, 12, 'three on each of four connections');
});

t.test('calls that would wait beyond max_pending_calls are turned away', async (t) => {
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

t.test('calls beyond max_concurrent_calls of a cluster are turned away', async (t) => {
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

t.test('calls beyond max_concurrent_calls of the agent are turned away, health is not', async (t) => {
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

t.test('connections that age and leave are replaced without a lost call', async (t) => {
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

t.test('keepalive ends the calls of a peer that hangs, long before their deadline', async (t) => {
  const port = await freePort();
  const script = join(import.meta.dirname, 'support', 'agent-process.ts');
  const agent = startProcess(t, process.execPath, [script, `${port}`]);
  await waitUntil('the agent listened', () => agent.logs().includes('listening'));
  const plane = await startDataPlane(
    t,
    oneCluster([`127.0.0.1:${port}`], { timeout: '1h', keepalive: { time: '300ms', timeout: '300ms' } }),
  );
  const client = new RawClient(t, plane.outboundPort);
  t.equal((await client.unary(Buffer.from('x'))).code, status.OK);
  agent.kill('SIGSTOP');
  const outcome = await client.unary(Buffer.from('x'));
  t.equal(outcome.code, status.UNAVAILABLE);
  t.strictSame(outcome.trailers.get('outrigger-reason'), ['stream_cut']);
  t.match(outcome.details, /keepalive PING/);
});

t.test('an agent on a unix socket is served as one on TCP', async (t) => {
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
