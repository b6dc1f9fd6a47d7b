// Connection pools on real sockets and a virtual clock.
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import {
  errorCode,
  frame,
  frameType,
  type H2Peer,
  settings,
  startPeerServer,
  uint32,
} from '../../../scripts/harness/h2-peer.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Connection } from '../../http2/connection.ts';
import { DEFAULT_LIMITS } from '../../http2/limits.ts';
import type { Stream, StreamHandler } from '../../http2/streams.ts';
import { ConnectionPool } from './pool.ts';
import type { ConnectionWaiter, PoolOptions } from './pool-types.ts';

const MAX_CONCURRENT_STREAMS = 3;

/** One call as a pool sees it: it waits for a connection, then keeps a stream on it until `end`. */
class Caller implements ConnectionWaiter, StreamHandler {
  readonly name: string;
  connection: Connection | undefined = undefined;
  stream: Stream | undefined = undefined;
  refused: string | undefined = undefined;
  failure: string | undefined = undefined;
  /** Set when the call would use another endpoint rather than wait for a stream. */
  moves = false;
  moved: string | undefined = undefined;
  private readonly log: string[];

  constructor(name: string, log: string[]) {
    this.name = name;
    this.log = log;
  }

  onConnection(connection: Connection): void {
    this.log.push(this.name);
    this.connection = connection;
    this.stream = connection.openStream(this);
  }

  onNoConnection(reason: string): void {
    this.refused = reason;
  }

  onNoStreams(message: string): boolean {
    if (this.moves) this.moved = message;
    return this.moves;
  }

  end(): void {
    this.connection!.reset(this.stream!, errorCode.cancel);
  }

  onHeaders(): void {}
  onData = (): number => 0;
  onDataSent(): void {}
  onFailed(_stream: Stream, failure: { kind: string }): void {
    this.failure = failure.kind;
  }
}

/** A pool whose clock the test moves. */
class Rig {
  readonly wheel = new TimerWheel();
  readonly states: string[] = [];
  readonly failures: string[] = [];
  /** When the pool connected, in milliseconds since the test began. */
  readonly connects: number[] = [];
  /** Callers in the order in which they got their streams. */
  readonly served: string[] = [];
  readonly pool: ConnectionPool;
  nowMs = 0;
  address: string;
  private callers = 0;

  constructor(t: Test, address: string, options: Partial<PoolOptions> = {}) {
    this.address = address;
    const complete = {
      connectTimeoutMs: 5_000,
      maxConnections: 16,
      maxPendingCalls: 1_024,
      keepalive: { timeMs: 30_000, timeoutMs: 10_000 },
      ...options,
    };
    this.pool = new ConnectionPool(
      address,
      complete,
      {
        wheel: this.wheel,
        clock: () => this.nowMs,
        random: () => 0.5,
        limits: () => DEFAULT_LIMITS,
        connect: () => this.connect(),
      },
      {
        onStateChange: () => this.states.push(this.pool.state),
        onConnectFailed: (message) => this.failures.push(message),
      },
    );
    t.teardown(() => this.pool.close());
  }

  private connect(): Socket {
    this.connects.push(this.nowMs);
    return connect(Number(this.address.split(':')[1]), '127.0.0.1');
  }

  /** Lets virtual time pass. Sockets take real time, and the test waits for them. */
  pass(durationMs: number): void {
    const endMs = this.nowMs + durationMs;
    while (this.nowMs < endMs) {
      this.nowMs = Math.min(endMs, this.nowMs + 10);
      this.wheel.advance(this.nowMs);
    }
  }

  call(): Caller {
    const caller = new Caller(String(++this.callers), this.served);
    const connection = this.pool.acquire(caller);
    if (connection !== undefined) caller.onConnection(connection);
    return caller;
  }

  calls(count: number): Caller[] {
    return Array.from({ length: count }, () => this.call());
  }
}

const goaway = (lastStreamId: number, code = 0, debug = ''): Buffer =>
  frame(frameType.goaway, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(code), Buffer.from(debug)]));

const closedAddress = '127.0.0.1:1';

/** A well-behaved server with this limit of streams on a connection. */
async function startServer(
  t: Test,
  maxStreams?: number,
): Promise<{ address: string; peers: readonly H2Peer[] }> {
  return startPeerServer(t, (peer) => {
    const entries: [number, number][] =
      maxStreams === undefined ? [] : [[MAX_CONCURRENT_STREAMS, maxStreams]];
    peer.behave().send(settings(...entries));
  });
}

