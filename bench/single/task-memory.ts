/**
 * Measures the memory of two sidecars, a gateway's and an agent's, whose tasks are large: answers and requests of 9.9 MB, which many callers read, join, watch
 * and submit at once, on a task file or on a NATS server. It prints the highest resident memory in each scene, and how the calls ended.
 *
 *     node bench/single/task-memory.ts [file|nats] [SCENE,SCENE,…]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import {
  type ClientHttp2Session,
  connect,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from '../../scripts/harness/memory.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { startNats } from '../../sidecar/bus/nats/test-support/nats-server.ts';
import { ServingStatus, writeServingStatus } from '../../sidecar/task/health-message.ts';
import { bytesField, FieldReader, stringField, varintField } from '../../sidecar/task/protobuf.ts';
import { isTaskPath, PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../../sidecar/task/task-message.ts';
import { Cleanup } from '../world/cleanup.ts';

const LARGE_BYTES = 9_900_000;
const MIB = 1_048_576;
const TASKS = '/outrigger.v1.Tasks/';
const HEALTH_CHECK_PATH = '/grpc.health.v1.Health/Check';
const STREAM_PROCESS = 2;
const SAMPLE_MS = 20;

const cleanup = new Cleanup();
const engine = process.argv[2] === 'nats' ? 'nats' : 'file';
const wanted = process.argv[3]?.split(',');

const large = Buffer.alloc(LARGE_BYTES, 'x').toString('latin1');

/** The agent: a task whose input begins with `large` has a large answer; a stream has it in messages of a megabyte. */
function answer(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  let bytes = 0;
  let isLarge = false;
  stream.on('error', () => {});
  if (!isTaskPath(String(headers[':path']))) {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(
      headers[':path'] === HEALTH_CHECK_PATH ? writeServingStatus(ServingStatus.SERVING) : undefined,
    );
    return;
  }
  stream.on('data', (chunk: Buffer) => {
    isLarge ||= bytes < 500 && chunk.subarray(0, 200).includes('large answer');
    bytes += chunk.length;
  });
  stream.on('end', () => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    const text = isLarge ? large : 'short';
    if (headers[':path'] === STREAM_PROCESS_PATH)
      for (let at = 0; at < text.length; at += MIB)
        stream.write(framed(stringField(1, text.slice(at, at + MIB))));
    else stream.write(framed(stringField(2, text)));
    stream.end();
  });
}

function framed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

interface Ended {
  readonly status: string;
  readonly bytes: number;
  /** The last message, of a short answer. */
  readonly message: Buffer;
}

/** @param pauseMs before the first byte of the answer is read */
function call(
  session: ClientHttp2Session,
  path: string,
  message: Buffer,
  { pauseMs = 0, authority = 'tasks' } = {},
): Promise<Ended> {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    ':authority': authority,
    'content-type': 'application/grpc',
    te: 'trailers',
    'grpc-timeout': '120S',
  });
  return new Promise((resolve) => {
    let status = '';
    let bytes = 0;
    let first: Buffer = Buffer.alloc(0);
    const take = (fields: IncomingHttpHeaders): void => {
      status = String(fields['grpc-status'] ?? status);
    };
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('error', () => {});
    stream.on('close', () => {
      const how = status === '' ? `reset ${stream.rstCode}` : status;
      resolve({ status: how, bytes, message: first.subarray(5) });
    });
    const read = (): void => {
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes < 65_536) first = Buffer.concat([first, chunk]);
      });
    };
    if (pauseMs > 0) setTimeout(read, pauseMs);
    else read();
    stream.end(framed(message));
  });
}

function submission(input: string, { method = 1, agentType = 'research', id = '' } = {}): Buffer {
  const task = Buffer.concat([stringField(1, id), stringField(3, agentType), stringField(4, input)]);
  return Buffer.concat([bytesField(1, task), varintField(2, method)]);
}

/** The id and the state of a Task. */
function taskOf({ message, status }: Ended): { id: string; state: number } {
  if (status !== '0') throw new Error(`a call of outrigger.v1.Tasks ended with ${status}`);
  const reader = new FieldReader(message, 0, message.length);
  let [id, state] = ['', 0];
  while (reader.next()) {
    if (reader.field === 1) id = reader.text();
    if (reader.field === 3) state = reader.varint;
  }
  return { id, state };
}

class World {
  private readonly gateway: Sidecar;
  private readonly agent: Sidecar;
  /** To the gateway's sidecar, where callers call, and apps submit. */
  readonly inbound: ClientHttp2Session;
  readonly outbound: ClientHttp2Session;

