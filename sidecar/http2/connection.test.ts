// A whole connection over a real socket, with a peer whose frames are made by hand.
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcRequest,
  H2Peer,
  headerBlock,
  preface,
  settings,
  uint32,
} from '../../scripts/harness/h2-peer.ts';
import { resetSocket } from '../../scripts/harness/net.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { socketPair } from '../../test/support/socket-pair.ts';
import { TimerWheel } from '../clock/timer-wheel.ts';
import { refuseForeignClient, refuseForeignServer } from '../grpc/foreign-peers.ts';
import { Keepalive } from '../grpc/keepalive.ts';
import { READ_SIDECAR_SETTINGS, welcomePingIntervalMs } from '../grpc/sidecar-settings.ts';
import { Connection } from './connection.ts';
import type { ConnectionOwner } from './connection-owner.ts';
import type { ConnectionError, StreamFailure } from './errors.ts';
import type { MessageHead } from './head.ts';
import { HeaderList } from './hpack/header-list.ts';
import { type ConnectionLimits, DEFAULT_LIMITS } from './limits.ts';
import type { Stream, StreamHandler } from './streams.ts';

/** The owner and the handler of all streams. It records its events. */
class Owner implements ConnectionOwner<Connection>, StreamHandler {
  readonly onForeignClient = refuseForeignClient;
  readonly onForeignServer = refuseForeignServer;
  readonly streams: Stream[] = [];
  readonly heads: { id: number; fields: readonly string[]; endStream: boolean }[] = [];
  readonly failures: { id: number; failure: StreamFailure }[] = [];
  readonly sent = new Map<number, number>();
  received = 0;
  capacity = 0;
  goaway: { code: number; debug: string } | undefined;
  closedWith: ConnectionError | undefined;
  ready = false;
  faulty = 0;
  /** The number of `length` bytes that `onData` finishes at once. */
  take = (length: number): number => length;
  whenStream: (stream: Stream, endStream: boolean) => void = () => {};

  onStream(stream: Stream, list: HeaderList, _head: MessageHead, endStream: boolean): void {
    stream.handler = this;
    this.streams.push(stream);
    this.heads.push({ id: stream.id, fields: list.fields, endStream });
    this.whenStream(stream, endStream);
  }
  onReady(): void {
    this.ready = true;
  }
  onCapacity(): void {
    this.capacity++;
  }
  onFaulty(): void {
    this.faulty++;
  }
  onGoaway(_connection: Connection, code: number, debug: string): void {
    this.goaway = { code, debug };
  }
  onClosed(_connection: Connection, error: ConnectionError): void {
    this.closedWith = error;
  }
  onHeaders(stream: Stream, list: HeaderList, _head: MessageHead, endStream: boolean): void {
    this.heads.push({ id: stream.id, fields: list.fields, endStream });
  }
  onData(_stream: Stream, _buffer: Buffer, start: number, end: number): number {
    this.received += end - start;
    return this.take(end - start);
  }
  onDataSent(stream: Stream, bytes: number): void {
    this.sent.set(stream.id, (this.sent.get(stream.id) ?? 0) + bytes);
  }
  onFailed(stream: Stream, failure: StreamFailure): void {
    this.failures.push({ id: stream.id, failure });
  }
}

interface Ends {
  readonly owner: Owner;
  readonly connection: Connection;
  readonly peer: H2Peer;
}

/** Our connection in this role, and its peer, which has sent its preface and SETTINGS. */
async function open(
  t: Test,
  role: 'server' | 'client',
  limits: Partial<ConnectionLimits> = {},
  clock: () => number = () => performance.now(),
): Promise<Ends> {
  const [near, far] = await socketPair(t);
  const owner = new Owner();
  const connection = new Connection(near, owner, {
    role,
    limits: { ...DEFAULT_LIMITS, ...limits },
    clock,
    extension: READ_SIDECAR_SETTINGS,
  });
  const peer = new H2Peer(far, role === 'server' ? 'client' : 'server');
  await peer.send(role === 'server' ? preface : Buffer.alloc(0), settings());
  await waitUntil('SETTINGS came', () => owner.ready);
  return { owner, connection, peer };
}

