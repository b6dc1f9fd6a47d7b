// Callers of one task at several sidecars of a bus, for the tests of both engines.
import * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import { startDataPlane } from '../../scripts/harness/data-plane.ts';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { becomes, type Scene, StreamCall, startScene } from './bus-scene.ts';
import { taskRequest } from './upstream.ts';

/** Neither the cancel nor the deadline of a caller ends a task for which another sidecar's caller waits. */
export async function waitElsewhere(t: Test, url?: string): Promise<void> {
  const scene = await startScene(t, { ...(url === undefined ? {} : { url }), consume: { lease: '60s' } });
  const other = await anotherGateway(t, scene);
  const request = taskRequest({ id: 'both' });
  const cancels = new StreamCall(scene, request);
  const task = await scene.consumer.take();
  await task.write('a');
  await cancels.has(1);
  const stays = new StreamCall(other, request);
  await stays.has(1);
  const late = new StreamCall(scene, request, { deadline: Date.now() + 1_500 });
  await late.has(1);
  cancels.call.cancel();
  t.match(await late.status, { code: grpc.status.DEADLINE_EXCEEDED });
  await task.write('b');
  await stays.has(2);
  t.notOk(task.lease.cancelled.aborted);
  await task.answer();
  t.match(await stays.status, { code: 0 });
  t.strictSame(stays.chunks, ['a', 'b']);
  t.match(await scene.consumer.log.get(task.lease.record.key), { run: 1, generation: 1 });

  // The last one that cancels ends it, wherever it waits.
  const again = taskRequest({ id: 'nobody' });
  const first = new StreamCall(scene, again);
  const last = await scene.consumer.take();
  await last.write('a');
  const second = new StreamCall(other, again);
  await second.has(1);
  first.call.cancel();
  await first.status;
  second.call.cancel();
  await becomes(scene, last, 'cancelled');
  await waitUntil('the run hears of it', () => last.lease.cancelled.aborted);
}

async function anotherGateway(t: Test, { url }: Scene): Promise<{ readonly client: RawClient }> {
  const plane = await startDataPlane(t, {
    bus: { url, consume: { lease: '60s' } },
    outbound: { clusters: { research: { bus: 'research' } } },
  });
  return { client: new RawClient(t, plane.outboundPort, { 'grpc.default_authority': 'research' }) };
}