t.test('the pool opens one connection for the first call and keeps it for the next ones', async (t) => {
  const server = await startServer(t);
  const rig = new Rig(t, server.address);
  t.equal(rig.pool.state, 'idle');
  const callers = rig.calls(3);
  t.equal(rig.pool.state, 'connecting');
  t.equal(rig.pool.pendingCount, 3);
  await waitUntil('all have a stream', () => rig.served.length === 3);
  t.strictSame(rig.states, ['connecting', 'ready']);
  const later = rig.call();
  t.equal(later.connection, callers[0]!.connection, 'without waiting');
  t.strictSame(rig.connects, [0]);
});

t.test('the first byte of a connection must arrive in time', async (t) => {
  const server = await startPeerServer(t, () => {});
  const rig = new Rig(t, server.address, { connectTimeoutMs: 700 });
  const caller = rig.call();
  await waitUntil('TCP has connected', () => server.peers.length === 1);
  rig.pass(690);
  t.equal(caller.refused, undefined);
  rig.pass(20);
  t.equal(caller.refused, 'connect_failed');
  t.match(rig.failures[0], /no HTTP\/2 SETTINGS from 127\.0\.0\.1:\d+ within 700 ms/);
  t.equal(rig.pool.state, 'backingOff');
});

t.test('back-off grows from try to try up to two minutes, and ends with success', async (t) => {
  const rig = new Rig(t, closedAddress);
  const caller = rig.call();
  await waitUntil('it failed', () => rig.failures.length === 1);
  t.equal(caller.refused, 'connect_failed');
  const waits: number[] = [];
  for (let failures = 1; failures < 14; failures++) {
    const before = rig.connects.at(-1)!;
    while (rig.connects.length === failures) rig.pass(10);
    waits.push(rig.connects.at(-1)! - before);
    await waitUntil('it failed again', () => rig.failures.length === failures + 1);
  }
  // Random is 0.5: no jitter. The wheel may add a tick.
  const expected = Array.from({ length: 13 }, (_, step) => Math.min(1_000 * 1.6 ** step, 120_000));
  for (const [step, wait] of waits.entries())
    t.ok(
      wait >= Math.floor(expected[step]!) && wait <= expected[step]! + 20,
      `try ${step + 2} after ${wait} ms`,
    );
  t.equal(rig.pool.state, 'backingOff');

  const server = await startServer(t);
  rig.address = server.address;
  rig.pass(120_020);
  await waitUntil('it is back', () => rig.pool.state === 'ready');
  t.equal(rig.pool.lastFailure, '');
  rig.pass(2_000);
  server.peers[0]!.socket.destroy();
  await waitUntil('it is gone', () => rig.pool.connectionCount === 0);
  rig.address = closedAddress;
  const tries = rig.connects.length;
  rig.call();
  await waitUntil('it failed', () => rig.failures.length === 15);
  while (rig.connects.length === tries + 1) rig.pass(10);
  t.ok(rig.connects.at(-1)! - rig.connects.at(-2)! <= 1_020, 'the next back-off starts at its beginning');
});

t.test('at the limit of streams the pool opens another connection, up to max_connections', async (t) => {
  const server = await startServer(t, 2);
  const rig = new Rig(t, server.address, { maxConnections: 3 });
  const callers = rig.calls(10);
  await waitUntil('six are served', () => rig.served.length === 6);
  t.equal(rig.pool.connectionCount, 3);
  t.equal(rig.pool.pendingCount, 4);
  for (const { streams } of rig.pool.connections) t.equal(streams.size, 2);
  // The end of a call makes room for the one that has waited longest.
  for (const index of [5, 0, 3]) callers[index]!.end();
  t.strictSame(rig.served, ['1', '2', '3', '4', '5', '6', '7', '8', '9']);
  t.equal(callers[6]!.connection, callers[5]!.connection, 'on the connection that has room');
  rig.pool.cancel(callers[9]!);
  callers[1]!.end();
  t.equal(rig.pool.pendingCount, 0);
  t.equal(rig.served.length, 9, 'one that gave up is not served');
  t.equal(rig.connects.length, 3);
});

