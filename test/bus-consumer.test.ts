// A sidecar takes tasks from the bus, runs them by its own inbound side, and stores what the agent answered.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { KeySealer } from '../sidecar/bus/message/sealing.ts';
import { bytesField } from '../sidecar/task/protobuf.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { messageThen, ok, silence, startReplica, trailersOnly } from './support/answers.ts';
import { logFile, Submitter, startConsumer } from './support/task-consumer.ts';
import { grpcFrame, taskRequest } from './support/upstream.ts';

t.setTimeout(120_000);

t.test('a task of the bus is a call of the agent, and its answer is the result', async (t) => {
  const app = await startReplica(t, messageThen(0, { message: 'the answer', fields: { 'x-cost': '3' } }));
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, { inbound: { app: app.address, timeout: '10s' } });
  const fields = [
    'x-tenant',
    'a',
    'x-tenant',
    'b',
    'traceparent',
    `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`,
  ];
  const { key } = await submitter.submit({ fields });
  const record = await submitter.ended(key);
  t.equal(record.state, 'done');
  t.equal(record.run, 1);
  t.equal(record.result?.status, 0);
  const result = submitter.resultOf(record);
  t.equal(String(result.answer), 'the answer');
  t.same(result.trailers, ['x-cost', '3']);
  t.equal(app.calls.length, 1);
  const [call] = app.calls;
  t.same(call!.body, grpcFrame(taskRequest({ id: 'task-1', type: 'research', input: 'work' })));
  t.equal(call!.headers['x-tenant'], 'a, b');
  t.match(call!.headers['traceparent'], /^00-1{32}-/);
  t.equal(call!.headers['grpc-timeout'], undefined, 'inbound.timeout is for callers that wait');
  t.same(plane.events, []);
  // The result is on the log a moment before this sidecar counts it.
  await waitUntil('it is counted', () => plane.counts().settled > 0);
  t.same(plane.counts(), { delivered: 1, settled: 1 });
});

t.test('a large request that is refused before it is read has its refusal as its result', async (t) => {
  const app = await startReplica(t, messageThen(0, { message: 'the answer' }));
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, { inbound: { app: app.address, max_message_bytes: 65_536 } });
  const { key } = await submitter.submit({ input: 'x'.repeat(2_000_000) });
  const record = await submitter.ended(key);
  t.match(record, { state: 'done', run: 1, result: { status: 8 } });
  t.equal(app.calls.filter(({ complete }) => complete).length, 0);
  const { requests } = plane.sidecar.busSide.bus.memory;
  await waitUntil('its room is given back', () => requests.bytes === 0);
});

t.test('large answers that come at once wait for room, and each is stored', async (t) => {
  const bytes = 3_000_000;
  const give = messageThen(0, { message: 'x'.repeat(bytes) });
  const asked: (() => void)[] = [];
  const app = await startReplica(t, (...of) => {
    asked.push(() => give(...of));
    if (asked.length === 8) for (const answer of asked) answer();
  });
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const { sidecar } = await startConsumer(t, file, {
    inbound: { app: app.address },
    bus: { max_memory_bytes: '8MiB' },
  });
  const { collected } = sidecar.busSide.bus.memory;
  let most = 0;
  let waiting = 0;
  const enter = collected.enter.bind(collected);
  collected.enter = (claim) => {
    enter(claim);
    most = Math.max(most, collected.bytes);
    waiting = Math.max(waiting, collected.waiting);
  };
  const submitted = await Promise.all(
    Array.from({ length: 8 }, (_, at) => submitter.submit({ id: `task-${at}` })),
  );
  for (const { key } of submitted) {
    const record = await submitter.ended(key);
    t.match(record, { state: 'done', run: 1 });
    t.ok(record.result!.bytes > bytes);
  }
  t.ok(most > bytes && most < 4 * bytes, `${most} bytes: one answer at a time, and its copies`);
  t.ok(waiting > 0, 'the others waited');
  await waitUntil('all is given back', () => collected.bytes === 0);
});

