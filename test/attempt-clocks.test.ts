// The clocks of an attempt: per try, to the first message, and between messages.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { Cluster } from '../sidecar/cluster/cluster.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { ok, type Replica, silence, startReplica } from './support/answers.ts';
import { grpcFrame } from './support/upstream.ts';

const request = Buffer.from('request');

/** Time passes as the test says. */
async function startScene(t: Test, replicas: readonly Replica[], settings: Record<string, unknown>) {
  const addresses = replicas.map(({ address }) => address);
  const clock = new TestClock();
  const plane: DataPlane = await startDataPlane(
    t,
    oneCluster(addresses, { balancer: 'round_robin', timeout: '30s', ...settings }),
    {},
    clock,
  );
  const cluster: Cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  const client = new RawClient(t, plane.outboundPort, { 'grpc.enable_retries': 0 });
  const callsOf = () => replicas.reduce((sum, { calls }) => sum + calls.length, 0);
  const begun = (count: number) => waitUntil('a replica has the call', () => callsOf() === count);
  return { plane, cluster, client, clock, begun };
}

/** A connection with one call whose every frame the test sees. */
async function openCall(t: Test, { outboundPort }: DataPlane, path: string, reads = true): Promise<H2Peer> {
  const peer = (await H2Peer.connect(t, outboundPort)).behave({ reads });
  await peer.headers(1, grpcRequest(path));
  return peer;
}

const grpcHead = { ':status': 200, 'content-type': 'application/grpc' } as const;

const retry = { max_attempts: 3, idempotent_methods: [rawPaths.unary], budget: { min_concurrent: 100 } };

