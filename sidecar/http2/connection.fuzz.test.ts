// Random bytes, and damaged conversations of node:http2, against a connection in either role.

import * as http2 from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t, { type Test } from 'tap';
import { flag, frame, frameType, headerBlock, preface, settings } from '../../scripts/harness/h2-peer.ts';
import fc from '../../scripts/harness/properties.ts';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { refuseForeignClient, refuseForeignServer } from '../grpc/foreign-peers.ts';
import { Connection } from './connection.ts';
import type { ConnectionOwner } from './connection-owner.ts';
import type { ConnectionError } from './errors.ts';
import type { MessageHead } from './head.ts';
import { HeaderList } from './hpack/header-list.ts';
import { DEFAULT_LIMITS } from './limits.ts';
import { refusedSteps } from './state-machine.ts';
import type { Stream, StreamHandler } from './streams.ts';

type Role = 'server' | 'client';

/** A socket whose other end is the test. It takes the output at once, or leaves it for a while. */
class FakeSocket extends Duplex {
  readonly connecting = false;
  readonly output: Buffer[] = [];
  outputBytes = 0;
  private held: (() => void) | undefined = undefined;
  private open = false;
  private readonly random: () => number;

  constructor(random: () => number) {
    super({ allowHalfOpen: false });
    this.random = random;
    this.on('finish', () => this.destroy());
  }

  setNoDelay(): this {
    return this;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.output.push(Buffer.from(chunk));
    this.outputBytes += chunk.length;
    if (this.open || this.random() < 0.9) done();
    else this.held = done;
  }

  /** Takes all further output at once. */
  releaseAll(): void {
    this.open = true;
    this.release();
  }

  release(): void {
    const { held } = this;
    this.held = undefined;
    held?.();
  }

  override end(): this {
    this.releaseAll();
    return super.end();
  }
}

const responseHead = new HeaderList([':status', '200', 'content-type', 'application/grpc']);
const trailers = new HeaderList(['grpc-status', '0']);
const requestHead = new HeaderList([':method', 'POST', ':scheme', 'http', ':path', '/a', ':authority', 'b']);

/** Uses its streams at random, as a relay between two ends of different speed does. */
class Player implements ConnectionOwner<Connection>, StreamHandler {
  readonly onForeignClient = refuseForeignClient;
  readonly onForeignServer = refuseForeignServer;
  private readonly random: () => number;
  private readonly owed = new Map<Stream, number>();
  readonly live = new Set<Stream>();
  closed: ConnectionError[] = [];
  misuse: string | undefined = undefined;

  constructor(random: () => number) {
    this.random = random;
  }

  onStream(stream: Stream, _list: HeaderList, _head: MessageHead): void {
    stream.handler = this;
    this.live.add(stream);
    if (this.random() < 0.5) this.act(stream);
  }
  onReady(connection: Connection): void {
    if (connection.role === 'client') this.open(connection);
  }
  onCapacity(connection: Connection): void {
    if (this.random() < 0.3 && connection.nextStreamId < 60) this.open(connection);
  }
  onGoaway(): void {}
  onClosed(connection: Connection, error: ConnectionError): void {
    this.closed.push(error);
    if (connection.streams.size > 0) this.misuse = 'streams outlived their connection';
  }
  onHeaders(stream: Stream): void {
    this.check(stream);
    if (this.random() < 0.5) this.act(stream);
  }
  onData(stream: Stream, _buffer: Buffer, start: number, end: number): number {
    this.check(stream);
    const bytes = end - start;
    const taken = this.random() < 0.5 ? bytes : Math.floor(this.random() * bytes);
    this.owed.set(stream, (this.owed.get(stream) ?? 0) + bytes - taken);
    if (this.random() < 0.2) this.act(stream);
    return taken;
  }
  onDataSent(stream: Stream): void {
    this.check(stream);
  }
  onFailed(stream: Stream): void {
    this.check(stream);
    this.live.delete(stream);
  }

  private check(stream: Stream): void {
    if (!this.live.has(stream)) this.misuse = `stream ${stream.id} spoke after its end`;
  }

  open(connection: Connection): void {
    for (let count = 0; count < 4 && connection.hasCapacity; count++) {
      const stream = connection.openStream(this);
      this.live.add(stream);
      connection.sendHeaders(stream, requestHead, undefined, this.random() < 0.3);
    }
  }

