// A cluster whose calls become tasks: callers use it as any other, and a consumer answers by hand.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { HandConsumer } from './support/hand-consumer.ts';
import { answerWith, grpcFrame, startUpstream, taskRequest } from './support/upstream.ts';

interface Scene {
  readonly file: string;
  readonly plane: DataPlane;
  readonly client: RawClient;
  readonly consumer: HandConsumer;
}

async function start(t: Test, bus: object = {}, more: Record<string, object> = {}): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bus-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'tasks.db');
  const plane = await startDataPlane(t, {
    bus: { url: `file:${file}`, ...bus },
    ...more,
    outbound: { clusters: { research: { bus: 'research' } }, ...more['outbound'] },
  });
  const client = new RawClient(t, plane.outboundPort, { 'grpc.default_authority': 'research' });
  return { file, plane, client, consumer: await HandConsumer.open(t, file, bus) };
}

const path = PROCESS_TASK_PATH;

t.test('a unary call is a task, and its caller gets the answer with head, trailers and status', async (t) => {
  const { client, consumer } = await start(t);
  const metadata = new grpc.Metadata();
  for (const [name, value] of [
    ['authorization', 'Bearer secret'],
    ['cookie', 'a=b'],
    ['x-api-key', 'secret'],
    ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    ['baggage', 'a=b'],
    ['x-tenant', 'acme'],
  ] as const)
    metadata.set(name, value);
  const call = client.unary(taskRequest({ id: 'one', input: 'hello' }), { path, metadata });
  const task = await consumer.take();
  const { fields } = task.request;
  const names = fields.filter((_, index) => index % 2 === 0);
  t.strictSame(
    names.filter((name) => /auth|cookie|key|^grpc-|^te$|^:|content/.test(name)),
    [],
  );
  for (const name of ['traceparent', 'baggage', 'x-tenant', 'outrigger-path'])
    t.ok(names.includes(name), name);
  t.equal(task.request.path, path);
  t.strictSame(task.request.message, taskRequest({ id: 'one', input: 'hello' }));
  await task.answer({
    answer: 'the answer',
    head: ['x-head', 'h'],
    trailers: ['x-trailer', 't1', 'x-trailer', 't2'],
  });
  const outcome = await call;
  t.match(outcome, { code: 0, response: Buffer.from('the answer') });
  t.strictSame(outcome.headers?.get('x-head'), ['h']);
  t.strictSame(outcome.trailers.get('x-trailer'), ['t1, t2']);
});

t.test('a call goes over the bus to an agent beside another sidecar', async (t) => {
  const agent = await startUpstream(t, {
    onCall: ({ headers, stream }) => {
      if (headers[':path'] === STREAM_PROCESS_PATH) {
        stream.respond(
          { ':status': 200, 'content-type': 'application/grpc', 'x-head': 'h' },
          { waitForTrailers: true },
        );
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-trailer': 't' }));
        for (const chunk of ['one', 'two', 'three']) stream.write(grpcFrame(chunk));
        stream.end();
      } else answerWith(stream, 'the answer');
    },
  });
  const { client, file, plane } = await start(t);
  const beside = await startDataPlane(t, {
    name: 'research-agent',
    inbound: { app: agent.address },
    bus: { url: `file:${file}`, consume: { agent_types: ['research'] } },
  });
  t.match(await client.unary(taskRequest({ id: 'one' }), { path }), {
    code: 0,
    response: Buffer.from('the answer'),
  });
  const stream = client.serverStream(taskRequest({ id: 'two' }), { path: STREAM_PROCESS_PATH });
  const chunks: string[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  const { code, metadata } = await new Promise<grpc.StatusObject>((resolve) => stream.on('status', resolve));
  t.strictSame([code, chunks], [0, ['one', 'two', 'three']]);
  t.strictSame(metadata.get('x-trailer'), ['t']);
  t.strictSame(
    [...beside.sidecar.busSide.bus.counts.entries()].map(([type, { delivered, settled }]) => [
      type,
      delivered,
      settled,
    ]),
    [['research', 2, 2]],
  );
  t.equal([...plane.sidecar.busSide.bus.counts.entries()][0]![1].published, 2);
  await beside.sidecar.drain();
  await plane.sidecar.drain();
});