const responseHead = new HeaderList([':status', '200']);
const requestHead = new HeaderList([':method', 'POST', ':scheme', 'http', ':path', '/a', ':authority', 'b']);

t.test('a window that SETTINGS have made negative holds DATA back until it is positive', async (t) => {
  const { owner, connection, peer } = await open(t, 'server');
  owner.whenStream = (stream) => connection.sendHeaders(stream, responseHead, undefined, false);
  await peer.headers(1, grpcRequest('/a'));
  await peer.until('the head came', () => peer.heads.has(1));
  const stream = owner.streams[0]!;
  connection.sendData(stream, Buffer.alloc(10_000), 0, 10_000, false);
  await peer.until('DATA came', () => peer.dataBytes === 10_000);
  await peer.send(settings([4, 1_000]));
  await waitUntil('the window is below zero', () => stream.sendWindow === 1_000 - 10_000);
  connection.sendData(stream, Buffer.alloc(500), 0, 500, false);
  await peer.windowUpdate(1, 9_000);
  await waitUntil('the window is at zero', () => stream.sendWindow === 0);
  t.equal(stream.queue?.bytes, 500, 'zero lets nothing through');
  await peer.windowUpdate(1, 300);
  await peer.until('a part came', () => peer.dataBytes === 10_300);
  await peer.send(settings([4, 1_200]));
  await peer.until('the rest came', () => peer.dataBytes === 10_500);
  t.equal(owner.sent.get(1), 500, 'onDataSent reported the bytes that had waited');
  t.equal(stream.queue, undefined);
});

t.test('a window that overflows resets its stream or ends the connection', async (t) => {
  const { owner, peer } = await open(t, 'server');
  await peer.headers(1, grpcRequest('/a'));
  await peer.headers(3, grpcRequest('/a'));
  await peer.windowUpdate(1, 2 ** 31 - 1);
  await peer.until('stream 1 was reset', () => peer.resets.get(1) === errorCode.flowControlError);
  t.match(owner.failures, [{ id: 1, failure: { kind: 'protocol', code: errorCode.flowControlError } }]);
  await peer.windowUpdate(3, 0);
  await peer.until('stream 3 was reset', () => peer.resets.get(3) === errorCode.protocolError);
  await peer.windowUpdate(0, 2 ** 31 - 1);
  await peer.until('GOAWAY came', () => peer.goaway?.code === errorCode.flowControlError);
  await peer.until('it closed', () => peer.closed);
  t.match(owner.closedWith, { source: 'peer', code: errorCode.flowControlError });

  const other = await open(t, 'server');
  await other.peer.headers(1, grpcRequest('/a'));
  await other.peer.windowUpdate(1, 2 ** 31 - 1 - 65_535);
  await other.peer.send(settings([4, 65_536]));
  await other.peer.until('SETTINGS overflow', () => other.peer.goaway?.code === errorCode.flowControlError);
});

t.test('DATA beyond a receive window resets its stream or ends the connection', async (t) => {
  const { owner, connection, peer } = await open(t, 'server', { connectionWindowBytes: 400_000 });
  owner.take = () => 0;
  const frames = (streamId: number, bytes: number) => {
    for (let left = bytes; left > 0; left -= 16_384)
      peer.data(streamId, Buffer.alloc(Math.min(left, 16_384)));
  };
  await peer.headers(1, grpcRequest('/a'));
  frames(1, 262_144);
  await waitUntil('the whole window came', () => owner.received === 262_144);
  frames(1, 1);
  await peer.until('stream 1 was reset', () => peer.resets.get(1) === errorCode.flowControlError);
  t.equal(connection.closed, false);
  for (const id of [3, 5, 7]) await peer.headers(id, grpcRequest('/a'));
  // The handler does not finish these bytes, but the connection's window reopens.
  for (const id of [3, 5, 7]) frames(id, 262_144);
  await waitUntil('all of it came', () => owner.received === 4 * 262_144);
  t.equal(peer.goaway, undefined);

  const bounded = await open(t, 'server', { connectionWindowBytes: 400_000, maxBufferedBytes: 300_000 });
  bounded.owner.take = () => 0;
  for (const id of [1, 3, 5]) await bounded.peer.headers(id, grpcRequest('/a'));
  for (const id of [1, 3, 5])
    for (let sent = 0; sent < 16; sent++) bounded.peer.data(id, Buffer.alloc(16_384));
  await bounded.peer.until('GOAWAY', () => bounded.peer.goaway?.code === errorCode.flowControlError);
  t.ok(bounded.owner.received < 300_000 + 400_000, 'the waiting bytes of a connection are bounded');
});