  act(stream: Stream): void {
    const { connection } = stream;
    const bytes = Math.floor(this.random() * 40_000);
    const body = Buffer.alloc(bytes);
    switch (Math.floor(this.random() * 7)) {
      case 0:
        connection.sendHeaders(stream, responseHead, ['x', 'y'], false);
        break;
      case 1:
        connection.sendData(stream, body, 0, bytes, false);
        break;
      case 2:
        connection.sendData(stream, body, 0, bytes, true);
        break;
      case 3:
        connection.sendHeaders(stream, trailers, undefined, true);
        break;
      case 4: {
        const owed = this.owed.get(stream) ?? 0;
        this.owed.set(stream, 0);
        connection.consume(stream, owed);
        break;
      }
      case 5:
        connection.stopReceiving(stream);
        break;
      default:
        this.live.delete(stream);
        connection.reset(stream, 8);
    }
  }

  actOnSome(): void {
    for (const stream of [...this.live]) {
      if (stream.closed) this.live.delete(stream);
      else if (this.random() < 0.2) this.act(stream);
    }
  }
}

/** Feeds the bytes in chunks of random size, and checks the connection in between. @returns a fault, if any */
async function feed(role: Role, input: Buffer, seed: number): Promise<string | undefined> {
  const random = seededRandom(seed);
  const socket = new FakeSocket(random);
  const player = new Player(random);
  let nowMs = 0;
  const connection = new Connection(socket as unknown as Socket, player, {
    role,
    limits: DEFAULT_LIMITS,
    clock: () => nowMs++,
  });
  for (let at = 0; at < input.length && !connection.closed; ) {
    const end = Math.min(input.length, at + 1 + Math.floor(random() ** 3 * 20_000));
    // A copy, as a socket makes one.
    socket.emit('data', Buffer.from(input.subarray(at, end)));
    at = end;
    player.actOnSome();
    if (random() < 0.3) socket.release();
    const fault = faultOf(connection, player);
    if (fault !== undefined) return fault;
  }
  // Outside a batch the output follows on the next tick, and waiting output when the socket has drained.
  await turn();
  socket.releaseAll();
  await turn();
  const fault = faultOf(connection, player) ?? faultOfOutput(role, socket, input.length);
  if (fault !== undefined) return fault;
  if (!connection.closed) socket.destroy();
  await turn();
  if (player.closed.length !== 1) return `the owner was notified of the end ${player.closed.length} times`;
  return connection.streams.size === 0 ? undefined : 'streams are left';
}

function faultOf(connection: Connection, player: Player): string | undefined {
  if (player.misuse !== undefined) return player.misuse;
  if (refusedSteps.count > 0) return `an illegal step: ${refusedSteps.latest}`;
  const [error] = player.closed;
  if (error?.cause !== undefined && error.source === 'local') return String((error.cause as Error).stack);
  if (connection.closed) return connection.streams.size === 0 ? undefined : 'closed with streams';
  let unconsumed = 0;
  let queues = 0;
  for (const stream of connection.streams.all()) {
    if (stream.closed) return 'a closed stream is kept';
    unconsumed += stream.unconsumed;
    if (stream.unconsumed < 0) return 'more bytes were consumed than received';
    if (stream.receiveWindow > DEFAULT_LIMITS.streamWindowBytes) return 'a stream window grew';
    if (stream.queue !== undefined) queues++;
    if (Number.isNaN(stream.sendWindow)) return 'a window is not a number';
  }
  const { bufferedBytes, leftBytes } = connection.receiver.window;
  if (bufferedBytes !== unconsumed) return `${bufferedBytes} bytes are counted, ${unconsumed} are there`;
  if (leftBytes > DEFAULT_LIMITS.connectionWindowBytes || leftBytes < 0) return `the window is ${leftBytes}`;
  if (connection.waiting.size !== queues) return `${connection.waiting.size} wait, ${queues} have to`;
  return undefined;
}

/** Our output must consist of frames, whatever the input is, and must not be much longer than the input. */
function faultOfOutput(role: Role, socket: FakeSocket, inputBytes: number): string | undefined {
  const output = Buffer.concat(socket.output);
  let at = 0;
  if (socket.writableLength > 0) return 'output was left behind';
  if (output.toString('latin1', 0, 5) === 'HTTP/') return undefined;
  if (role === 'client') {
    if (!output.subarray(0, preface.length).equals(preface)) return 'no preface';
    at = preface.length;
  }
  let last = -1;
  let control = 0;
  while (at + 9 <= output.length) {
    const length = output.readUIntBE(at, 3);
    last = output[at + 3]!;
    if (last > 9 || last === frameType.pushPromise) return `a frame of type ${last} at ${at}`;
    if (length > 16_384) return 'an oversize frame';
    if (last !== frameType.data) control += 9 + length;
    at += 9 + length;
  }
  if (at !== output.length) return 'half a frame';
  if (control > 4 * inputBytes + 100_000) return `${control} bytes of control for ${inputBytes}`;
  return undefined;
}

