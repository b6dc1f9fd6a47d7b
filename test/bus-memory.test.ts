// What readers and submitters of large tasks hold at once: bytes that are in memory after a collection, and not time.
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import t, { type Test } from 'tap';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { BusMemory } from '../sidecar/bus/memory/bus-memory.ts';
import { collectGarbage } from '../sidecar/node/collect-garbage.ts';
import { bytesField, FieldReader, stringField, varintField } from '../sidecar/task/protobuf.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { startScene } from './support/bus-scene.ts';
import { grpcFrame, taskRequest } from './support/upstream.ts';

t.setTimeout(180_000);

const MIB = 1_048_576;
const LARGE_BYTES = 4_900_000;
const READERS = 24;
const MEMORY = { max_memory_bytes: '8MiB' };
/** The bound of answers, what windows let through, and what one collection leaves; all answers would be 118 MB. */
const MOST_HELD_BYTES = 24 * MIB;
const TASKS = '/outrigger.v1.Tasks/';

/** A call that reads nothing until it is told to. */
class Reader {
  readonly stream: ClientHttp2Stream;
  bytes = 0;
  fields: Record<string, unknown> = {};
  private readonly closed: Promise<void>;

  constructor(session: ClientHttp2Session, path: string, message: Buffer, timeout = '120S') {
    this.stream = session.request({
      ':method': 'POST',
      ':path': path,
      ':authority': 'research',
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-timeout': timeout,
    });
    this.stream.on('error', () => {});
    for (const event of ['response', 'trailers'])
      this.stream.on(event, (fields: object) => Object.assign(this.fields, fields));
    this.closed = new Promise((resolve) => this.stream.once('close', resolve));
    this.stream.end(grpcFrame(message));
  }

  async ended(): Promise<unknown> {
    this.stream.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
    });
    await this.closed;
    return this.fields['grpc-status'];
  }
}

function sessionTo(t: Test, port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 1_000 });
  session.setMaxListeners(0);
  // Those that do not read stall themselves, and not the others of their connection.
  session.once('connect', () => session.setLocalWindowSize(16 * MIB));
  t.teardown(() => session.destroy());
  return session;
}

/** Submits a task that an agent's sidecar has taken, and returns its id. */
async function submit(session: ClientHttp2Session, id: string, method: number): Promise<string> {
  const message = Buffer.concat([
    bytesField(1, taskRequest({ id, type: 'research' })),
    varintField(2, method),
  ]);
  const reader = new Reader(session, `${TASKS}Submit`, message);
  const parts: Buffer[] = [];
  reader.stream.on('data', (chunk: Buffer) => parts.push(chunk));
  await reader.ended();
  const task = Buffer.concat(parts).subarray(5);
  const fields = new FieldReader(task, 0, task.length);
  while (fields.next()) if (fields.field === 1) return fields.text();
  throw new Error('the task has no id');
}

function heldBytes(): number {
  for (let round = 0; round < 2; round++) collectGarbage();
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}

interface Crowd {
  readonly memory: BusMemory;
  /** The bytes that each call gets at least. */
  readonly bytes: number;
  begin(timeout?: string): Reader;
}

/** Lets many call while nobody reads, and looks at what they hold; then all read, and each gets everything. */
async function crowd(t: Test, { memory, bytes, begin }: Crowd): Promise<void> {
  const before = heldBytes();
  const readers = Array.from({ length: READERS }, () => begin());
  await waitUntil('those that have no room wait', () => memory.answers.waiting > READERS / 2);
  const held = heldBytes() - before;
  t.comment(`${READERS} readers of ${bytes} bytes hold ${held}`);
  t.ok(held < MOST_HELD_BYTES, `${held} bytes are held`);
  t.ok(memory.answers.bytes <= Math.max(memory.answers.maxBytes, bytes));
  const hasty = await waitUntil('who has no time to wait is refused', async () => {
    const reader = begin('500m');
    // On a busy machine the deadline itself may come first.
    return (await reader.ended()) === '8' && reader;
  });
  t.equal(hasty.fields['outrigger-reason'], 'overloaded');
  t.match(decodeURIComponent(String(hasty.fields['grpc-message'])), /bus\.max_memory_bytes/);
  const statuses = await Promise.all(readers.map((reader) => reader.ended()));
  t.strictSame([...new Set(statuses)], ['0']);
  t.strictSame(
    readers.filter((reader) => reader.bytes < bytes),
    [],
    'each got all',
  );
  await waitUntil('all is given back', () => memory.answers.bytes === 0);
}

t.test('many readers of large answers and chunks hold a bounded memory, and all are served', async (t) => {
  const scene = await startScene(t, MEMORY);
  const { memory } = scene.plane.sidecar.busSide.bus;
  const [inbound, outbound] = [sessionTo(t, scene.plane.inboundPort), sessionTo(t, scene.plane.outboundPort)];
  const answer = 'x'.repeat(LARGE_BYTES);
  const submitted = submit(inbound, 'one', 1);
  await (await scene.consumer.take()).answer({ answer });
  const one = stringField(1, await submitted);
  await waitUntil(
    'it has ended',
    async () => (await scene.consumer.log.get(String(await submitted)))?.state === 'done',
  );
  await t.test('Get', (t) =>
    crowd(t, {
      memory,
      bytes: LARGE_BYTES,
      begin: (timeout) => new Reader(inbound, `${TASKS}Get`, one, timeout),
    }),
  );
  const streamed = submit(inbound, 'two', 2);
  const task = await scene.consumer.take();
  const chunk = stringField(1, 'c'.repeat(2_500_000));
  for (let at = 0; at < 2; at++) await task.lease.write(1, grpcFrame(chunk));
  await task.answer();
  const two = stringField(1, await streamed);
  await t.test('Watch', (t) =>
    crowd(t, {
      memory,
      bytes: 5_000_000,
      begin: (timeout) => new Reader(inbound, `${TASKS}Watch`, two, timeout),
    }),
  );
  const request = taskRequest({ id: 'three', type: 'research' });
  const call = (timeout?: string): Reader => new Reader(outbound, PROCESS_TASK_PATH, request, timeout);
  const first = call().ended();
  await (await scene.consumer.take()).answer({ answer });
  t.equal(await first, '0');
  await t.test('joining calls', (t) => crowd(t, { memory, bytes: LARGE_BYTES, begin: call }));
});

t.test('requests wait for room, and none of them is lost', async (t) => {
  const scene = await startScene(t, MEMORY);
  const { memory } = scene.plane.sidecar.busSide.bus;
  const session = sessionTo(t, scene.plane.outboundPort);
  const input = 'r'.repeat(2 * MIB);
  const calls = Array.from({ length: 12 }, (_, at) => {
    const request = taskRequest({ id: `request ${at}`, type: 'research', input });
    return new Reader(session, PROCESS_TASK_PATH, request).ended();
  });
  let most = 0;
  const answered = new Set<string>();
  for (let count = 0; count < calls.length; count++) {
    most = Math.max(most, memory.requests.bytes);
    const task = await scene.consumer.take();
    answered.add(task.request.taskId);
    t.equal(
      task.request.message.length,
      taskRequest({ id: task.request.taskId, type: 'research', input }).length,
    );
    await task.answer({ answer: 'short' });
  }
  t.equal(answered.size, calls.length);
  t.strictSame([...new Set(await Promise.all(calls))], ['0']);
  t.ok(most <= Math.max(memory.requests.maxBytes, 4 * 2.1 * MIB), `${most} bytes`);
  await waitUntil('all is given back', () => memory.requests.bytes === 0);
});