t.test(
  'an orderly end sends GOAWAY for all streams, then GOAWAY with the last stream, and then closes',
  async (t) => {
    const { owner, connection, peer } = await open(t, 'server');
    await peer.headers(1, grpcRequest('/a'), true);
    await waitUntil('stream 1 is here', () => owner.streams.length === 1);
    connection.shutdown();
    connection.shutdown();
    await peer.until('the first GOAWAY', () => peer.goaway !== undefined);
    t.match(peer.goaway, { lastStreamId: 2 ** 31 - 1, code: 0 });
    await peer.headers(3, grpcRequest('/a'), true);
    await waitUntil('a call that was on its way is served', () => owner.streams.length === 2);
    const ping = peer.frames.find(({ type }) => type === frameType.ping)!;
    await peer.send(frame(frameType.ping, flag.ack, 0, ping.payload));
    await peer.until('the second GOAWAY', () => peer.goaway?.lastStreamId === 3);
    await peer.headers(5, grpcRequest('/a'), true);
    await peer.send(frame(frameType.ping, 0, 0, Buffer.alloc(8, 9)));
    await peer.until('the PING behind it was answered', () => peer.count(frameType.ping) === 2);
    t.equal(owner.streams.length, 2, 'a later call is ignored: the peer sends it elsewhere');
    t.notOk(peer.resets.has(5));
    for (const stream of owner.streams) connection.sendHeaders(stream, responseHead, undefined, true);
    await peer.until('it closed behind the last stream', () => peer.closed);
    t.ok(peer.ended.has(1) && peer.ended.has(3));
    t.match(owner.closedWith, { source: 'local', code: 0 });

    const idle = await open(t, 'client');
    idle.connection.shutdown();
    await idle.peer.until('a client without calls closes', () => idle.peer.closed);
    t.equal(idle.owner.failures.length, 0);
  },
);

t.test(
  'at the GOAWAY of the peer, streams above its last id fail as unprocessed, and the others continue',
  async (t) => {
    const { owner, connection, peer } = await open(t, 'client');
    const streams = [1, 2, 3].map(() => connection.openStream(owner));
    for (const stream of streams) connection.sendHeaders(stream, requestHead, undefined, true);
    await peer.until('three requests', () => peer.heads.size === 3);
    await peer.send(
      frame(frameType.goaway, 0, 0, Buffer.concat([uint32(1), uint32(11), Buffer.from('calm')])),
    );
    await waitUntil('GOAWAY came', () => owner.goaway !== undefined);
    t.strictSame(owner.goaway, { code: 11, debug: 'calm' });
    t.match(owner.failures, [
      { id: 3, failure: { kind: 'goaway', unprocessed: true } },
      { id: 5, failure: { kind: 'goaway', unprocessed: true } },
    ]);
    t.equal(connection.hasCapacity, false);
    await peer.headers(1, [[':status', '200']], true);
    await peer.until('it closed behind the last one', () => peer.closed);
    t.equal(owner.failures.length, 2);
  },
);