// --- Random frames ----------------------------------------------------------------------------------------

const requestBlock = headerBlock([
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/a'],
  [':authority', 'b'],
]);
const responseBlock = headerBlock([[':status', '200']]);
const trailerBlock = headerBlock([['grpc-status', '0']]);
const streamId = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 12 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 31 - 1 }) },
);
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const anyFrame = fc
  .record({ type: fc.nat(11), flags: fc.nat(255), streamId, payload: bytes(60) })
  .map(({ type, flags, streamId, payload }) => frame(type, flags, streamId, payload));
const likelyFrame = fc
  .record({
    kind: fc.nat(8),
    streamId,
    flags: fc.constantFrom(0, 1, 4, 5, 8, 12, 32, 37),
    number: fc.oneof(fc.nat(70_000), fc.constantFrom(0, 1, 2 ** 31 - 1, 2 ** 32 - 1)),
    id: fc.constantFrom(1, 2, 3, 4, 5, 6, 99, 0xf0a7),
    block: fc.constantFrom(requestBlock, responseBlock, trailerBlock),
    length: fc.nat(16_384),
  })
  .map(({ kind, streamId, flags, number, id, block, length }) => {
    const word = Buffer.alloc(4);
    word.writeUInt32BE(number);
    switch (kind) {
      case 0:
      case 1:
        return frame(frameType.headers, flags | flag.endHeaders, streamId, block);
      case 2:
        return frame(frameType.data, flags & 9, streamId, Buffer.alloc(length));
      case 3:
        return frame(frameType.windowUpdate, 0, streamId, word);
      case 4:
        return frame(frameType.rstStream, 0, streamId, word);
      case 5:
        return settings([id, number]);
      case 6:
        return frame(frameType.goaway, 0, 0, Buffer.concat([word, word]));
      case 7:
        return frame(frameType.ping, flags & 1, 0, Buffer.alloc(8));
      default:
        return Buffer.concat([
          frame(frameType.headers, flags & ~flag.endHeaders, streamId, block.subarray(0, 9)),
          frame(frameType.continuation, flag.endHeaders, streamId, block.subarray(9)),
        ]);
    }
  });

for (const role of ['server', 'client'] as const) {
  t.test(`random frames to a ${role}`, async (t) => {
    const begin = role === 'server' ? Buffer.concat([preface, settings()]) : settings();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof({ weight: 9, arbitrary: likelyFrame }, { weight: 1, arbitrary: anyFrame }), {
          maxLength: 60,
        }),
        fc.integer(),
        async (frames, seed) => {
          const fault = await feed(role, Buffer.concat([begin, ...frames]), seed);
          if (fault !== undefined) throw new Error(fault);
        },
      ),
      { numRuns: 1_500 },
    );
    t.pass('1,500 conversations');
  });

  t.test(`random bytes to a ${role}`, async (t) => {
    await fc.assert(
      fc.asyncProperty(bytes(400), fc.boolean(), fc.integer(), async (random, begun, seed) => {
        const begin = role === 'server' ? Buffer.concat([preface, settings()]) : settings();
        const fault = await feed(role, begun ? Buffer.concat([begin, random]) : random, seed);
        if (fault !== undefined) throw new Error(fault);
      }),
      { numRuns: 500 },
    );
    t.pass('500 inputs');
  });
}

// --- Conversations of node:http2, damaged -----------------------------------------------------------------