t.test('an error of the agent is a result, too, and the task runs once', async (t) => {
  const app = await startReplica(t, trailersOnly(14, { 'grpc-message': 'no %25 luck', 'x-why': 'because' }));
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, { inbound: { app: app.address } });
  const record = await submitter.ended((await submitter.submit()).key);
  t.equal(record.state, 'done');
  t.equal(record.result?.status, 14);
  const { statusMessage, trailers, answer } = submitter.resultOf(record);
  t.equal(statusMessage, 'no % luck');
  t.match(trailers.join(), 'x-why,because');
  t.equal(answer, undefined);
  t.same(plane.events, []);
  // The result is on the log a moment before this sidecar counts it.
  await waitUntil('it is counted', () => plane.counts().settled > 0);
  t.same(plane.counts(), { delivered: 1, settled: 1 });
  t.equal(app.calls.length, 1);
});

t.test(
  'a stream becomes chunks, numbered from 1 and uncompressed, and a slow log stops the agent',
  async (t) => {
    const messages = Array.from({ length: 300 }, (_, index) => Buffer.alloc(1_000, index));
    const zipped = (message: Buffer): Buffer => {
      const frame = grpcFrame(gzipSync(message));
      frame[0] = 1;
      return frame;
    };
    const app = await startReplica(t, (stream) => {
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-encoding': 'gzip' },
        { waitForTrailers: true },
      );
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      messages.forEach(
        (message, index) => void stream.write(index % 2 === 0 ? zipped(message) : grpcFrame(message)),
      );
      stream.end();
    });
    const file = logFile(t);
    const submitter = await Submitter.open(t, file);
    await startConsumer(t, file, { inbound: { app: app.address } });
    const { key } = await submitter.submit({ path: STREAM_PROCESS_PATH });
    const story = await submitter.story(key);
    const bytes: Buffer[] = [];
    let next = 1;
    for (const event of story) {
      if (event.kind !== 'chunks') continue;
      t.equal(event.batch.run, 1);
      t.equal(event.batch.firstSequence, next);
      next += event.batch.count;
      bytes.push(event.batch.payload);
      t.ok(event.batch.payload.length <= 18_000, 'a batch is written when it has 16 KiB');
    }
    t.equal(next, 301);
    t.ok(Buffer.concat(bytes).equals(Buffer.concat(messages.map(grpcFrame))));
    const last = story.at(-1)!;
    t.ok(last.kind === 'state' && last.record.state === 'done' && last.record.result?.lastSequence === 300);
  },
);

t.test('an answer that is too large ends with RESOURCE_EXHAUSTED, and the agent is cancelled', async (t) => {
  for (const path of ['/agent.AgentService/ProcessTask', STREAM_PROCESS_PATH]) {
    const app = await startReplica(t, (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      for (let i = 0; i < 8; i++) stream.write(grpcFrame(Buffer.alloc(1_000)));
      if (path !== STREAM_PROCESS_PATH) stream.write(grpcFrame(Buffer.alloc(9_000)));
    });
    const file = logFile(t);
    const submitter = await Submitter.open(t, file);
    await startConsumer(t, file, {
      inbound: { app: app.address },
      bus: { results: { max_answer_bytes: 5_000 } },
    });
    const record = await submitter.ended((await submitter.submit({ path })).key);
    t.equal(record.result?.status, 8, path);
    t.match(submitter.resultOf(record).statusMessage, 'bus.results.max_answer_bytes (5000)');
    await waitUntil('the agent is told', () => app.calls[0]!.closedWith === 8);
  }
});

t.test('a cancel and a deadline end the call of the agent', async (t) => {
  const app = await startReplica(t, silence);
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  await startConsumer(t, file, { inbound: { app: app.address } });
  const { key } = await submitter.submit();
  await waitUntil('the agent has it', () => app.calls.length === 1);
  await submitter.log.cancel(key, 'no longer wanted');
  await waitUntil('the agent is told', () => app.calls[0]!.closedWith === 8);
  const late = await submitter.submit({ id: 'late', timeLeftMs: 300 });
  const record = await submitter.ended(late.key);
  t.ok(record.state === 'cancelled' || record.result?.status === 4, record.state);
  await waitUntil('the agent is told', () => app.calls[1]?.closedWith !== undefined);
  t.match(app.calls[1]!.headers['grpc-timeout'], /^\d+[mu]$/, 'the agent knows its deadline');
});