  constructor(gateway: Sidecar, agent: Sidecar) {
    this.gateway = gateway;
    this.agent = agent;
    this.inbound = this.connect(gateway.inboundPort);
    this.outbound = this.connect(gateway.outboundPort);
  }

  private connect(port: number): ClientHttp2Session {
    const session = connect(`http://127.0.0.1:${port}`, {
      maxSessionMemory: 1_000,
      settings: { initialWindowSize: MIB },
    });
    session.setMaxListeners(0);
    session.once('connect', () => session.setLocalWindowSize(64 * MIB));
    cleanup.teardown(() => session.destroy());
    return session;
  }

  /** Returns the id of a task that has ended. */
  async done(input: string, options = {}): Promise<string> {
    const { id } = taskOf(await call(this.inbound, `${TASKS}Submit`, submission(input, options)));
    const { status } = await call(this.inbound, `${TASKS}Watch`, stringField(1, id));
    if (status !== '0') throw new Error(`the task ended with ${status}`);
    return id;
  }

  async measure(name: string, calls: () => readonly Promise<Ended>[]): Promise<void> {
    if (wanted !== undefined && !wanted.includes(name)) return;
    // V8 collects the garbage of the scene before.
    await sleep(3_000);
    const resident = (): number[] => [this.gateway, this.agent].map(({ pid }) => residentBytes(pid));
    const before = resident();
    let most = before;
    const timer = setInterval(() => {
      most = resident().map((bytes, at) => Math.max(bytes, most[at]!));
    }, SAMPLE_MS);
    const startMs = performance.now();
    const ended = await Promise.all(calls());
    clearInterval(timer);
    const counts = new Map<string, number>();
    for (const { status } of ended) counts.set(status, (counts.get(status) ?? 0) + 1);
    const mib = (sizes: readonly number[]): string =>
      sizes.map((bytes) => (bytes / MIB).toFixed(0)).join(' and ');
    console.log(
      `${name}: ${ended.length} calls in ${((performance.now() - startMs) / 1_000).toFixed(1)} s, resident memory of gateway and agent ${mib(before)} MiB before, ` +
        `${mib(most)} MiB at most; statuses ${[...counts].map(([status, count]) => `${status} x ${count}`).join(', ')}`,
    );
  }
}

const times = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));

async function busUrl(): Promise<string> {
  if (engine === 'nats') return `nats://${(await startNats(cleanup)).address}`;
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-task-memory-'));
  cleanup.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return `file:${join(folder, 'tasks.db')}`;
}

async function startAgent(): Promise<string> {
  const server = createServer();
  server.on('stream', (stream, headers) => answer(stream, headers));
  server.on('sessionError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanup.teardown(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

try {
  const url = await busUrl();
  const env = { NODE_OPTIONS: '--max-semi-space-size=4' };
  const agent = await startSidecar(
    cleanup,
    {
      name: 'agent',
      inbound: { app: await startAgent() },
      bus: { url, consume: { agent_types: ['research'] } },
    },
    { env },
  );
  const gateway = await startSidecar(
    cleanup,
    { name: 'gateway', outbound: { clusters: { research: { bus: 'research' } } }, bus: { url } },
    { env, until: 'live' },
  );
  const world = new World(gateway, agent);
  const { inbound, outbound } = world;
  const unary = await world.done('large answer');
  const streamed = await world.done('large answer', { method: STREAM_PROCESS });
  const name = (id: string): Buffer => stringField(1, id);
  await world.measure('gets', () => times(60, () => call(inbound, `${TASKS}Get`, name(unary))));
  await world.measure('slow-gets', () =>
    times(60, () => call(inbound, `${TASKS}Get`, name(unary), { pauseMs: 3_000 })),
  );
  await world.measure('watches', () => times(60, () => call(inbound, `${TASKS}Watch`, name(streamed))));
  const task = Buffer.concat([
    stringField(1, 'joined'),
    stringField(3, 'research'),
    stringField(4, 'large answer'),
  ]);
  const research = { authority: 'research' };
  await world.measure('joins', () => times(200, () => call(outbound, PROCESS_TASK_PATH, task, research)));
  const request = (at: number): Buffer =>
    Buffer.concat([stringField(1, `request ${at}`), stringField(3, 'research'), stringField(4, large)]);
  await world.measure('requests', () =>
    times(24, (at) => call(outbound, PROCESS_TASK_PATH, request(at), research)),
  );
  await world.measure('submits', () =>
    times(24, (at) =>
      call(inbound, `${TASKS}Submit`, submission(large, { id: `submit ${at}`, agentType: 'nobody' })),
    ),
  );
} finally {
  await cleanup.run();
}
