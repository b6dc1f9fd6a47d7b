// The clocks of an attempt: per try, to the first message, and between messages.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { Cluster } from '../sidecar/cluster/cluster.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { type Answer, ok, type Replica, silence, startReplica } from './support/answers.ts';
import { type DataPlane, oneCluster, startDataPlane } from './support/data-plane.ts';
import { grpcRequest, H2Peer } from './support/h2-peer.ts';
import { RawClient, rawPaths } from './support/raw-grpc.ts';
import { grpcFrame } from './support/upstream.ts';
import { waitUntil } from './support/wait-until.ts';

const request = Buffer.from('request');

async function startScene(t: Test, replicas: readonly Replica[], settings: Record<string, unknown>) {
  const addresses = replicas.map(({ address }) => address);
  const plane: DataPlane = await startDataPlane(
    t,
    oneCluster(addresses, { balancer: 'round_robin', timeout: '30s', ...settings }),
  );
  const cluster: Cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  const client = new RawClient(t, plane.outboundPort, { 'grpc.enable_retries': 0 });
  return { plane, cluster, client };
}

const retry = { max_attempts: 3, idempotent_methods: [rawPaths.unary], budget: { min_concurrent: 100 } };

for (const [name, settings, reason, told] of [
  ['per_try_timeout', { retry: { ...retry, per_try_timeout: '100ms' } }, 'deadline', 'retry.per_try_timeout'],
  ['first_chunk_timeout', { retry, first_chunk_timeout: '100ms' }, 'first_chunk', 'first_chunk_timeout'],
] as const) {
  t.test(`${name}: a silent replica is left, and another one answers`, async (t) => {
    const replicas = [await startReplica(t, silence), await startReplica(t, ok)];
    const { client, cluster, plane } = await startScene(t, replicas, settings);
    for (let i = 0; i < 4; i++) t.equal((await client.unary(request)).code, status.OK);
    const [silent] = replicas;
    t.ok(silent!.calls.length > 0);
    t.equal(cluster.retries.get('retried'), silent!.calls.length);
    await waitUntil('its calls have ended', () => silent!.calls.every(({ closedWith }) => closedWith === 8));
    const timers = plane.sidecar.wheel.size;
    t.equal((await client.unary(request)).code, status.OK);
    await waitUntil('no clock is left', () => plane.sidecar.wheel.size <= timers);
  });

  t.test(`${name}: what may not run twice ends with its reason`, async (t) => {
    const replicas = [await startReplica(t, silence), await startReplica(t, silence)];
    const { client } = await startScene(t, replicas, settings);
    const outcome = await client.unary(request, { path: PROCESS_TASK_PATH });
    t.equal(outcome.code, status.DEADLINE_EXCEEDED);
    t.same(outcome.trailers.get('outrigger-reason'), [reason]);
    t.match(outcome.details, told);
    t.equal(replicas[0]!.calls.length + replicas[1]!.calls.length, 1);
  });

  t.test(`${name}: a head is no message, and behind the first one it is over`, async (t) => {
    let answer: Answer = (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    };
    const replica = await startReplica(t, (stream, call) => answer(stream, call));
    const { client } = await startScene(t, [replica], settings);
    const outcome = await client.unary(request);
    t.equal(outcome.code, status.DEADLINE_EXCEEDED);
    t.same(outcome.trailers.get('outrigger-reason'), [reason]);
    answer = (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.write(grpcFrame('first'));
      setTimeout(() => stream.end(), 300);
    };
    t.equal((await client.unary(request)).code, status.OK);
  });
}

/** Sends a message every so often, `count` times, and then nothing more. */
const ticking =
  (everyMs: number, count: number): Answer =>
  (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    let sent = 0;
    const timer = setInterval(() => {
      stream.write(grpcFrame('tick'));
      if (++sent === count) clearInterval(timer);
    }, everyMs);
    stream.on('close', () => clearInterval(timer));
  };

t.test('idle_timeout: a stream that goes on is left alone, one that stops is ended', async (t) => {
  const replica = await startReplica(t, ticking(100, 6));
  const { client } = await startScene(t, [replica], { idle_timeout: '300ms' });
  const stream = client.serverStream(request);
  let messages = 0;
  stream.on('data', () => {
    messages++;
  });
  stream.on('error', () => {});
  const end = await new Promise<{ code: number; details: string; reason: unknown }>((resolve) => {
    stream.on('status', ({ code, details, metadata }) =>
      resolve({ code, details, reason: metadata.get('outrigger-reason') }),
    );
  });
  t.equal(messages, 6);
  t.equal(end.code, status.DEADLINE_EXCEEDED);
  t.same(end.reason, ['idle']);
  t.match(end.details, /sent nothing more \(idle_timeout\)/);
  await waitUntil('the replica knows', () => replica.calls[0]!.closedWith === 8);
});

t.test('idle_timeout: a reader that takes its time is not taken for a silent replica', async (t) => {
  const total = 400_000;
  const replica = await startReplica(t, (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.concat(Array.from({ length: 40 }, () => grpcFrame(Buffer.alloc(total / 40 - 5)))));
  });
  const { plane } = await startScene(t, [replica], { idle_timeout: '200ms' });
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave({ reads: false });
  await peer.headers(1, grpcRequest(rawPaths.serverStream));
  await peer.data(1, grpcFrame(request), true);
  await peer.until('its window is full', () => peer.dataBytes === 65_535);
  // Longer than the idle timeout, with nothing moving.
  await new Promise((resolve) => setTimeout(resolve, 600));
  t.notOk(peer.ended.has(1), 'it goes on');
  await peer.windowUpdate(0, total);
  await peer.windowUpdate(1, total);
  await peer.until('all of it is there', () => peer.ended.has(1));
  t.equal(peer.field(1, 'grpc-status'), '0');
  t.equal(peer.dataBytes, total);
});

t.test('idle_timeout: a caller that talks keeps the stream, and a quiet pair is ended', async (t) => {
  const replica = await startReplica(t, silence);
  const { plane } = await startScene(t, [replica], { idle_timeout: '300ms' });
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  await peer.headers(1, grpcRequest(rawPaths.bidi));
  await peer.data(1, grpcFrame('hello'));
  const call = await waitUntil('it is there', () => replica.calls[0]);
  call.stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
  call.stream.write(grpcFrame('hello'));
  await peer.until('the answer has begun', () => peer.dataBytes > 0);
  for (let i = 0; i < 8; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    await peer.data(1, grpcFrame('more'));
  }
  t.notOk(peer.ended.has(1), 'it listens');
  await peer.until('both are silent', () => peer.ended.has(1));
  t.equal(peer.field(1, 'outrigger-reason'), 'idle');
});