t.test('a run that ends at a deadline which a caller has moved meanwhile is begun again', async (t) => {
  let runs = 0;
  const answered = messageThen(0, { message: 'in the time of the second caller' });
  const app = await startReplica(t, (stream, headers) => {
    if (++runs > 1) answered(stream, headers);
  });
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, { inbound: { app: app.address } });
  await submitter.submit({ timeLeftMs: 1_500 });
  await waitUntil('it runs', () => runs === 1);
  const { key } = await submitter.submit({ timeLeftMs: 60_000 });
  const record = await submitter.ended(key);
  t.match(record, { state: 'done', run: 1, lostRuns: 0, generation: 1 });
  t.equal(String(submitter.resultOf(record).answer), 'in the time of the second caller');
  t.same(plane.events, ['given back: its deadline was moved while it ran']);
});

t.test('one sidecar runs what a program beside it submits, also while its agent works', async (t) => {
  const waiting: (() => void)[] = [];
  const answered = messageThen(0, { message: 'done' });
  const app = await startReplica(t, (stream, headers) => {
    waiting.push(() => answered(stream, headers));
    if (waiting.length === 2) for (const answer of waiting) answer();
  });
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, { inbound: { app: app.address } });
  const client = new RawClient(t, plane.outboundPort);
  for (const id of ['one', 'two']) {
    const submit = bytesField(1, taskRequest({ id, type: 'research' }));
    t.match(await client.unary(submit, { path: '/outrigger.v1.Tasks/Submit' }), { code: 0 });
    await waitUntil('it runs', () => app.calls.length === (id === 'one' ? 1 : 2));
  }
  const { records } = await submitter.log.list({ limit: 10 });
  for (const { key } of records)
    t.match(await submitter.ended(key), { state: 'done', result: { status: 0 } });
  t.equal(records.length, 2);
});

t.test('run_timeout bounds a run, and its result says so', async (t) => {
  const app = await startReplica(t, silence);
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  await startConsumer(t, file, {
    inbound: { app: app.address },
    bus: { consume: { run_timeout: '200ms' } },
  });
  const record = await submitter.ended((await submitter.submit()).key);
  t.equal(record.result?.status, 4);
  t.match(submitter.resultOf(record).statusMessage, 'bus.consume.run_timeout (200 ms)');
});

t.test('exactly as many tasks are taken as there are places', async (t) => {
  const app = await startReplica(t, silence);
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  await startConsumer(t, file, { inbound: { app: app.address }, bus: { consume: { places: 3 } } });
  for (let i = 0; i < 5; i++) await submitter.submit({ id: `task-${i}` });
  await waitUntil('three run', () => app.calls.length === 3);
  const [queue] = await submitter.log.status();
  t.same([queue!.running, queue!.queued], [3, 2]);
  app.answer = ok;
  messageThen(0)(app.calls[0]!.stream, app.calls[0]!);
  await waitUntil('the others follow', () => app.calls.length === 5);
});

t.test('who published counts as the caller: shares, scopes, and allow_identities', async (t) => {
  const app = await startReplica(t, silence);
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, { inbound: { app: app.address } });
  await submitter.submit({ id: 'same', publisher: 'spiffe://a/one', scope: 'x' });
  await submitter.submit({ id: 'same', publisher: 'spiffe://a/two', scope: 'x' });
  await submitter.submit({ id: 'same', publisher: 'spiffe://a/two', scope: 'y' });
  await waitUntil('no two of them are one task', () => app.calls.length === 3);
  const calls = [...plane.sidecar.inbound.listener.calls()];
  t.same(calls.map((call) => call.caller.name).sort(), [
    'spiffe://a/one',
    'spiffe://a/two',
    'spiffe://a/two',
  ]);
  t.equal(new Set(calls.map((call) => call.callerScope)).size, 3);
  for (const call of app.calls) ok(call.stream, call);
});

t.test('a task that was submitted anew runs anew, and one that was lost does not cost twice', async (t) => {
  const app = await startReplica(t, ok);
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, { inbound: { app: app.address } });
  const first = await submitter.ended((await submitter.submit()).key);
  t.equal(first.generation, 1);
  const again = await submitter.submit();
  t.equal(again.generation, 2);
  const second = await waitUntil('the second has ended', async () => {
    const record = await submitter.log.get(again.key);
    return record?.generation === 2 && record.state === 'done' && record;
  });
  t.equal(String(submitter.resultOf(second).answer), 'answer');
  t.equal(app.calls.length, 2, 'the agent has run both');
  t.equal(plane.sidecar.inbound.taskRuns.store.replayed, 0);
});