t.test('a limit that the peer raises or lowers applies from then on', async (t) => {
  const server = await startServer(t, 1);
  const rig = new Rig(t, server.address, { maxConnections: 1 });
  const callers = rig.calls(6);
  await waitUntil('one is served', () => rig.served.length === 1);
  server.peers[0]!.send(settings([MAX_CONCURRENT_STREAMS, 4]));
  await waitUntil('four are', () => rig.served.length === 4);
  server.peers[0]!.send(settings([MAX_CONCURRENT_STREAMS, 2]));
  await waitUntil('the limit came', () => callers[0]!.connection!.peer.maxConcurrentStreams === 2);
  callers[0]!.end();
  callers[1]!.end();
  t.equal(rig.served.length, 4, 'two too many are left');
  callers[2]!.end();
  t.equal(rig.served.length, 5);
});

t.test('a failure to open further connections does not affect the present one', async (t) => {
  const server = await startServer(t, 1);
  const rig = new Rig(t, server.address, { maxConnections: 4 });
  const first = rig.call();
  await waitUntil('it is served', () => rig.served.length === 1);
  rig.address = closedAddress;
  rig.call();
  await waitUntil('a second connection failed', () => rig.failures.length === 1);
  const waiting = rig.calls(20);
  t.equal(rig.connects.length, 2, 'calls that come do not try again within the back-off');
  t.equal(rig.pool.state, 'ready');
  t.ok(
    waiting.every(({ refused }) => refused === undefined),
    'they wait for the connection there is',
  );
  rig.pass(1_020);
  t.equal(rig.connects.length, 3, 'the pool does');
  first.end();
  t.equal(rig.served.length, 2);
});

t.test('the pool refuses calls beyond max_pending_calls at once', async (t) => {
  const server = await startServer(t);
  const rig = new Rig(t, server.address, { maxPendingCalls: 2 });
  const callers = rig.calls(4);
  t.strictSame(
    callers.map(({ refused }) => refused),
    [undefined, undefined, 'pending_overflow', 'pending_overflow'],
  );
  await waitUntil('two are served', () => rig.served.length === 2);
  t.equal(rig.call().refused, undefined, 'those who need not wait are not counted');

  const impatient = new Rig(t, server.address, { maxPendingCalls: 0 });
  t.equal(impatient.call().refused, 'pending_overflow');
  await waitUntil('a connection is there all the same', () => impatient.pool.state === 'ready');
  t.equal(impatient.call().refused, undefined);
});

t.test('the pool replaces a connection after GOAWAY, and its streams continue', async (t) => {
  const server = await startServer(t);
  const rig = new Rig(t, server.address);
  const [below, above] = rig.calls(2);
  await waitUntil('both are served', () => rig.served.length === 2);
  server.peers[0]!.send(goaway(1));
  await waitUntil('the second was not processed', () => above!.failure === 'goaway');
  t.equal(below!.failure, undefined);
  t.equal(rig.pool.state, 'idle');
  const next = rig.call();
  await waitUntil('the next has a new connection', () => next.connection !== undefined);
  t.not(next.connection, below!.connection);
  t.equal(below!.connection!.closed, false);

  // The connection may be dead: calls that still wait on it must notice.
  server.peers[0]!.onFrame = undefined;
  rig.pass(30_020);
  await waitUntil('a PING was sent', () => server.peers[0]!.count(frameType.ping) > 0);
  rig.pass(10_020);
  t.equal(below!.failure, 'connection');
});

t.test('waiting calls get a new connection when the last one closes', async (t) => {
  const server = await startServer(t, 1);
  const rig = new Rig(t, server.address, { maxConnections: 2 });
  const callers = rig.calls(4);
  await waitUntil('two are served', () => rig.served.length === 2);
  for (const peer of server.peers) peer.send(goaway(1));
  await waitUntil('the others are served on new ones', () => rig.served.length === 4);
  t.ok(callers.every(({ failure }) => failure === undefined));
  t.equal(rig.connects.length, 4);
});

t.test('the pool backs off from a server that accepts connections but no calls', async (t) => {
  const server = await startPeerServer(t, (peer) => {
    peer
      .behave()
      .send(settings([MAX_CONCURRENT_STREAMS, 0]), goaway(0))
      .then(() => peer.socket.end());
  });
  const rig = new Rig(t, server.address);
  const caller = rig.call();
  await waitUntil('the call is told', () => caller.refused === 'connect_failed');
  t.equal(rig.pool.state, 'backingOff');
  t.match(rig.pool.lastFailure, /before it took a call/);
  rig.pass(900);
  t.equal(rig.connects.length, 1);
  rig.pass(120);
  t.equal(rig.connects.length, 2);
});

