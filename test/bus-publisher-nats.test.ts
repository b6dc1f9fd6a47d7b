// Callers of a bus on NATS, also while its server is killed and comes back.
import * as grpc from '@grpc/grpc-js';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import t from 'tap';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { KEYS } from '../sidecar/bus/nats/names.ts';
import { startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { waitElsewhere } from './support/bus-callers.ts';
import { becomes, queuedIn, reasonOf, StreamCall, startScene } from './support/bus-scene.ts';
import { taskRequest } from './support/upstream.ts';

t.setTimeout(120_000);

const path = PROCESS_TASK_PATH;
const skip = skipWithout('nats-server');

t.test('calls are tasks on NATS: answers, streams, cancels and lost runs', { skip }, async (t) => {
  const nats = await startNats(t);
  const retry = { base: '10ms', max: '10ms' };
  const scene = await startScene(t, {
    url: `nats://${nats.address}`,
    consume: { retry_delay: retry },
    publish: { max_queued_per_agent: 2 },
  });
  const { client, consumer } = scene;
  const call = client.unary(taskRequest({ id: 'one' }), { path });
  await (await consumer.take()).answer({ answer: 'the answer', trailers: ['x-trailer', 't'] });
  const outcome = await call;
  t.match(outcome, { code: 0, response: Buffer.from('the answer') });
  t.strictSame(outcome.trailers.get('x-trailer'), ['t']);

  const request = taskRequest({ id: 'two' });
  const [first, second] = [new StreamCall(scene, request), new StreamCall(scene, request)];
  const task = await consumer.take();
  await task.write('a', 'b');
  for (const one of [first, second]) await one.has(2);
  await task.lease.lose('the agent crashed');
  for (const one of [first, second]) t.equal(reasonOf(await one.status), 'stream_cut');
  const again = new StreamCall(scene, request);
  const next = await consumer.take();
  await next.write('c');
  await next.answer();
  t.match(await again.status, { code: 0 });
  t.strictSame(again.chunks, ['c']);
  const replayed = new StreamCall(scene, request);
  t.match(await replayed.status, { code: 0 });
  t.strictSame(replayed.chunks, ['c']);

  const cancelled = new StreamCall(scene, taskRequest({ id: 'three' }));
  const cancelledTask = await consumer.take();
  cancelled.call.cancel();
  await becomes(scene, cancelledTask, 'cancelled');
  await waitUntil('the run hears of it', () => cancelledTask.lease.cancelled.aborted);

  const waiting = ['a', 'b'].map((id) => new StreamCall(scene, taskRequest({ id })));
  await waitUntil('both wait', async () => (await queuedIn(scene)) === 2);
  const refused = await client.unary(taskRequest({ id: 'c' }), { path });
  t.match(refused, { code: grpc.status.RESOURCE_EXHAUSTED });
  for (const one of waiting) one.call.cancel();
  await waitUntil('nothing waits', async () => (await queuedIn(scene)) === 0);
});

t.test('a task goes on while a caller at another sidecar waits for it, on NATS', { skip }, async (t) => {
  await waitElsewhere(t, `nats://${(await startNats(t)).address}`);
});

t.test('callers wait for a bus that comes back, and learn of one that is away', { skip }, async (t) => {
  const nats = await startNats(t);
  const scene = await startScene(t, { url: `nats://${nats.address}`, consume: { lease: '60s' } });
  const { client, consumer, plane } = scene;
  const running = new StreamCall(scene, taskRequest({ id: 'running' }));
  const task = await consumer.take();
  await task.write('before');
  await running.has(1);
  const queued = client.unary(taskRequest({ id: 'queued' }), { path });
  await waitUntil('it waits', async () => (await queuedIn(scene)) === 1);
  await nats.kill();
  await waitUntil('the sidecar knows', () => plane.sidecar.busSide.bus.view?.connected === false);
  const refused = await client.unary(taskRequest({ id: 'refused' }), { path });
  t.match(refused, { code: grpc.status.UNAVAILABLE });
  t.strictSame(refused.trailers.get('outrigger-reason'), ['bus_unavailable']);
  t.match(plane.sidecar.busSide.bus.view?.problem, /./);
  await nats.restart();
  await waitUntil('it is back', () => plane.sidecar.busSide.bus.view?.connected);
  await waitUntil('the run goes on', async () => {
    await task.write('after');
    return true;
  });
  await task.answer();
  t.match(await running.status, { code: 0 });
  t.strictSame(running.chunks, ['before', 'after']);
  await (await consumer.take()).answer({ answer: 'accepted before' });
  t.match(await queued, { code: 0, response: Buffer.from('accepted before') });
});

t.test(
  'who waits for a task whose streams were made anew hears that, and not that it has run',
  { skip },
  async (t) => {
    const nats = await startNats(t);
    const scene = await startScene(t, { url: `nats://${nats.address}`, consume: { lease: '1s' } });
    const call = scene.client.unary(taskRequest({ id: 'one' }), { path });
    await scene.consumer.take();
    const nc = await connect({ servers: nats.address });
    t.teardown(() => nc.close());
    const { streams } = await jetstreamManager(nc);
    const { config } = await streams.info(KEYS);
    await streams.delete(KEYS);
    await streams.add(config);
    const refused = await call;
    t.match(refused, { code: grpc.status.UNAVAILABLE, details: /streams were deleted.*send the task again/ });
    t.strictSame(refused.trailers.get('outrigger-reason'), ['bus_unavailable']);
  },
);