for (const [name, settings, reason, told] of [
  ['per_try_timeout', { retry: { ...retry, per_try_timeout: '100ms' } }, 'deadline', 'retry.per_try_timeout'],
  ['first_chunk_timeout', { retry, first_chunk_timeout: '100ms' }, 'first_chunk', 'first_chunk_timeout'],
] as const) {
  t.test(`${name}: the sidecar leaves a silent replica, and another one answers`, async (t) => {
    const replicas = [await startReplica(t, silence), await startReplica(t, ok)];
    const { client, cluster, plane, clock } = await startScene(t, replicas, settings);
    const [silent] = replicas;
    const ask = async (): Promise<status> => {
      const before = silent!.calls.length;
      let answered = false;
      const asked = client.unary(request).finally(() => {
        answered = true;
      });
      const met = () => silent!.calls.length > before;
      await waitUntil('it was answered or met silence', () => answered || met());
      if (met()) {
        clock.advance(110);
        // The back-off in front of the next attempt.
        clock.advance(50);
      }
      return (await asked).code;
    };
    for (let i = 0; i < 4; i++) t.equal(await ask(), status.OK);
    t.ok(silent!.calls.length > 0);
    // The other one may be slower than the clock, too, on a busy machine.
    const attempts = replicas.reduce((sum, { calls }) => sum + calls.length, 0);
    t.equal(cluster.retries.get('retried'), attempts - 4);
    await waitUntil('its calls have ended', () => silent!.calls.every(({ closedWith }) => closedWith === 8));
    const timers = plane.sidecar.wheel.size;
    t.equal(await ask(), status.OK);
    await waitUntil('no clock is left', () => plane.sidecar.wheel.size <= timers);
  });

  t.test(`${name}: a call that may not run twice ends with the reason`, async (t) => {
    const replicas = [await startReplica(t, silence), await startReplica(t, silence)];
    const { client, clock, begun } = await startScene(t, replicas, settings);
    const asked = client.unary(request, { path: PROCESS_TASK_PATH });
    await begun(1);
    clock.advance(110);
    const outcome = await asked;
    t.equal(outcome.code, status.DEADLINE_EXCEEDED);
    t.same(outcome.trailers.get('outrigger-reason'), [reason]);
    t.match(outcome.details, told);
    t.equal(replicas[0]!.calls.length + replicas[1]!.calls.length, 1);
  });

  t.test(`${name}: a head is not a message, and the timeout ends with the first message`, async (t) => {
    const replica = await startReplica(t, silence);
    const { plane, clock } = await startScene(t, [replica], settings);
    for (const message of ['none', 'first']) {
      const peer = await openCall(t, plane, rawPaths.unary);
      await peer.data(1, grpcFrame(request), true);
      const count = message === 'none' ? 1 : 2;
      const { stream } = await waitUntil('the replica has it', () => replica.calls[count - 1]);
      stream.respond(grpcHead, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      await peer.until('the head is there', () => peer.heads.has(1));
      if (message === 'none') {
        clock.advance(110);
        await peer.until('it ended', () => peer.ended.has(1));
        t.equal(peer.field(1, 'grpc-status'), String(status.DEADLINE_EXCEEDED));
        t.equal(peer.field(1, 'outrigger-reason'), reason);
      } else {
        stream.write(grpcFrame(message));
        await peer.until('the message is there', () => peer.dataBytes > 0);
        clock.advance(1_000);
        await peer.roundTrip();
        t.notOk(peer.ended.has(1), 'it continues');
        stream.end();
        await peer.until('it ended', () => peer.ended.has(1));
        t.equal(peer.field(1, 'grpc-status'), '0');
      }
    }
  });
}

t.test('idle_timeout: an active stream continues, and a silent one ends', async (t) => {
  const replica = await startReplica(t, silence);
  const { client, clock, begun } = await startScene(t, [replica], { idle_timeout: '300ms' });
  const stream = client.serverStream(request);
  let messages = 0;
  stream.on('data', () => {
    messages++;
  });
  stream.on('error', () => {});
  const end = new Promise<{ code: number; details: string; reason: unknown }>((resolve) => {
    stream.on('status', ({ code, details, metadata }) =>
      resolve({ code, details, reason: metadata.get('outrigger-reason') }),
    );
  });
  await begun(1);
  const call = replica.calls[0]!;
  call.stream.respond(grpcHead);
  for (let count = 1; count <= 6; count++) {
    call.stream.write(grpcFrame('tick'));
    await waitUntil('the message is there', () => messages === count);
    if (count < 6) clock.advance(250);
  }
  t.equal(call.closedWith, undefined);
  clock.advance(310);
  const { code, details, reason } = await end;
  t.equal(messages, 6);
  t.equal(code, status.DEADLINE_EXCEEDED);
  t.same(reason, ['idle']);
  t.match(details, /sent nothing more \(idle_timeout\)/);
  await waitUntil('the replica knows', () => call.closedWith === 8);
});

t.test('idle_timeout: a slow reader is not mistaken for a silent replica', async (t) => {
  const total = 400_000;
  const replica = await startReplica(t, (stream) => {
    stream.respond(grpcHead, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.concat(Array.from({ length: 40 }, () => grpcFrame(Buffer.alloc(total / 40 - 5)))));
  });
  const { plane, clock } = await startScene(t, [replica], { idle_timeout: '200ms' });
  const peer = await openCall(t, plane, rawPaths.serverStream, false);
  await peer.data(1, grpcFrame(request), true);
  await peer.until('its window is full', () => peer.dataBytes === 65_535);
  // Longer than the idle timeout, with nothing moving.
  for (let step = 0; step < 3; step++) clock.advance(210);
  await peer.roundTrip();
  t.notOk(peer.ended.has(1) || peer.resets.has(1), 'it continues');
  await peer.windowUpdate(0, total);
  await peer.windowUpdate(1, total);
  await peer.until('all of it is there', () => peer.ended.has(1));
  t.equal(peer.field(1, 'grpc-status'), '0');
  t.equal(peer.dataBytes, total);
});

t.test('idle_timeout: a sending caller keeps the stream, and a silent pair ends', async (t) => {
  const replica = await startReplica(t, silence);
  const { plane, clock } = await startScene(t, [replica], { idle_timeout: '300ms' });
  const peer = await openCall(t, plane, rawPaths.bidi);
  await peer.data(1, grpcFrame('hello'));
  const call = await waitUntil('it is there', () => replica.calls[0]);
  call.stream.respond(grpcHead);
  call.stream.write(grpcFrame('hello'));
  await peer.until('the answer has begun', () => peer.dataBytes > 0);
  for (let i = 0; i < 8; i++) {
    clock.advance(250);
    const before = call.body.length;
    await peer.data(1, grpcFrame('more'));
    await waitUntil('the replica heard it', () => call.body.length > before);
  }
  await peer.roundTrip();
  t.notOk(peer.ended.has(1), 'it listens');
  clock.advance(310);
  await peer.until('both are silent', () => peer.ended.has(1));
  t.equal(peer.field(1, 'outrigger-reason'), 'idle');
});
