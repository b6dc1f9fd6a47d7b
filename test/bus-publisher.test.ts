// A cluster whose calls become tasks: callers use it as any other, and a consumer answers by hand.

import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { LogUnavailableError } from '../sidecar/bus/log/log-errors.ts';
import { readAgentHealthy } from '../sidecar/task/health-message.ts';
import { bytesField } from '../sidecar/task/protobuf.ts';
import {
  AGENT_HEALTH_CHECK_PATH,
  PROCESS_TASK_PATH,
  STREAM_PROCESS_PATH,
} from '../sidecar/task/task-message.ts';
import { waitElsewhere } from './support/bus-callers.ts';
import {
  becomes,
  queuedIn,
  reasonOf,
  type Scene,
  StreamCall,
  startScene,
  stateOf,
} from './support/bus-scene.ts';
import { HandConsumer, type TakenTask } from './support/hand-consumer.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream, taskRequest } from './support/upstream.ts';

t.setTimeout(120_000);

const path = PROCESS_TASK_PATH;

t.test('a unary call is a task, and its caller gets the answer with head, trailers and status', async (t) => {
  const { client, consumer } = await startScene(t);
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
  let streaming: ServerHttp2Stream | undefined;
  const agent = await startUpstream(t, {
    onCall: ({ headers, stream }) => {
      if (headers[':path'] === STREAM_PROCESS_PATH) {
        stream.respond(
          { ':status': 200, 'content-type': 'application/grpc', 'x-head': 'h' },
          { waitForTrailers: true },
        );
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-trailer': 't' }));
        stream.write(grpcFrame('one'));
        streaming = stream;
      } else answerWith(stream, 'the answer');
    },
  });
  const { client, url, plane } = await startScene(t);
  const beside = await startDataPlane(t, {
    name: 'research-agent',
    inbound: { app: agent.address },
    bus: { url, consume: { agent_types: ['research'] } },
  });
  t.match(await client.unary(taskRequest({ id: 'one' }), { path }), {
    code: 0,
    response: Buffer.from('the answer'),
  });
  const stream = client.serverStream(taskRequest({ id: 'two' }), { path: STREAM_PROCESS_PATH });
  const chunks: string[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  const [head] = (await once(stream, 'metadata')) as [grpc.Metadata];
  t.strictSame(head.get('x-head'), ['h'], 'while the agent still works');
  await waitUntil('the first chunk', () => chunks.length === 1);
  for (const chunk of ['two', 'three']) streaming!.write(grpcFrame(chunk));
  streaming!.end();
  const { code, metadata } = await new Promise<grpc.StatusObject>((resolve) => stream.on('status', resolve));
  t.strictSame([code, chunks], [0, ['one', 'two', 'three']]);
  t.strictSame(metadata.get('x-trailer'), ['t']);
  const counted = () =>
    [...beside.sidecar.busSide.bus.counts.entries()].map(([type, { delivered, settled }]) => [
      type,
      delivered,
      settled,
    ]);
  // A result is on the log a moment before the sidecar that stored it counts it.
  await waitUntil('both are counted', () => counted()[0]?.[2] === 2);
  t.strictSame(counted(), [['research', 2, 2]]);
  t.equal([...plane.sidecar.busSide.bus.counts.entries()][0]![1].published, 2);
  await beside.sidecar.drain();
  await plane.sidecar.drain();
});

t.test('a task that an agent submits carries what its calls carry, and nothing of one hop', async (t) => {
  let working: SeenCall | undefined;
  const agent = await startUpstream(t, {
    onCall: (call) => {
      working = call;
    },
  });
  const scene = await startScene(t, {}, { name: 'writer', inbound: { app: agent.address } });
  const outside = new grpc.Metadata();
  outside.set('outrigger-path', 'gateway');
  outside.set('outrigger-token-budget', '1000');
  const outer = new RawClient(t, scene.plane.inboundPort).unary(taskRequest({ id: 'outer' }), {
    path,
    metadata: outside,
  });
  const { headers, stream } = await waitUntil('the agent works', () => working);
  const metadata = new grpc.Metadata();
  // As agents do that pass everything on, and as one that makes something up.
  const { baggage } = headers;
  t.match(baggage, /^outrigger-call=[\da-f]{24}$/);
  metadata.set('baggage', `a=b,${baggage},c=d`);
  for (const name of ['outrigger-token-budget', 'traceparent'])
    if (headers[name] !== undefined) metadata.set(name, String(headers[name]));
  metadata.set('outrigger-resume', `${'2'.repeat(32)}/7`);
  metadata.set('outrigger-first-stream', `${'3'.repeat(32)}-1`);
  const submit = bytesField(1, taskRequest({ id: 'inner', type: 'research' }));
  t.match(await scene.client.unary(submit, { path: '/outrigger.v1.Tasks/Submit', metadata }), { code: 0 });
  const carried = async (): Promise<string[]> => {
    const { fields } = (await scene.consumer.take()).request;
    return fields
      .flatMap((name, at) =>
        at % 2 === 0 && /outrigger|baggage/.test(name) ? [`${name}: ${fields[at + 1]}`] : [],
      )
      .sort();
  };
  t.strictSame(await carried(), [
    'baggage: a=b,c=d',
    'outrigger-path: gateway,writer',
    'outrigger-token-budget: 500',
  ]);
  const other = bytesField(1, taskRequest({ id: 'other', type: 'research' }));
  t.match(await scene.client.unary(other, { path: '/outrigger.v1.Tasks/Submit' }), { code: 0 });
  t.strictSame(await carried(), [], 'of another program beside the agent');
  answerWith(stream, 'done');
  const { trailers } = await outer;
  t.strictSame(trailers.get('outrigger-tokens-used'), ['500'], 'nobody reports what the other task uses');
});

t.test('a stream gives chunks as they come, and an error of the agent as it is', async (t) => {
  const scene = await startScene(t);
  const stream = new StreamCall(scene, taskRequest({ id: 'one' }));
  const task = await scene.consumer.take();
  await task.write('a', 'b');
  await stream.has(2);
  await task.write('c');
  await stream.has(3);
  await task.answer({ status: 9, message: 'not ready ☂', trailers: ['x-detail-bin', 'AAEC'] });
  const status = await stream.status;
  t.match(status, { code: 9, details: 'not ready ☂' });
  t.strictSame(status.metadata.get('x-detail-bin'), [Buffer.from([0, 1, 2])]);
  t.equal(reasonOf(status), undefined);
  // Agents' errors prove nothing about the bus: neither a circuit nor an ejection comes of them.
  for (let i = 0; i < 12; i++) {
    const call = scene.client.unary(taskRequest({ id: `error ${i}` }), { path });
    await (await scene.consumer.take()).answer({ status: i % 2 === 0 ? 14 : 13, message: 'broken' });
    t.match(await call, { code: i % 2 === 0 ? 14 : 13, details: 'broken' });
  }
});

t.test(
  'a task that comes again joins, and is replayed after its end for as long as inbound.tasks.max_age says',
  async (t) => {
    const scene = await startScene(t, {}, { inbound: { tasks: { max_age: '4s' } } });
    const request = taskRequest({ id: 'one' });
    const [first, second] = [new StreamCall(scene, request), new StreamCall(scene, request)];
    const task = await scene.consumer.take();
    await task.write('a');
    await first.has(1);
    await second.has(1);
    await task.write('b');
    await task.answer({ trailers: ['x-end', 'yes'] });
    for (const { status, chunks } of [first, second]) {
      t.match(await status, { code: 0 });
      t.strictSame(chunks, ['a', 'b']);
    }
    t.strictSame(
      (await Promise.all([first.status, second.status]))
        .map(({ metadata }) => metadata.get('outrigger-deduplicated'))
        .sort(),
      [[], ['joined']],
    );
    const third = new StreamCall(scene, request);
    t.match(await third.status, { code: 0 });
    t.strictSame(third.chunks, ['a', 'b']);
    t.strictSame((await third.status).metadata.get('outrigger-deduplicated'), ['replayed']);
    // Later it is a task of its own again.
    let taken: TakenTask | undefined;
    const taking = scene.consumer.take().then((task) => {
      taken = task;
    });
    await waitUntil('it runs again', async () => {
      const again = new StreamCall(scene, request);
      await Promise.race([again.status, taking]);
      return taken !== undefined;
    });
    await taken!.answer();
  },
);

t.test('a caller that cancels, or whose time is up, ends its task; one that vanishes does not', async (t) => {
  const scene = await startScene(t);
  const running = new StreamCall(scene, taskRequest({ id: 'running' }));
  const task = await scene.consumer.take();
  running.call.cancel();
  await becomes(scene, task, 'cancelled');
  t.equal(
    task.lease.cancelled.aborted ||
      (await waitUntil('the run hears of it', () => task.lease.cancelled.aborted)),
    true,
  );

  const queued = new StreamCall(scene, taskRequest({ id: 'queued' }));
  await waitUntil('it waits', async () => (await queuedIn(scene)) === 1);
  queued.call.cancel();
  await waitUntil('it waits no more', async () => (await queuedIn(scene)) === 0);

  const late = scene.client.unary(taskRequest({ id: 'late' }), { path, deadline: Date.now() + 3_000 });
  const lateTask = await scene.consumer.take();
  t.ok(lateTask.lease.record.deadlineAtMs - scene.consumer.log.nowMs() <= 3_000);
  t.match(await late, { code: grpc.status.DEADLINE_EXCEEDED });
  await becomes(scene, lateTask, 'cancelled');

  // Two wait: the cancel of one is not the other's.
  const both = [1, 2].map(() => new StreamCall(scene, taskRequest({ id: 'both' })));
  const bothTask = await scene.consumer.take();
  await bothTask.write('a');
  await Promise.all(both.map((call) => call.has(1)));
  both[0]!.call.cancel();
  await both[0]!.status;
  await bothTask.write('b');
  await both[1]!.has(2);
  await bothTask.answer();
  t.match(await both[1]!.status, { code: 0 });

  // A connection that is lost says nothing: the caller comes back on another, and gets all of it.
  const { client, end } = await losableClient(t, scene);
  const lost = client.unary(taskRequest({ id: 'lost' }), { path });
  const lostTask = await scene.consumer.take();
  end();
  t.match(await lost, { code: grpc.status.UNAVAILABLE });
  const back = scene.client.unary(taskRequest({ id: 'lost' }), { path });
  await lostTask.answer({ answer: 'for whoever asks' });
  t.match(await back, { code: 0, response: Buffer.from('for whoever asks') });
  t.equal(await stateOf(scene, lostTask), 'done');
});

t.test('a task goes on while a caller at another sidecar waits for it', (t) => waitElsewhere(t));

t.test('a gateway that drains leaves its tasks to whoever comes back for them', async (t) => {
  const scene = await startScene(t, {}, { drain: { timeout: '100ms' } });
  const before = new StreamCall(scene, taskRequest({ id: 'one' }));
  const task = await scene.consumer.take();
  await task.write('a');
  await before.has(1);
  await scene.plane.sidecar.drain();
  t.equal(reasonOf(await before.status), 'stream_cut');
  const next = await startDataPlane(t, {
    bus: { url: scene.url },
    outbound: { clusters: { research: { bus: 'research' } } },
  });
  const client = new RawClient(t, next.outboundPort, { 'grpc.default_authority': 'research' });
  const after = new StreamCall({ client }, taskRequest({ id: 'one' }));
  await after.has(1);
  await task.write('b');
  await task.answer();
  t.match(await after.status, { code: 0 });
  t.strictSame(after.chunks, ['a', 'b'], 'the same run');
});

t.test(
  'a run that is lost before its first chunk is waited for, and one after it cuts the stream',
  async (t) => {
    const scene = await startScene(t, {
      consume: { lease: '3s', retry_delay: { base: '10ms', max: '10ms' } },
    });
    const early = new StreamCall(scene, taskRequest({ id: 'early' }));
    await (await scene.consumer.take()).lease.lose('the agent crashed');
    const second = await scene.consumer.take();
    t.equal(second.lease.record.run, 2);
    await second.write('of the second run');
    await second.answer();
    t.match(await early.status, { code: 0 });
    t.strictSame(early.chunks, ['of the second run']);

    const request = taskRequest({ id: 'late' });
    const late = new StreamCall(scene, request);
    const first = await scene.consumer.take();
    await first.write('void');
    await late.has(1);
    // Nobody extends the lease: the run is lost with its sidecar.
    const cut = await late.status;
    t.match(cut, { code: grpc.status.UNAVAILABLE });
    t.equal(reasonOf(cut), 'stream_cut');
    const again = new StreamCall(scene, request);
    const next = await scene.consumer.take();
    await next.write('one', 'two');
    await next.answer();
    t.match(await again.status, { code: 0 });
    t.strictSame(again.chunks, ['one', 'two'], 'from its first chunk');
    await t.rejects(first.write('too late'), { name: 'FencedError' });
  },
);

t.test('a task that crashes its agent each time ends with its cause', async (t) => {
  const scene = await startScene(t, { consume: { max_runs: 2, retry_delay: { base: '10ms', max: '10ms' } } });
  const call = scene.client.unary(taskRequest({ id: 'poison' }), { path });
  for (let run = 1; run <= 2; run++) await (await scene.consumer.take()).lease.lose('the agent crashed');
  const outcome = await call;
  t.match(outcome, { code: grpc.status.INTERNAL, details: /dead letters.*the agent crashed/ });
  t.strictSame(outcome.trailers.get('outrigger-reason'), ['task_dead']);
  t.strictSame(outcome.trailers.get('grpc-retry-pushback-ms'), ['-1']);
});

t.test('a full queue turns callers away, and says when to come back', async (t) => {
  const scene = await startScene(t, { publish: { max_queued_per_agent: 2 } });
  const waiting = ['a', 'b'].map((id) => new StreamCall(scene, taskRequest({ id })));
  await waitUntil('both wait', async () => (await queuedIn(scene)) === 2);
  const refused = await scene.client.unary(taskRequest({ id: 'c' }), { path });
  t.match(refused, { code: grpc.status.RESOURCE_EXHAUSTED, details: /max_queued_per_agent/ });
  t.strictSame(refused.trailers.get('outrigger-reason'), ['overloaded']);
  t.strictSame(refused.trailers.get('grpc-retry-pushback-ms'), ['1000']);
  for (let i = 0; i < 2; i++) await (await scene.consumer.take()).answer();
  for (const { status } of waiting) t.match(await status, { code: 0 });
  const admitted = scene.client.unary(taskRequest({ id: 'c' }), { path });
  await (await scene.consumer.take()).answer({ answer: 'c' });
  t.match(await admitted, { code: 0 }, 'the refusal does not keep later calls away');
});

t.test('a slow caller makes no memory grow, and gets everything', async (t) => {
  const scene = await startScene(t);
  const { log } = scene.plane.sidecar.busSide.bus;
  let pulled = 0;
  const watch = log.watch.bind(log);
  log.watch = async function* (...of) {
    for await (const event of watch(...of)) {
      if (event.kind === 'chunks') pulled += event.batch.payload.length;
      yield event;
    }
  };
  // grpc-js reads ahead whatever its caller does.
  const session = connectHttp2(`http://127.0.0.1:${scene.plane.outboundPort}`);
  t.teardown(() => session.destroy());
  const call = session.request({
    ':method': 'POST',
    ':path': STREAM_PROCESS_PATH,
    ':authority': 'research',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  call.end(grpcFrame(taskRequest({ id: 'large' })));
  const task = await scene.consumer.take();
  const piece = 'x'.repeat(65_536);
  const pieces = 320;
  for (let i = 0; i < pieces / 8; i++) await task.write(...Array.from({ length: 8 }, () => piece));
  await task.answer();
  let before = -1;
  await waitUntil(
    'the publisher has stopped',
    async () => {
      const stands = pulled > 0 && pulled === before;
      before = pulled;
      return stands;
    },
    { everyMs: 300 },
  );
  t.ok(pulled < (pieces * 65_536) / 2, `${pulled} bytes were read ahead`);
  let received = 0;
  call.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  const [trailers] = (await once(call, 'trailers')) as [Record<string, string>];
  t.strictSame([trailers['grpc-status'], received], ['0', pieces * (5 + 65_536)]);
});

t.test('compressed requests are stored as they are, and what can not be read is refused', async (t) => {
  const scene = await startScene(t, {}, { inbound: { max_message_bytes: 100_000 } });
  const client = new RawClient(t, scene.plane.outboundPort, {
    'grpc.default_authority': 'research',
    'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip,
  });
  const request = taskRequest({ id: 'one', input: 'y'.repeat(50_000) });
  const call = client.unary(request, { path });
  const task = await scene.consumer.take();
  t.strictSame(task.request.message, request);
  await task.answer({ answer: 'plain' });
  t.match(await call, { code: 0, response: Buffer.from('plain') });
  const bomb = await client.unary(taskRequest({ id: 'bomb', input: 'y'.repeat(1_000_000) }), { path });
  t.match(bomb, { code: grpc.status.RESOURCE_EXHAUSTED });
  t.strictSame(bomb.trailers.get('outrigger-reason'), ['message_too_large']);
});

t.test('health is that of the consumers, and other methods say what goes over the bus', async (t) => {
  const scene = await startScene(t);
  const health = async () => {
    const { code, response } = await scene.client.unary(Buffer.alloc(0), { path: AGENT_HEALTH_CHECK_PATH });
    return code === 0 && readAgentHealthy(response!, 0, response!.length);
  };
  t.equal(await health(), false, 'nobody takes its tasks');
  const told = { instance: 'a', name: 'research-agent', version: '1', agentTypes: ['research'], places: 2 };
  await scene.consumer.log.announce(told);
  await waitUntil('it is healthy', health);
  await scene.consumer.log.announce({ ...told, places: 0 });
  await waitUntil('it is not', async () => !(await health()));
  const other = await scene.client.unary(Buffer.alloc(0), { path: '/agent.AgentService/Other' });
  t.match(other, {
    code: grpc.status.UNIMPLEMENTED,
    details: /ProcessTask, StreamProcess and HealthCheck do/,
  });
});

t.test(
  'a bus that is away at the start keeps nothing else from being served, and is used once it is there',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-bus-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'later', 'tasks.db');
    // Where the folder of the file should be, there is something else.
    writeFileSync(join(folder, 'later'), '');
    const direct = await startUpstream(t);
    const said: [boolean, string][] = [];
    const plane = await startDataPlane(
      t,
      {
        bus: { url: `file:${file}` },
        inbound: { app: 'none' },
        outbound: { clusters: { research: { bus: 'research' }, direct: { endpoints: [direct.address] } } },
      },
      { onBusConnected: (...of) => said.push(of) },
    );
    const client = (authority: string) =>
      new RawClient(t, plane.outboundPort, { 'grpc.default_authority': authority });
    const [research, other] = [client('research'), client('direct')];
    t.match(await other.unary(taskRequest({ id: 'one' }), { path }), { code: 0 });
    const refused = await research.unary(taskRequest({ id: 'one' }), { path });
    t.match(refused, { code: grpc.status.UNAVAILABLE });
    t.strictSame(refused.trailers.get('outrigger-reason'), ['bus_unavailable']);
    t.equal(plane.sidecar.notReadyBecause, undefined);
    t.match(plane.sidecar.busSide.bus.view, { connected: false, problem: /./ });
    rmSync(join(folder, 'later'));
    await waitUntil('it is open', () => plane.sidecar.busSide.bus.view?.connected);
    t.match(said, [
      [false, /./],
      [true, ''],
    ]);
    const consumer = await HandConsumer.open(t, { url: `file:${file}` });
    const call = research.unary(taskRequest({ id: 'one' }), { path });
    await (await consumer.take()).answer({ answer: 'now' });
    t.match(await call, { code: 0 });
  },
);

t.test('who waits for a task whose file is moved away hears that, and not that it has run', async (t) => {
  const scene = await startScene(t);
  const stream = new StreamCall(scene, taskRequest({ id: 'one' }));
  const task = await scene.consumer.take();
  await task.write('before');
  await stream.has(1);
  const unary = scene.client.unary(taskRequest({ id: 'two' }), { path });
  await scene.consumer.take();
  const file = scene.url.slice('file:'.length);
  for (const suffix of ['', '-wal', '-shm']) renameSync(file + suffix, `${file}-old${suffix}`);
  const moved = { code: grpc.status.UNAVAILABLE, details: /was moved or removed.*send the task again/ };
  const [cut, refused] = await Promise.all([stream.status, unary]);
  t.match(cut, moved);
  t.equal(reasonOf(cut), 'bus_unavailable');
  t.match(refused, moved);
  t.strictSame(refused.trailers.get('outrigger-reason'), ['bus_unavailable']);
  const again = scene.client.unary(taskRequest({ id: 'two' }), { path });
  // The consumer has a thread of its own, which may notice later.
  const anew = await waitUntil('the consumer takes from the new file', () =>
    scene.consumer.take().catch((error: unknown) => {
      if (!(error instanceof LogUnavailableError)) throw error;
      return undefined;
    }),
  );
  await anew.answer({ answer: 'anew' });
  t.match(await again, { code: 0, response: Buffer.from('anew') });
});

t.test('a reload changes the limits of the bus while calls and runs go on', async (t) => {
  const scene = await startScene(t);
  const stream = new StreamCall(scene, taskRequest({ id: 'one' }));
  const task = await scene.consumer.take();
  await task.write('before');
  await stream.has(1);
  await scene.plane.apply({
    bus: { url: scene.url, publish: { max_queued_per_agent: 1 } },
    outbound: { clusters: { research: { bus: 'research' } } },
  });
  const waiting = new StreamCall(scene, taskRequest({ id: 'two' }));
  await waitUntil('it waits', async () => (await queuedIn(scene)) === 1);
  await waitUntil('the new limit holds', async () => {
    const call = new StreamCall(scene, taskRequest({ id: 'three' }), { deadline: Date.now() + 1_000 });
    return (await call.status).code === grpc.status.RESOURCE_EXHAUSTED;
  });
  await task.write('after');
  await task.answer();
  t.match(await stream.status, { code: 0 });
  t.strictSame(stream.chunks, ['before', 'after']);
  waiting.call.cancel();
});

/** A client whose connection can be lost without a word of HTTP/2. */
async function losableClient(t: Test, { plane }: Scene): Promise<{ client: RawClient; end: () => void }> {
  const sockets: Socket[] = [];
  const relay = createServer((socket) => {
    const upstream = connect(plane.outboundPort, '127.0.0.1');
    sockets.push(socket, upstream);
    for (const one of [socket, upstream]) one.on('error', () => {});
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  t.teardown(() => relay.close());
  const { port } = relay.address() as AddressInfo;
  const client = new RawClient(t, port, { 'grpc.default_authority': 'research', 'grpc.enable_retries': 0 });
  return {
    client,
    end: () => {
      relay.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