t.test(
  'a server that allows no streams is as one that is still starting, until its time is up',
  async (t) => {
    const server = await startServer(t, 0);
    const rig = new Rig(t, server.address, { connectTimeoutMs: 700 });
    const [stays, moves] = rig.calls(2);
    moves!.moves = true;
    await waitUntil('its SETTINGS came', () => rig.pool.shut);
    t.match(moves!.moved, /takes no calls: its SETTINGS_MAX_CONCURRENT_STREAMS is 0/);
    t.equal(rig.pool.pendingCount, 1, 'the other one waits');
    t.equal(rig.pool.full, true);
    t.equal(rig.pool.state, 'connecting');
    rig.pass(600);
    server.peers[0]!.send(settings([MAX_CONCURRENT_STREAMS, 1]));
    await waitUntil('it is served when there is a stream', () => rig.served.length === 1);
    t.equal(stays!.refused, undefined);
    t.equal(rig.pool.state, 'ready');
    t.equal(rig.pool.full, false);

    const never = new Rig(t, server.address, { connectTimeoutMs: 700 });
    const caller = never.call();
    await waitUntil('its SETTINGS came', () => never.pool.shut);
    never.pass(690);
    t.equal(caller.refused, undefined);
    never.pass(20);
    t.equal(caller.refused, 'connect_failed');
    t.match(never.failures, [/takes no calls: its SETTINGS_MAX_CONCURRENT_STREAMS is 0/]);
    t.equal(never.pool.state, 'backingOff');
    t.equal(never.pool.shut, false);
    never.pass(320);
    t.equal(never.connects.length, 2, 'and is asked again behind the back-off');
  },
);

t.test('the pool uses another connection when a peer allows no more streams', async (t) => {
  let limit = 2;
  const server = await startPeerServer(t, (peer) => {
    peer.behave().send(settings([MAX_CONCURRENT_STREAMS, limit]));
  });
  const rig = new Rig(t, server.address, { maxConnections: 1, connectTimeoutMs: 700 });
  const [first, second, ...waiting] = rig.calls(5);
  await waitUntil('two are served', () => rig.served.length === 2);
  const [peer] = server.peers;
  peer!.send(settings([MAX_CONCURRENT_STREAMS, 0]));
  await waitUntil('two more are, by another connection', () => rig.served.length === 4);
  t.equal(rig.pool.connectionCount, 2);
  t.equal(first!.failure, undefined, 'what runs on the first one goes on');
  t.ok(waiting.every(({ refused }) => refused === undefined));

  // The second connection allows no more streams either, nor would a third.
  limit = 0;
  waiting[2]!.moves = true;
  server.peers[1]!.send(settings([MAX_CONCURRENT_STREAMS, 0]));
  await waitUntil('no stream is to be had', () => waiting[2]!.moved !== undefined);
  t.equal(rig.pool.shut, true);
  const late = rig.call();
  await waitUntil('a third connection was made', () => server.peers.length === 3);
  first!.end();
  second!.end();
  t.equal(late.connection, undefined, 'a stream that ends makes no room');
  await waitUntil('it allows none, either', () => rig.pool['connecting']?.ready === true);
  rig.pass(720);
  t.equal(late.refused, 'connect_failed');
  t.equal(rig.pool.state, 'backingOff');
  peer!.send(settings([MAX_CONCURRENT_STREAMS, 1]));
  await waitUntil('one allows streams again', () => rig.pool.state === 'ready');
  t.equal(rig.call().connection, first!.connection);
  t.equal(rig.pool.lastFailure, '');
});

t.test('when the peer lowers its limit, waiting calls move to other endpoints', async (t) => {
  const server = await startServer(t, 3);
  const rig = new Rig(t, server.address, { maxConnections: 1 });
  const callers = rig.calls(6);
  await waitUntil('three are served', () => rig.served.length === 3);
  t.equal(rig.pool.full, true, 'a call that comes now would wait');
  callers[4]!.moves = true;
  server.peers[0]!.send(settings([MAX_CONCURRENT_STREAMS, 1]));
  await waitUntil('one has gone', () => callers[4]!.moved !== undefined);
  t.match(callers[4]!.moved, /takes fewer calls than before/);
  t.equal(rig.pool.shut, false);
  for (const caller of callers.slice(0, 3)) caller.end();
  t.strictSame(rig.served, ['1', '2', '3', '4'], 'the others keep their turn');
  callers[3]!.end();
  t.strictSame(rig.served, ['1', '2', '3', '4', '6']);
  t.equal(rig.pool.full, false);
});