t.test('an interrupted, overlong or endless header block ends the connection', async (t) => {
  const begin = frame(frameType.headers, 0, 1, headerBlock(grpcRequest('/a')));
  const more = frame(frameType.continuation, 0, 1, headerBlock([['x', 'y'.repeat(16_000)]]));
  const endings: [string, Buffer, number][] = [
    ['a PING within it', frame(frameType.ping, 0, 0, Buffer.alloc(8)), errorCode.protocolError],
    ['DATA within it', frame(frameType.data, 0, 1, Buffer.alloc(8)), errorCode.protocolError],
    ['another stream', frame(frameType.continuation, 4, 3), errorCode.protocolError],
    ['too many bytes', Buffer.concat(Array(66).fill(more)), errorCode.enhanceYourCalm],
    ['too many frames', Buffer.concat(Array(2_049).fill(frame(9, 0, 1))), errorCode.enhanceYourCalm],
  ];
  for (const [what, bytes, code] of endings) {
    const { owner, peer } = await open(t, 'server');
    await peer.send(begin, bytes);
    await peer.until(what, () => peer.goaway?.code === code);
    await peer.until(`${what}: closed`, () => peer.closed);
    t.equal(owner.streams.length, 0, what);
  }
});

t.test(
  'a connection ignores frames on a stream that it has reset, and on no other closed stream',
  async (t) => {
    const { owner, connection, peer } = await open(t, 'server');
    await peer.headers(1, grpcRequest('/a'));
    await waitUntil('stream 1', () => owner.streams.length === 1);
    connection.reset(owner.streams[0]!, errorCode.cancel);
    await peer.data(1, Buffer.alloc(100));
    await peer.headers(1, [['trailer', '1']], true);
    await peer.windowUpdate(1, 5);
    await peer.reset(1, errorCode.cancel);
    await peer.headers(3, grpcRequest('/a'), true);
    await waitUntil('stream 3', () => owner.streams.length === 2);
    t.equal(connection.closed, false);
    t.equal(peer.count(frameType.rstStream), 1);
    connection.sendHeaders(owner.streams[1]!, responseHead, undefined, true);
    await peer.until('stream 3 ended', () => peer.ended.has(3));
    await peer.headers(3, grpcRequest('/a'), true);
    await peer.until('GOAWAY', () => peer.goaway?.code === errorCode.streamClosed);
  },
);

t.test(
  'a connection does not read from a downstream that does not read its answers, until it does',
  async (t) => {
    const { owner, connection, peer } = await open(t, 'server');
    owner.whenStream = (stream) =>
      connection.sendHeaders(
        stream,
        new HeaderList([':status', '200', 'x', 'y'.repeat(8_000)]),
        undefined,
        true,
      );
    peer.socket.pause();
    const count = 6_000;
    const block = headerBlock(grpcRequest('/a'));
    for (let id = 1; id < 2 * count; id += 2)
      peer.socket.write(frame(frameType.headers, flag.endHeaders | flag.endStream, id, block));
    const stopped = (): boolean => connection.socket.isPaused() && !connection.inLine;
    await waitUntil('reading stopped for good', stopped);
    const { writableLength } = connection.socket;
    const served = owner.streams.length;
    t.ok(served < count, `${served} of ${count} requests were read`);
    // At most the requests of one read are answered beyond the limit.
    t.ok(writableLength < 16_000_000, `${writableLength} bytes wait`);
    for (let i = 0; i < 20; i++) await turn();
    t.equal(owner.streams.length, served);
    peer.socket.resume();
    await peer.until('all was answered once it read', () => peer.ended.size === count);
    t.equal(connection.closed, false);
  },
);