t.test(
  'an agent that is gone loses the run, and the task runs again; then it is dead, with the cause',
  async (t) => {
    const app = await startReplica(t, (stream) => stream.session!.destroy());
    const file = logFile(t);
    const submitter = await Submitter.open(t, file, {
      max_runs: 3,
      retry_delay: { base: '10ms', max: '20ms' },
    });
    const plane = await startConsumer(t, file, {
      inbound: { app: app.address },
      bus: { consume: { max_runs: 3, retry_delay: { base: '10ms', max: '20ms' } } },
    });
    const record = await submitter.ended((await submitter.submit()).key);
    t.equal(record.state, 'dead');
    t.match(record.cause, /connection|lost|closed/i);
    t.equal(app.calls.length, 3);
    const lost = () => plane.events.filter((event) => event.startsWith('lost')).length;
    await waitUntil('both losses were told', () => lost() >= 2);
    t.equal(lost(), 2);
  },
);

t.test('allow_identities holds for publishers that are believed, also beside callers with TLS', async (t) => {
  const app = await startReplica(t, ok);
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const authority = await TestAuthority.make();
  const issued = await authority.issue({ names: ['localhost'] });
  const files = new SecretVolume(t, { ...issued, ca: authority.ca });
  const tls = {
    cert: files.cert,
    key: files.key,
    client_ca: files.ca,
    allow_identities: ['spiffe://example.org/ns/agents/sa/*'],
  };
  const content = {
    inbound: { app: app.address, tls },
    bus: { trust_publishers: true },
  };
  const plane = await startConsumer(t, file, content);
  const statusOf = async (publisher: string): Promise<number | undefined> => {
    const { key } = await submitter.submit({ publisher });
    return (await submitter.ended(key)).result?.status;
  };
  t.equal(await statusOf('spiffe://example.org/ns/agents/sa/writing'), 0);
  t.equal(await statusOf('spiffe://example.org/ns/others/sa/writing'), 7);
  t.equal(await statusOf(''), 7, 'nobody is not on the list');
  t.equal(app.calls.length, 1);
  t.equal(plane.sidecar.inbound.listener.connectionCount, 1);
});

t.test(
  'with keys, the log holds nothing that can be read, and a sidecar that lacks a key leaves the task to others',
  async (t) => {
    const app = await startReplica(t, messageThen(0, { message: 'the secret answer' }));
    const file = logFile(t);
    const keys = join(dirname(file), 'keys');
    const newKey = (): string => `${randomBytes(32).toString('base64')}\n`;
    const [first, second] = [newKey(), newKey()];
    writeFileSync(keys, first, { mode: 0o600 });
    const submitter = await Submitter.open(t, file);
    const plane = await startConsumer(t, file, {
      inbound: { app: app.address, allow_call_cycles: true },
      bus: { encrypt_key_file: keys },
      outbound: { clusters: { research: { bus: 'research' } } },
    });
    const client = new RawClient(t, plane.outboundPort, { 'grpc.default_authority': 'research' });
    const request = taskRequest({ id: 'sealed', input: 'the secret question' });
    const outcome = await client.unary(request, { path: PROCESS_TASK_PATH });
    t.equal(outcome.code, 0, outcome.details);
    t.equal(String(outcome.response), 'the secret answer');
    const stored = Buffer.concat([file, `${file}-wal`].filter(existsSync).map((path) => readFileSync(path)));
    t.ok(stored.length > 0);
    t.notOk(stored.includes('the secret'));
    // Somebody without keys submits a task, and somebody with the next key another one.
    const plain = await submitter.submit({ id: 'plain' });
    const next = new Submitter(
      submitter.log,
      new KeySealer({ keys: [Buffer.from(second, 'base64')], acceptsPlain: false }),
    );
    const rotated = await next.submit({ id: 'rotated' });
    const given = (why: RegExp) => () => plane.events.some((event) => why.test(event));
    await waitUntil('the unsealed task was given back', given(/^given back: .* is not sealed/));
    await waitUntil(
      'the task of another key, too',
      given(/^given back: .* does not have: give this sidecar/),
    );
    t.equal(app.calls.length, 1);
    const all = join(dirname(file), 'all-keys');
    writeFileSync(all, `${first}${second}plain\n`, { mode: 0o600 });
    await startConsumer(t, file, { inbound: { app: app.address }, bus: { encrypt_key_file: all } });
    for (const { key } of [plain, rotated])
      t.match(
        await submitter.ended(key),
        { state: 'done', run: 1, lostRuns: 0 },
        'nothing of that counted as a run',
      );
    t.equal(app.calls.length, 3);
  },
);