/** The bytes of both ends of node:http2 while they use all features a little. */
async function record(t: Test): Promise<Record<Role, Buffer>> {
  const server = http2.createServer({ settings: { maxConcurrentStreams: 50, initialWindowSize: 30_000 } });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-bin': 'AAEC' }));
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'x-echo': String(headers['x-value'] ?? '') },
      { waitForTrailers: true },
    );
    stream.pipe(stream);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const said = { server: [] as Buffer[], client: [] as Buffer[] };
  const between = createServer((near) => {
    const far = connect({ port, host: '127.0.0.1' });
    // The output of the client is input for a server, and the output of the server for a client.
    near.on('data', (chunk: Buffer) => said.server.push(chunk)).pipe(far);
    far.on('data', (chunk: Buffer) => said.client.push(chunk)).pipe(near);
    for (const socket of [near, far]) socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  const client = http2.connect(`http://127.0.0.1:${(between.address() as { port: number }).port}`, {
    settings: { initialWindowSize: 20_000, headerTableSize: 512 },
  });
  const call = (size: number, value: string) =>
    new Promise<void>((resolve) => {
      const stream = client.request({ ':method': 'POST', ':path': `/s/${size}`, 'x-value': value });
      stream.on('error', () => {});
      stream.on('close', resolve);
      stream.resume();
      if (size % 7 === 3) setTimeout(() => stream.close(8), 2);
      stream.end(Buffer.alloc(size, 65));
    });
  await Promise.all([call(0, ''), call(10, 'a'), call(100, 'long'.repeat(2_000)), call(50_000, 'b')]);
  client.settings({ initialWindowSize: 60_000, headerTableSize: 4_096 });
  await new Promise((resolve) => client.ping(Buffer.alloc(8), resolve));
  await Promise.all([call(3, 'c'), call(30_000, 'd'), call(17_000, 'a'), call(80_001, 'e'), call(10, 'a')]);
  await new Promise<void>((resolve) => client.close(resolve));
  server.close();
  between.close();
  t.ok(said.server.length > 0 && said.client.length > 0);
  return { server: Buffer.concat(said.server), client: Buffer.concat(said.client) };
}

/** Returns the offsets of the frames of a conversation. */
function frameStarts(conversation: Buffer, from: number): number[] {
  const starts: number[] = [];
  for (let at = from; at + 9 <= conversation.length; at += 9 + conversation.readUIntBE(at, 3))
    starts.push(at);
  return starts;
}

/** Flips, cuts, doubles or swaps bytes, mostly in the heads of frames. */
function damage(conversation: Buffer, from: number, random: () => number): Buffer {
  let damaged = Buffer.from(conversation);
  const below = (limit: number) => Math.floor(random() * limit);
  for (let times = 1 + below(4); times > 0; times--) {
    const starts = frameStarts(damaged, Math.min(from, damaged.length));
    const start = starts[below(starts.length)] ?? 0;
    const next = starts[below(starts.length)] ?? damaged.length;
    const [first, second] = start < next ? [start, next] : [next, start];
    switch (below(7)) {
      case 0:
        damaged[start + below(9)] = below(256);
        break;
      case 1:
        damaged[below(damaged.length)]! ^= 1 << below(8);
        break;
      case 2:
        damaged = Buffer.concat([damaged.subarray(0, first), damaged.subarray(second)]);
        break;
      case 3:
        damaged = Buffer.concat([damaged.subarray(0, second), damaged.subarray(first)]);
        break;
      case 4:
        damaged = damaged.subarray(0, below(damaged.length) + 1);
        break;
      case 5: {
        const junk = Buffer.from(Array.from({ length: below(30) }, () => below(256)));
        damaged = Buffer.concat([damaged.subarray(0, start), junk, damaged.subarray(start)]);
        break;
      }
      default:
        damaged[start + 4] = (damaged[start + 4] ?? 0) ^ (1 << below(8));
    }
    if (damaged.length === 0) return conversation;
  }
  return damaged;
}

/** Node's garbage collector, which needs a flag. Without collections we would take garbage for a leak. */
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

t.test('damaged conversations', async (t) => {
  const recorded = await record(t);
  for (const role of ['server', 'client'] as const) {
    const conversation = recorded[role];
    const from = role === 'server' ? preface.length : 0;
    t.equal(await feed(role, conversation, 1), undefined, `${role}: undamaged, ${conversation.length} bytes`);
    let faults = 0;
    for (let seed = 1; seed <= 600; seed++) {
      const fault = await feed(role, damage(conversation, from, seededRandom(seed)), seed);
      if (fault === undefined) continue;
      t.fail(`${role}, seed ${seed}: ${fault}`);
      if (++faults > 5) break;
    }
    t.equal(faults, 0);
  }
});

t.test('fuzzing leaves no memory behind', async (t) => {
  const { server } = await record(t);
  const run = async (seeds: number) => {
    for (let seed = 1; seed <= seeds; seed++)
      await feed('server', damage(server, preface.length, seededRandom(seed)), seed);
    // V8 frees the memory of buffers beside the program: one collection may be too early to see it.
    let least = Number.POSITIVE_INFINITY;
    for (let collections = 0; collections < 5; collections++) {
      collectGarbage();
      await sleep(20);
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      least = Math.min(least, heapUsed + arrayBuffers);
    }
    return least;
  };
  const first = await run(200);
  const second = await run(200);
  const third = await run(200);
  t.ok(
    Math.min(second, third) < first + 8_000_000,
    `${[first, second, third].map((used) => Math.round(used / 1e5) / 10).join(', ')} MB`,
  );
});