t.test('a peer that causes much work has turns, and others are served in between', async (t) => {
  const hostile = await open(t, 'server');
  const other = await open(t, 'server');
  await hostile.peer.headers(1, grpcRequest('/a'));
  await waitUntil('the stream is there', () => hostile.owner.streams.length === 1);
  const count = 100_000;
  const tiny = frame(frameType.data, 0, 1, Buffer.from('x'));
  const sent = hostile.peer.send(Buffer.concat(Array(count).fill(tiny)));
  let most = 0;
  let servedAt = -1;
  void other.peer.headers(1, grpcRequest('/a'), true);
  for (let before = 0; before < count; ) {
    await turn();
    const { received } = hostile.owner;
    most = Math.max(most, received - before);
    before = received;
    if (servedAt < 0 && other.owner.streams.length === 1) servedAt = received;
  }
  await sent;
  // The rest of the turn before, one further turn, and what each pause of a busy machine earns the peer meanwhile: without
  // turns it would be all of them.
  t.ok(most < count / 2, `at most ${most} frames in one turn`);
  t.ok(servedAt < count / 2, `the other one was served behind ${servedAt} frames`);
  const updates = hostile.peer.count(frameType.windowUpdate);
  t.ok(updates < 10, `${updates} WINDOW_UPDATEs answer them`);
  await hostile.peer.data(1, Buffer.alloc(100), true);
  await waitUntil('it goes on', () => hostile.owner.received === count + 100);
});

t.test('a connection closes for an upstream that does not read the answers that it requests', async (t) => {
  let nowMs = 0;
  // The clock runs fast, so that the allowance for PINGs never ends the connection.
  const { owner, connection, peer } = await open(t, 'client', {}, () => {
    nowMs += 60_000;
    return nowMs;
  });
  peer.socket.pause();
  const pings = Buffer.concat(Array(1_000).fill(frame(frameType.ping, 0, 0, Buffer.alloc(8))));
  let mostBytes = 0;
  while (!connection.closed && !peer.closed) {
    await new Promise((resolve) => peer.socket.write(pings, resolve));
    mostBytes = Math.max(mostBytes, connection.socket.writableLength);
    await turn();
  }
  t.match(owner.closedWith, { source: 'peer', code: errorCode.enhanceYourCalm });
  t.ok(mostBytes < 4_000_000, `at most ${mostBytes} bytes waited`);
});

t.test('requests that an upstream reads slowly do not end its connection', async (t) => {
  const { owner, connection, peer } = await open(t, 'client');
  const big = new HeaderList([...requestHead.fields, 'x', 'y'.repeat(60_000)]);
  peer.socket.pause();
  // In one event, as a read with many calls causes them.
  let opened = 0;
  for (; connection.hasCapacity && opened < 1_000; opened++)
    connection.sendHeaders(connection.openStream(owner), big, undefined, true);
  t.ok(opened < 1_000, `${opened} streams were opened`);
  const waits = connection.socket.writableLength;
  t.ok(waits < 1_500_000, `${waits} bytes wait`);
  await turn();
  t.equal(connection.closed, false);
  peer.socket.resume();
  await peer.until('all requests came', () => peer.heads.size === opened);
  await waitUntil('there is room again', () => connection.hasCapacity);
});

t.test(
  'an upstream that breaks the protocol on many streams is not asked again, and loses none that runs',
  async (t) => {
    const { owner, connection, peer } = await open(t, 'client');
    const running = connection.openStream(owner);
    connection.sendHeaders(running, requestHead, undefined, true);
    for (let nth = 0; nth < 1_200; nth++) {
      const stream = connection.openStream(owner);
      connection.sendHeaders(stream, requestHead, undefined, true);
      void peer.windowUpdate(stream.id, 0);
    }
    await waitUntil('all were reset', () => owner.failures.length === 1_200);
    t.ok(owner.faulty > 0, 'the owner is notified');
    t.equal(connection.closed, false);
    await peer.headers(1, [[':status', '200']], true);
    await waitUntil('the one that runs is answered', () => owner.heads.length === 1);
  },
);

t.test('a client opens no stream while an upstream leaves much output unread', async (t) => {
  const { owner, connection, peer } = await open(t, 'client');
  const big = new HeaderList([...requestHead.fields, 'x', 'y'.repeat(14_000)]);
  peer.socket.pause();
  let opened = 0;
  while (connection.hasCapacity && opened < 5_000) {
    connection.sendHeaders(connection.openStream(owner), big, undefined, true);
    opened++;
    await turn();
  }
  t.ok(opened < 5_000, `${opened} streams were opened`);
  const { capacity } = owner;
  peer.socket.resume();
  await peer.until('all requests came', () => peer.heads.size === opened);
  await waitUntil('the owner heard of the room', () => connection.hasCapacity && owner.capacity > capacity);
});

