// outrigger.v1.Tasks over real connections, on the log in a file: who may ask for a task, and how its story is told.
import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { connect, type IncomingHttpHeaders } from 'node:http2';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect as connectNats } from '@nats-io/transport-node';
import t, { type Test } from 'tap';
import { SecretVolume, TestAuthority } from '../../../scripts/harness/certificates.ts';
import { type DataPlane, startDataPlane } from '../../../scripts/harness/data-plane.ts';
import { grpcMessage, grpcRequest, H2Peer } from '../../../scripts/harness/h2-peer.ts';
import { DEFAULT_LOG_SETTINGS } from '../../../scripts/harness/task-log-settings.ts';
import { skipWithout } from '../../../scripts/harness/tool.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { openLocalTaskLog } from '../../bus/local/local-task-log.ts';
import { LogUnavailableError } from '../../bus/log/log-errors.ts';
import { TaskCounts } from '../../bus/log/task-counts.ts';
import type { TaskLease, TaskLog } from '../../bus/log/task-log.ts';
import { BusMemory } from '../../bus/memory/bus-memory.ts';
import { decodeRequest, encodeResult } from '../../bus/message/payload.ts';
import { UNSEALED } from '../../bus/message/sealer.ts';
import { KEYS } from '../../bus/nats/names.ts';
import { openNatsLog } from '../../bus/nats/nats-task-log.ts';
import { startNats } from '../../bus/nats/test-support/nats-server.ts';
import { factsOf } from '../../policy/reasons.ts';
import type { LocalServices } from '../../proxy/context.ts';
import { stringField, varintField } from '../../task/protobuf.ts';
import { TaskService } from './task-service.ts';

t.setTimeout(120_000);