t.test('keepalive detects a dead peer while a call needs it', async (t) => {
  const server = await startPeerServer(t, (peer) => void peer.send(settings()));
  const rig = new Rig(t, server.address);
  const caller = rig.call();
  await waitUntil('it is served', () => rig.served.length === 1);
  rig.pass(29_000);
  t.equal(server.peers[0]!.count(frameType.ping), 0);
  rig.pass(1_100);
  await waitUntil('a PING came', () => server.peers[0]!.count(frameType.ping) === 1);
  t.equal(caller.failure, undefined);
  rig.pass(10_020);
  t.equal(caller.failure, 'connection');
  t.equal(rig.pool.connectionCount, 0);
});

t.test('the pool sends no PING on a connection without calls', async (t) => {
  const server = await startServer(t);
  const rig = new Rig(t, server.address);
  const caller = rig.call();
  await waitUntil('it is served', () => rig.served.length === 1);
  caller.end();
  rig.pass(600_000);
  const [peer] = server.peers;
  await waitUntil('the reset came', () => peer!.count(frameType.rstStream) === 1);
  t.equal(peer!.count(frameType.ping), 0);
  t.equal(rig.pool.connectionCount, 1);
});

t.test('the pool halves the rate of PINGs after too_many_pings', async (t) => {
  const server = await startServer(t);
  const rig = new Rig(t, server.address);
  for (const [round, intervalMs] of [30_000, 60_000, 120_000].entries()) {
    const caller = rig.call();
    await waitUntil('it is served', () => rig.served.length === round + 1);
    const peer = server.peers[round]!;
    rig.pass(intervalMs - 1_000);
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(peer.count(frameType.ping), 0, `none within ${intervalMs} ms`);
    rig.pass(1_100);
    // What the peer had still to say may arrive only now, and the silence begins after it.
    await waitUntil('one came', () => {
      rig.pass(10);
      return peer.count(frameType.ping) === 1;
    });
    peer.send(goaway(1, errorCode.enhanceYourCalm, 'too_many_pings')).then(() => peer.socket.end());
    await waitUntil('the connection is gone', () => caller.failure === 'connection');
  }
});

t.test('too_many_pings on several connections at the same time doubles the interval once', async (t) => {
  const server = await startServer(t, 1);
  const rig = new Rig(t, server.address);
  const callers = rig.calls(2);
  await waitUntil('both are served', () => rig.served.length === 2);
  rig.pass(31_000);
  await waitUntil('both were asked', () => server.peers.every((peer) => peer.count(frameType.ping) === 1));
  t.equal(rig.pool.keepaliveTimeMs, 30_000);
  for (const peer of server.peers)
    void peer.send(goaway(1, errorCode.enhanceYourCalm, 'too_many_pings')).then(() => peer.socket.end());
  await waitUntil('both are gone', () => callers.every(({ failure }) => failure === 'connection'));
  t.equal(rig.pool.keepaliveTimeMs, 60_000);
  const options = { connectTimeoutMs: 5_000, maxConnections: 16, maxPendingCalls: 1_024 };
  rig.pool.update({ ...options, keepalive: { timeMs: 10_000, timeoutMs: 10_000 } });
  t.equal(rig.pool.keepaliveTimeMs, 60_000, 'a shorter configured time does not undo it');
  rig.pool.update({ ...options, keepalive: { timeMs: 300_000, timeoutMs: 10_000 } });
  t.equal(rig.pool.keepaliveTimeMs, 300_000, 'and it is never below what is configured');
  rig.pool.update({ ...options, keepalive: { timeMs: 0, timeoutMs: 10_000 } });
  t.equal(rig.pool.keepaliveTimeMs, 0, 'off is off');
});

t.test('a closed pool lets its calls finish and accepts no more', async (t) => {
  const server = await startServer(t, 1);
  const rig = new Rig(t, server.address, { maxConnections: 1 });
  const [running, waiting] = rig.calls(2);
  await waitUntil('one is served', () => rig.served.length === 1);
  rig.pool.close();
  t.equal(waiting!.refused, 'connect_failed');
  t.equal(rig.call().refused, 'connect_failed');
  t.equal(running!.failure, undefined);
  t.equal(running!.connection!.closed, false);
  running!.end();
  t.equal(running!.connection!.closed, true, 'behind the last stream');
  t.equal(rig.wheel.size, 0, 'and no timer is left');
});