t.test('the streams of a lost connection fail with it, once', async (t) => {
  const { owner, connection, peer } = await open(t, 'client');
  const stream = connection.openStream(owner);
  connection.sendHeaders(stream, requestHead, undefined, false);
  connection.sendData(stream, Buffer.alloc(300_000), 0, 300_000, false);
  resetSocket(peer.socket);
  await waitUntil('it closed', () => owner.closedWith !== undefined);
  t.match(owner.closedWith, { source: 'network', reason: 'connection_lost' });
  t.match(owner.failures, [{ id: 1, failure: { kind: 'connection', unprocessed: false } }]);
  t.equal(owner.failures.length, 1);
  t.equal(connection.streams.size, 0);
  connection.sendData(stream, Buffer.alloc(5), 0, 5, true);
  connection.consume(stream, 5);
  connection.reset(stream, 8);
  connection.shutdown();
  t.equal(connection.waiting.size, 0, 'late calls of the methods do nothing');
});

t.test('a handler that throws ends its connection and nothing else', async (t) => {
  const { owner, connection, peer } = await open(t, 'server');
  owner.whenStream = () => {
    throw new Error('a defect');
  };
  await peer.headers(1, grpcRequest('/a'), true);
  await peer.until('GOAWAY', () => peer.goaway?.code === 2);
  t.equal(connection.closed, true);
  t.match(owner.closedWith, { source: 'local', cause: { message: 'a defect' } });
  t.notMatch(peer.goaway?.debug, /defect/, 'the peer is told no insides');
});

t.test('bytes that a handler reports within onData count once', async (t) => {
  const { owner, connection, peer } = await open(t, 'server', { connectionWindowBytes: 65_535 });
  // The handler passes all bytes on, reports them with `consume`, and ends the stream within the same event.
  owner.onData = (stream, _buffer, start, end) => {
    connection.consume(stream, end - start);
    if (stream.id % 4 === 1) connection.reset(stream, 8);
    return 0;
  };
  let id = 1;
  for (let round = 0; round < 40; round++) {
    await peer.headers(id, grpcRequest('/a'));
    await peer.data(id, Buffer.alloc(16_000), true);
    id += 2;
  }
  await waitUntil('all came', () => owner.streams.length === 40);
  await waitUntil('all ended', () => owner.streams.every((stream) => !stream.canReceive));
  t.equal(peer.goaway, undefined, 'the window was given back each time');
  for (const stream of owner.streams) t.equal(stream.unconsumed, 0);
  t.equal(connection.receiver.window.bufferedBytes, 0);
});

// --- Keepalive, on a virtual clock ------------------------------------------------------------------------

class Clock {
  nowMs = 1_000;
  readonly wheel = new TimerWheel();
  readonly read = (): number => this.nowMs;

  advance(ms: number): void {
    const end = this.nowMs + ms;
    while (this.nowMs < end) {
      this.nowMs = Math.min(end, this.nowMs + 100);
      this.wheel.advance(this.nowMs);
    }
  }
}

async function keepaliveEnds(
  t: Test,
  options: { withoutStreams?: boolean; pingsWelcome?: boolean; role?: 'server' | 'client' } = {},
) {
  const clock = new Clock();
  const ends = await open(t, options.role ?? 'client', {}, clock.read);
  if (options.pingsWelcome) {
    await ends.peer.send(settings([0xf0a7, 1]));
    await waitUntil('the setting came', () => welcomePingIntervalMs(ends.connection.peer) === 1);
  }
  const keepalive = new Keepalive(ends.connection, clock.wheel, {
    timeMs: 30_000,
    timeoutMs: 10_000,
    withoutStreams: options.withoutStreams ?? false,
  });
  keepalive.start();
  /** Returns the number of PINGs so far, and answers them unless `answer` is false. */
  const pings = () => ends.peer.count(frameType.ping);
  return { ...ends, clock, keepalive, pings };
}