const definition = loadSync(['outrigger_tasks.proto', 'agent_service.proto'], {
  includeDirs: [join(import.meta.dirname, '../../../proto')],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const Tasks = grpc.makeClientConstructor(
  definition['outrigger.v1.Tasks'] as unknown as grpc.ServiceDefinition,
  'Tasks',
);

interface Task {
  id: string;
  state: string;
  run: number;
  lost_runs: number;
  last_sequence: number;
  generation: number;
  cause: string;
  deadline_at_ms: number;
  end: { status: number; message: string; answer: { output: string } | null; trailers: object[] } | null;
}

const settings = {
  ...DEFAULT_LOG_SETTINGS,
  leaseMs: 60_000,
  retryDelay: { baseMs: 1, maxMs: 1 },
  maxQueuedPerCaller: 4,
};

async function openLog(t: Test): Promise<TaskLog> {
  const log = await openLocalTaskLog(join(t.testdir(), 'tasks.db'), settings);
  t.teardown(() => log.close());
  return log;
}

/** A sidecar whose two sides serve the tasks of this log. */
async function sidecarOn(t: Test, log: TaskLog | undefined, content = {}): Promise<DataPlane> {
  const plane = await startDataPlane(t, content);
  const bus = log && {
    log,
    sealer: UNSEALED,
    memory: new BusMemory(),
    publisher: '',
    counts: new TaskCounts(),
    fieldsOf: () => [],
  };
  plane.sidecar.inbound.taskService.bus = bus;
  plane.sidecar.outbound.taskService.bus = bus;
  return plane;
}

class Client {
  private readonly client: grpc.Client;
  private readonly metadata = new grpc.Metadata();

  constructor(
    t: Test,
    port: number,
    fields: Record<string, string> = {},
    credentials = grpc.credentials.createInsecure(),
  ) {
    this.client = new Tasks(`127.0.0.1:${port}`, credentials, {
      'grpc.use_local_subchannel_pool': 1,
    });
    for (const [name, value] of Object.entries(fields)) this.metadata.set(name, value);
    t.teardown(() => this.client.close());
  }

  /** The answer, or the error. */
  async ask<Answer = Task>(method: string, request: object): Promise<Answer> {
    const call = (this.client as never as Record<string, (...args: unknown[]) => void>)[method]!;
    return new Promise((resolve, reject) =>
      call.call(
        this.client,
        request,
        this.metadata,
        { deadline: Date.now() + 100_000 },
        (error: Error | null, answer: Answer) => (error === null ? resolve(answer) : reject(error)),
      ),
    );
  }

  async refusal(method: string, request: object): Promise<{ code: string; reason: string; details: string }> {
    try {
      await this.ask(method, request);
    } catch (error) {
      const { code, details, metadata } = error as grpc.ServiceError;
      const reason = String(metadata.get('outrigger-reason')[0] ?? '');
      if (factsOf(reason) === undefined) throw new Error(`${method}: ${details}, without a reason`);
      return { code: grpc.status[code], reason, details };
    }
    throw new Error(`${method} was answered`);
  }

  watch(id: string, from = 0): grpc.ClientReadableStream<Told> {
    const { client, metadata } = this;
    return (client as never as { Watch(...of: unknown[]): grpc.ClientReadableStream<Told> }).Watch(
      { id, from_sequence: from },
      metadata,
    );
  }
}

/** `outrigger-reason` of a call that only the sidecar watches the time of. */
async function reasonOf(port: number, method: string, message: Buffer): Promise<unknown> {
  const session = connect(`http://127.0.0.1:${port}`);
  const stream = session.request({
    ':method': 'POST',
    ':path': `/outrigger.v1.Tasks/${method}`,
    'content-type': 'application/grpc',
    te: 'trailers',
    'grpc-timeout': '500m',
  });
  let last: IncomingHttpHeaders = {};
  for (const part of ['response', 'trailers'])
    stream.on(part, (fields: IncomingHttpHeaders) => {
      last = fields;
    });
  stream.end(frame(message)).resume();
  await once(stream, 'close');
  session.close();
  return last['outrigger-reason'];
}

interface Told {
  event: 'state' | 'run' | 'chunk' | 'end';
  state?: Task;
  run?: { run: number; after_sequence: number };
  chunk?: { sequence: number; run: number; chunk: { chunk: string } };
  end?: Task;
}

function written({ event, state, run, chunk, end }: Told): string {
  if (event === 'state') return state!.state;
  if (event === 'run') return `run ${run!.run}`;
  if (event === 'chunk') return `${chunk!.sequence}:${chunk!.chunk.chunk}`;
  return `end ${end!.state}`;
}

async function storyOf(stream: grpc.ClientReadableStream<Told>): Promise<string[]> {
  const lines: string[] = [];
  for await (const told of stream) lines.push(written(told as Told));
  return lines;
}

const take = async (log: TaskLog): Promise<TaskLease> => {
  const lease = await log.take(['research'], 'a sidecar', AbortSignal.timeout(60_000));
  if (lease === undefined) throw new Error('no task came');
  await lease.begin();
  return lease;
};

const frame = (message: Buffer): Buffer => {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
};
const write = (lease: TaskLease, ...texts: string[]): Promise<void> =>
  lease.write(texts.length, Buffer.concat(texts.map((text) => frame(stringField(1, text)))));
const noAnswer = { statusMessage: '', head: [], trailers: [], answer: undefined };

t.test('a task is submitted on one side, run, and asked for on the other', async (t) => {
  const log = await openLog(t);
  const plane = await sidecarOn(t, log);
  const outside = new Client(t, plane.inboundPort);
  const app = new Client(t, plane.outboundPort);

  const task = { task_id: 'one', agent_type: 'research', input: 'why?', metadata: { a: '1', b: '2' } };
  const submitted = await outside.ask('Submit', { task, timeout_ms: 50_000 });
  t.match(submitted, { id: /^[\w-]{43}$/, state: 'QUEUED', generation: 1, end: null });
  t.ok(submitted.deadline_at_ms > log.nowMs() + 40_000);
  const again = await app.ask('Submit', { task: { ...task, metadata: { b: '2', a: '1' } } });
  t.equal(again.id, submitted.id, 'the same request is the same task');
  const other = await app.ask('Submit', { task, method: 'STREAM_PROCESS' });
  t.not(other.id, submitted.id, 'another method is another task');
  t.match(await app.ask('Cancel', { id: other.id }), { state: 'CANCELLED', cause: /cancelled/ });

  const lease = await take(log);
  const request = decodeRequest(await lease.request());
  t.match(request, { path: '/agent.AgentService/ProcessTask', taskId: 'one', identity: '', scope: '' });
  t.match(await outside.ask('Get', { id: submitted.id }), { state: 'RUNNING', run: 1 });
  const story = storyOf(app.watch(submitted.id));
  const answer = Buffer.concat([stringField(1, 'one'), stringField(2, 'because'), varintField(4, 7)]);
  const trailers = ['x-cost', '3'];
  const payload = encodeResult({ ...noAnswer, trailers, answer });
  await lease.settle({ status: 0, payload });
  t.equal((await story).at(-1), 'end DONE');
  const done = await app.ask('Get', { id: submitted.id });
  t.match(done, {
    state: 'DONE',
    end: {
      status: 0,
      answer: { output: 'because', tokens_used: 7 },
      trailers: [{ name: 'x-cost', value: '3' }],
    },
  });
  t.equal((await outside.ask('Submit', { task })).state, 'DONE', 'a result that is kept is joined');
});

t.test('a deadline that is none is refused, and others keep the bus', async (t) => {
  const log = await openLog(t);
  const plane = await sidecarOn(t, log);
  const client = new Client(t, plane.inboundPort);
  const task = { agent_type: 'research', input: 'why?' };
  for (const timeout_ms of ['-5', '2592000001', '9007199254740992', '9223372036854775807'])
    await t.rejects(
      client.ask('Submit', { task, timeout_ms }),
      { code: 3, details: /timeout_ms/ },
      timeout_ms,
    );
  t.equal(log.connected, true);
  const { deadline_at_ms: none } = await client.ask('Submit', { task, timeout_ms: 0 });
  t.equal(Number(none), 0);
  t.match(await client.ask('Submit', { task, timeout_ms: 2_592_000_000 }), { state: 'QUEUED' });
});

t.test('a watcher that comes back gets the chunks of the run that counts', async (t) => {
  const log = await openLog(t);
  const plane = await sidecarOn(t, log);
  const client = new Client(t, plane.outboundPort);
  const submit = { task: { agent_type: 'research', input: 'a story' }, method: 'STREAM_PROCESS' };
  const { id } = await client.ask('Submit', submit);

  const first = await take(log);
  await write(first, 'a', 'b', 'c');
  const seen: string[] = [];
  const cut = client.watch(id);
  cut.on('error', () => {});
  cut.on('data', (told: Told) => seen.push(written(told)));
  await waitUntil('three chunks', () => seen.includes('3:c'));
  cut.cancel();

  const inRun = client.watch(id, 3);
  const resumed: string[] = [];
  inRun.on('error', () => {});
  inRun.on('data', (told: Told) => resumed.push(written(told)));
  await waitUntil('the third chunk', () => resumed.includes('3:c'));
  t.strictSame(resumed, ['RUNNING', '3:c'], 'no new run: what the client has counts');
  inRun.cancel();

  await first.lose('the agent crashed');
  const second = await take(log);
  await write(second, 'A');
  const late = storyOf(client.watch(id, 4));
  await write(second, 'B');
  await second.settle({ status: 0, payload: encodeResult(noAnswer) });
  t.strictSame(
    (await late).filter((line) => line !== 'RUNNING'),
    ['run 2', '4:A', '5:B', 'end DONE'],
  );
  t.strictSame(await storyOf(client.watch(id)), ['4:A', '5:B', 'end DONE'], 'from the start');
  t.match(await client.ask('Get', { id }), { state: 'DONE', run: 2, lost_runs: 1, last_sequence: 5 });
  t.strictSame(await storyOf(client.watch(id, 6)), ['end DONE'], 'it has all');
  for (const above of [7, 2 ** 40, 2 ** 62])
    t.strictSame(
      await storyOf(client.watch(id, above)),
      ['run 2', '4:A', '5:B', 'end DONE'],
      'it has chunks that are none of this task',
    );
});

t.test('a task is there for the caller alone that submitted it', async (t) => {
  const log = await openLog(t);
  const plane = await sidecarOn(t, log, { inbound: { tasks: { scope_headers: ['x-tenant'] } } });
  const of = (fields: Record<string, string>, port = plane.inboundPort) => new Client(t, port, fields);
  const alice = of({ authorization: 'Bearer alice' });
  const bob = of({ authorization: 'Bearer bob' });
  const tenant = of({ authorization: 'Bearer alice', 'x-tenant': 'two' });
  const nobody = of({});
  const task = { task_id: 'shared', agent_type: 'research', input: 'secret?' };

  const { id } = await alice.ask('Submit', { task });
  t.not((await bob.ask('Submit', { task })).id, id, 'the same request of another caller is another task');
  for (const other of [bob, tenant, nobody]) {
    for (const method of ['Get', 'Cancel'])
      t.match(await other.refusal(method, { id }), {
        code: 'NOT_FOUND',
        details: /no such task of this caller/,
      });
    const error = await storyOf(other.watch(id)).catch((error: grpc.ServiceError) => error);
    t.match(error, { code: grpc.status.NOT_FOUND });
  }
  t.match(await of({ authorization: 'Bearer alice' }, plane.outboundPort).ask('Get', { id }), { id });

  await alice.ask('Submit', { task: { ...task, input: 'another' } });
  type List = { tasks: Task[]; next_page_token: string };
  const all = await alice.ask<List>('List', {});
  t.equal(all.tasks.length, 2);
  t.equal(all.next_page_token, '');
  t.equal((await nobody.ask<List>('List', {})).tasks.length, 0);
  const page = await alice.ask<List>('List', { page_size: 1, agent_type: 'research' });
  const rest = await alice.ask<List>('List', { page_size: 1, page_token: page.next_page_token });
  t.strictSame([...page.tasks, ...rest.tasks], all.tasks, 'page by page');
  t.match(await alice.refusal('List', { page_token: 'broken' }), {
    code: 'INVALID_ARGUMENT',
    reason: 'bad_request',
    details: /page_token/,
  });
  t.match(await alice.ask('Cancel', { id }), { state: 'CANCELLED' });
  t.match(await alice.ask<List>('List', { state: 'CANCELLED' }), { tasks: [{ id, state: 'CANCELLED' }] });
  t.notMatch(JSON.stringify(await log.list({ limit: 10 })), /alice|bob|secret/, 'credentials are not stored');
});

t.test("a task belongs to the name in its caller's certificate", async (t) => {
  const log = await openLog(t);
  const authority = await TestAuthority.make('ours');
  const files = new SecretVolume(t, {
    ...(await authority.issue({ names: ['localhost', '127.0.0.1'] })),
    ca: authority.ca,
  });
  const tls = { cert: files.cert, key: files.key, client_ca: files.ca };
  const plane = await sidecarOn(t, log, { inbound: { tls } });
  const named = async (name: string): Promise<Client> => {
    const { cert, key } = await authority.issue({ names: [name] });
    const [ca, chain, secret] = [authority.ca, cert, key].map((text) => Buffer.from(text));
    return new Client(t, plane.inboundPort, {}, grpc.credentials.createSsl(ca!, secret!, chain!));
  };
  const alice = await named('spiffe://example.org/alice');
  const task = { task_id: 'same', agent_type: 'research', input: 'x' };
  const { id } = await alice.ask('Submit', { task });
  const renewed = await named('spiffe://example.org/alice');
  t.equal((await renewed.ask('Submit', { task })).id, id, 'another connection, and a new certificate');
  const bob = await named('spiffe://example.org/bob');
  t.match(await bob.refusal('Get', { id }), { code: 'NOT_FOUND' });
  t.not((await bob.ask('Submit', { task })).id, id);
  t.match(await new Client(t, plane.outboundPort).refusal('Get', { id }), { code: 'NOT_FOUND' });
});

t.test('a watch that nobody reads ends, and a later one resumes', async (t) => {
  const log = await openLog(t);
  const { sidecar, inboundPort } = await sidecarOn(t, log);
  const service = new TaskService({ patienceMs: 200 });
  service.update(sidecar.config.inbound);
  service.bus = sidecar.inbound.taskService.bus;
  (sidecar.inbound.context.localServices as LocalServices[])[1] = service;
  const client = new Client(t, inboundPort);
  const { id } = await client.ask('Submit', {
    task: { agent_type: 'research', input: 'long' },
    method: 'STREAM_PROCESS',
  });
  const lease = await take(log);
  for (let n = 0; n < 200; n++) await write(lease, 'x'.repeat(16_000));
  const peer = (await H2Peer.connect(t, inboundPort)).behave({ reads: false });
  await peer.headers(1, grpcRequest('/outrigger.v1.Tasks/Watch'));
  await peer.data(1, grpcMessage(stringField(1, id)), true);
  await peer.until('the status comes', () => peer.heads.get(1)?.length === 2);
  const trailers = new Map(peer.heads.get(1)![1]);
  t.equal(trailers.get('grpc-status'), String(grpc.status.RESOURCE_EXHAUSTED));
  t.equal(trailers.get('outrigger-reason'), 'not_read');
  t.ok(peer.dataBytes > 16_000 && peer.dataBytes <= 65_535, `${peer.dataBytes} bytes, a window at most`);
  t.equal(service.openCalls, 0, 'it has given its place back');
  await lease.settle({ status: 0, payload: encodeResult(noAnswer) });
  const rest = await storyOf(client.watch(id, 4));
  t.strictSame([rest.length, rest.at(-1)], [198, 'end DONE'], 'the rest, and the end');
});

t.test('an idempotency key names one request', async (t) => {
  const log = await openLog(t);
  const { outboundPort } = await sidecarOn(t, log);
  const client = new Client(t, outboundPort);
  const submit = { task: { agent_type: 'research', input: 'x' }, idempotency_key: 'k1' };
  const [one, two] = await Promise.all([client.ask('Submit', submit), client.ask('Submit', submit)]);
  t.equal(one.id, two.id);
  const { taskId } = decodeRequest(await (await take(log)).request());
  t.match(taskId, /^[\w-]{32}$/, 'the agent has a task id, too');
  for (const change of [{ input: 'y' }, { agent_type: 'writing' }])
    t.match(await client.refusal('Submit', { ...submit, task: { ...submit.task, ...change } }), {
      code: 'ALREADY_EXISTS',
    });
  t.match(await client.refusal('Submit', { ...submit, method: 'STREAM_PROCESS' }), {
    code: 'ALREADY_EXISTS',
    reason: 'task_differs',
  });
  await client.ask('Cancel', { id: one.id });
  t.match(await client.refusal('Submit', { ...submit, task: { agent_type: 'research', input: 'y' } }), {
    code: 'ALREADY_EXISTS',
  });
  t.match(
    await client.ask('Submit', submit),
    { id: one.id, generation: 2, state: 'QUEUED' },
    'after a cancel',
  );
  const stranger = new Client(t, outboundPort, { authorization: 'Bearer x' });
  t.not((await stranger.ask('Submit', submit)).id, one.id, 'keys are those of one caller');
});

t.test('what the service refuses, it explains', async (t) => {
  const log = await openLog(t);
  const plane = await sidecarOn(t, log, { inbound: { max_message_bytes: 65_536 } });
  const client = new Client(t, plane.inboundPort);
  const research = { agent_type: 'research', input: 'x' };
  const expected: [string, object, object][] = [
    ['Submit', { task: { input: 'x' } }, { code: 'INVALID_ARGUMENT', details: /agent_type/ }],
    ['Submit', { task: research, idempotency_key: 'k'.repeat(257) }, { code: 'INVALID_ARGUMENT' }],
    [
      'Submit',
      { task: { ...research, input: 'x'.repeat(70_000) } },
      { code: 'RESOURCE_EXHAUSTED', reason: 'message_too_large' },
    ],
    ['Get', { id: 'x' }, { code: 'INVALID_ARGUMENT', details: /id/ }],
    ['Get', { id: 'x'.repeat(43) }, { code: 'NOT_FOUND', reason: 'task_unknown' }],
    ['Get', { id: 'x'.repeat(5_000) }, { code: 'RESOURCE_EXHAUSTED' }],
    ['List', { page_token: 'x'.repeat(2_000) }, { code: 'INVALID_ARGUMENT' }],
  ];
  for (const [method, request, refusal] of expected)
    t.match(await client.refusal(method, request), refusal, method);
  const waits = await client.ask('Submit', { task: { ...research, input: 'waits' } });
  for (const [method, message, reason] of [
    ['Vanish', Buffer.alloc(0), 'no_route'],
    ['Get', Buffer.from([255]), 'bad_request'],
    ['Watch', stringField(1, waits.id), 'deadline'],
  ] as const)
    t.equal(await reasonOf(plane.inboundPort, method, message), reason, method);
  for (let n = 0; n < 3; n++) await client.ask('Submit', { task: { ...research, input: String(n) } });
  t.match(await client.refusal('Submit', { task: research }), {
    code: 'RESOURCE_EXHAUSTED',
    reason: 'overloaded',
    details: /max_queued_per_caller/,
  });

  const gone = Object.assign(Object.create(log) as TaskLog, {
    submit: () => Promise.reject(new LogUnavailableError('the bus is gone', false)),
  });
  plane.sidecar.inbound.taskService.bus = { ...plane.sidecar.outbound.taskService.bus!, log: gone };
  t.match(await client.refusal('Submit', { task: research }), {
    code: 'UNAVAILABLE',
    reason: 'bus_unavailable',
  });
  plane.sidecar.inbound.taskService.bus = undefined;
  for (const port of [plane.inboundPort, (await sidecarOn(t, undefined)).outboundPort])
    t.match(await new Client(t, port).refusal('Submit', { task: research }), {
      code: 'UNIMPLEMENTED',
      reason: 'no_route',
      details: /bus\.url/,
    });
});

t.test('a watcher gets all chunks in order, and a drain sends it away', async (t) => {
  const log = await openLog(t);
  const plane = await sidecarOn(t, log, { drain: { delay: '0s' } });
  const client = new Client(t, plane.inboundPort);
  const { id } = await client.ask('Submit', {
    task: { agent_type: 'research', input: 'long' },
    method: 'STREAM_PROCESS',
  });
  const lease = await take(log);
  const text = 'x'.repeat(16_000);
  for (let n = 0; n < 200; n++) await write(lease, text);
  const stream = client.watch(id);
  const chunks: string[] = [];
  let failed: grpc.ServiceError | undefined;
  stream.on('error', (error: grpc.ServiceError) => {
    failed = error;
  });
  stream.on('data', ({ chunk }: Told) => chunk && chunks.push(chunk.chunk.chunk));
  await waitUntil('all chunks', () => chunks.length === 200);
  t.ok(chunks.every((chunk) => chunk === text));
  void plane.sidecar.drain();
  await waitUntil('the watch ends', () => failed !== undefined);
  t.match(failed, { code: grpc.status.UNAVAILABLE, details: /shutting down/ });
});

t.test('a watcher whose task went with its store hears that, and not that all is well', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  const local = await openLocalTaskLog(file, settings);
  t.teardown(() => local.close());
  await hearsOfLostStore(t, local, async () => {
    for (const suffix of ['', '-wal', '-shm']) renameSync(file + suffix, `${file}-old${suffix}`);
  });

  if (skipWithout('nats-server') !== false) return;
  const server = await startNats(t);
  // A silent task is looked at when its time is over.
  const nats = await openNatsLog({ servers: [server.address], settings: { ...settings, maxAgeMs: 1_500 } });
  t.teardown(() => nats.close());
  await hearsOfLostStore(t, nats, async () => {
    const nc = await connectNats({ servers: server.address });
    const { streams } = await jetstreamManager(nc);
    const { config } = await streams.info(KEYS);
    await streams.delete(KEYS);
    await streams.add(config);
    await nc.close();
  });
});

async function hearsOfLostStore(t: Test, log: TaskLog, lose: () => Promise<void>): Promise<void> {
  const plane = await sidecarOn(t, log);
  const client = new Client(t, plane.outboundPort);
  const task = { task_id: 'one', agent_type: 'research', input: 'x' };
  const { id } = await client.ask('Submit', { task });
  const stream = client.watch(id);
  await once(stream, 'data');
  await lose();
  const cut = await storyOf(stream).catch((error: grpc.ServiceError) => error);
  t.match(cut, { code: grpc.status.UNAVAILABLE, details: /moved or removed/ });
  await waitUntil('another store is there', () => log.connected);
  t.match(await client.refusal('Get', { id }), {
    code: 'NOT_FOUND',
    reason: 'task_unknown',
    details: /this bus/,
  });
}