t.test('keepalive sends a PING after silence, and closes a connection without an answer', async (t) => {
  const { owner, connection, peer, clock, pings } = await keepaliveEnds(t);
  connection.sendHeaders(connection.openStream(owner), requestHead, undefined, false);
  clock.advance(29_000);
  await peer.headers(1, [[':status', '200']]);
  await waitUntil('the head came', () => owner.heads.length === 1);
  clock.advance(29_000);
  await turn();
  t.equal(pings(), 0, 'received bytes delay it');
  clock.advance(2_000);
  await peer.until('PING', () => pings() === 1);
  clock.advance(8_000);
  t.equal(connection.closed, false);
  clock.advance(3_000);
  t.equal(connection.closed, true);
  t.match(owner.closedWith, { source: 'network', reason: 'keepalive' });
  t.match(owner.failures, [{ failure: { kind: 'connection' } }]);
});

t.test('keepalive accepts any byte as an answer', async (t) => {
  const { owner, connection, peer, clock, pings } = await keepaliveEnds(t, { pingsWelcome: true });
  connection.sendHeaders(connection.openStream(owner), requestHead, undefined, false);
  clock.advance(10_000);
  for (let asked = 1; asked <= 5; asked++) {
    clock.advance(21_000);
    await peer.until('PING', () => pings() === asked);
    const before = connection.lastReadAtMs;
    await peer.windowUpdate(0, 1);
    await waitUntil('a byte came', () => connection.lastReadAtMs > before);
    clock.advance(10_000);
    t.equal(connection.closed, false);
  }
});

t.test('keepalive sends few PINGs to peers that have not announced that PINGs are welcome', async (t) => {
  const { owner, connection, peer, clock, pings } = await keepaliveEnds(t);
  peer.behave();
  connection.sendHeaders(connection.openStream(owner), requestHead, undefined, false);
  const settle = async () => {
    const asked = connection.control['pingNumber'] as number;
    await waitUntil('the PINGs were answered', () => connection.control['pings'].length === 0);
    return asked;
  };
  for (let step = 0; step < 40; step++) {
    clock.advance(6_000);
    await settle();
  }
  t.equal(pings(), 2, 'two in four minutes of silence');
  for (let step = 0; step < 100; step++) {
    clock.advance(6_000);
    await settle();
  }
  t.ok(pings() >= 3 && pings() <= 4, `then one each five minutes: ${pings()}`);
  const before = pings();
  await peer.headers(1, [[':status', '200']]);
  await waitUntil('the head came', () => owner.heads.length === 1);
  for (let step = 0; step < 15; step++) {
    clock.advance(6_000);
    await settle();
  }
  t.ok(pings() >= before + 1, 'after data it sends PINGs again');
});

t.test(
  'keepalive leaves a connection without calls alone, and wakes for it no more than it must',
  async (t) => {
    const { owner, connection, peer, clock, pings, keepalive } = await keepaliveEnds(t);
    let wakes = 0;
    const { onTimeout } = keepalive;
    keepalive.onTimeout = function counted(nowMs: number) {
      wakes++;
      onTimeout.call(this, nowMs);
    };
    clock.advance(600_000);
    await turn();
    t.equal(pings(), 0);
    t.ok(wakes <= 21, `it woke ${wakes} times in ten minutes`);
    connection.sendHeaders(connection.openStream(owner), requestHead, undefined, false);
    clock.advance(31_000);
    await peer.until('PING', () => pings() === 1);

    const asked = await keepaliveEnds(t, { withoutStreams: true, role: 'server' });
    asked.clock.advance(31_000);
    await asked.peer.until('a listener sends PINGs to its idle downstreams', () => asked.pings() === 1);
  },
);
