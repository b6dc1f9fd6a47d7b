// Keepalive with peers that have rules of their own: who sends us too many PINGs, and who finds ours too many.
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  settings,
  startPeerServer,
  uint32,
} from '../scripts/harness/h2-peer.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { clustersSnapshot } from '../sidecar/admin/snapshot.ts';
import { PingGuard } from '../sidecar/grpc/ping-guard.ts';
import { answerWith, startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);

const python = join(import.meta.dirname, 'support', 'python');
const waitPath = '/strict.Server/Wait';
const pingsWelcome = 0xf0a7;

const ping = (number: number) => frame(frameType.ping, 0, 0, Buffer.concat([uint32(0), uint32(number)]));
/** PINGs that were answered. */
const pongs = (peer: H2Peer) =>
  peer.frames.filter(({ type, flags }) => type === frameType.ping && (flags & flag.ack) !== 0).length;
const tooMany = { code: errorCode.enhanceYourCalm, debug: 'too_many_pings' };

/** Sends PINGs one by one, each behind the answer to the one before; @returns how many were answered */
async function pingTimes(peer: H2Peer, count: number): Promise<number> {
  for (let sent = 1; sent <= count && peer.goaway === undefined && !peer.closed; sent++) {
    const before = pongs(peer);
    await peer.send(ping(sent));
    await peer.until('a PING was answered', () => pongs(peer) > before || peer.closed);
  }
  return pongs(peer);
}

/** Python's server, and its address. */
async function startStrictServer(t: Test): Promise<string> {
  const server = startProcess(t, requireTool('python'), [join(python, 'strict_server.py')]);
  await waitUntil('the server has printed its port', () => /^\d+\n/m.test(server.logs()));
  return `127.0.0.1:${/^(\d+)\n/m.exec(server.logs())![1]}`;
}

t.test('the PING guard counts strikes, resets them, and ignores allowed PINGs', async (t) => {
  /** PINGs after these intervals; 'sent' is a HEADERS or DATA frame of ours. @returns what became of each */
  const outcome = (minIntervalMs: number, steps: readonly (number | 'sent')[]): string => {
    const guard = new PingGuard(minIntervalMs);
    let nowMs = 1_000;
    let sent = 0;
    let told = '';
    for (const step of steps) {
      if (step === 'sent') {
        sent++;
        continue;
      }
      nowMs += step;
      told += guard.accepts(nowMs, sent) ? '.' : 'x';
    }
    return told;
  };
  t.equal(outcome(10_000, [0, 0, 0, 0]), '...x', 'the first is free, two strikes are forgiven');
  t.equal(outcome(10_000, Array(100).fill(10_000)), '.'.repeat(100), 'in time');
  t.equal(outcome(10_000, Array(100).fill(9_100)), '.'.repeat(100), 'a network does not keep the beat');
  t.equal(outcome(10_000, Array(4).fill(8_900)), '...x', 'but nearly in time is not in time');
  t.equal(
    outcome(10_000, [0, 1, 10_000, 1, 10_000, 1, 10_000, 1]),
    '.'.repeat(8),
    'a good one takes one back',
  );
  t.equal(outcome(10_000, [0, 1, 1, 10_000, 1, 1]), '.....x', 'and only one');
  t.equal(outcome(10_000, [0, 1, 1, 'sent', 1, 1, 1, 1]), '......x', 'data of ours takes all back');
  t.equal(outcome(10_000, Array(50).fill(['sent', 0]).flat()), '.'.repeat(50), 'a PING behind each answer');
  t.equal(outcome(0, Array(1_000).fill(0)), '.'.repeat(1_000), '0 is off');
});

t.test('a downstream with too many PINGs gets the same GOAWAY as from grpc servers', async (t) => {
  const app = await startUpstream(t, { onCall: () => {} });
  const errors: string[] = [];
  const plane = await startDataPlane(
    t,
    { inbound: { app: app.address } },
    {
      onConnectionError: (listener, { reason, message }) => errors.push(`${listener} ${reason}: ${message}`),
    },
  );
  const idle = await H2Peer.connect(t, plane.inboundPort);
  t.equal(await pingTimes(idle, 10), 3, 'without a call');
  await idle.until('it was sent away', () => idle.closed);
  t.match(idle.goaway, tooMany);
  t.same(errors, ['inbound too_many_pings: its keepalive PINGs came more often than every 10000 ms']);
  t.equal(plane.sidecar.inbound.stats.rejected.get('too_many_pings'), 1);

  const calling = await H2Peer.connect(t, plane.inboundPort);
  await calling.headers(1, grpcRequest('/strict.Server/Wait'), true);
  await waitUntil('the call is there', () => app.calls.length === 1);
  t.equal(await pingTimes(calling, 10), 3, 'with a call that waits');
  await calling.until('it was sent away', () => calling.closed);
  t.match(calling.goaway, { ...tooMany, lastStreamId: 1 }, 'the call was begun');
  await waitUntil('its call ended with it', () => app.calls[0]!.closedWith !== undefined);
});

t.test('a downstream that receives data may send PINGs', async (t) => {
  let answering: (() => void) | undefined;
  const app = await startUpstream(t, {
    onCall: ({ stream }) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      answering = () => void stream.write(grpcMessage(Buffer.from('x')));
    },
  });
  const plane = await startDataPlane(t, { inbound: { app: app.address } });
  const peer = (await H2Peer.connect(t, plane.inboundPort)).behave();
  await peer.headers(1, grpcRequest('/strict.Server/Wait'), true);
  await peer.until('the head is there', () => peer.heads.has(1));
  for (let round = 1; round <= 20; round++) {
    const { dataBytes } = peer;
    answering!();
    await peer.until('data came', () => peer.dataBytes > dataBytes);
    t.equal(await pingTimes(peer, 2), 2 * round);
  }
  t.equal(peer.goaway, undefined);
});

t.test('a new min_time applies to new connections, and 0s turns the guard off', async (t) => {
  const plane = await startDataPlane(t, { inbound: { keepalive: { min_time: '0s' } } });
  const free = await H2Peer.connect(t, plane.inboundPort);
  t.equal(await pingTimes(free, 50), 50);
  await plane.apply({
    inbound: { listen: plane.sidecar.config.inbound.listen, keepalive: { min_time: '1h' } },
  });
  const guarded = await H2Peer.connect(t, plane.inboundPort);
  t.equal(await pingTimes(guarded, 50), 3);
  t.equal(await pingTimes(free, 50), 100, 'the existing connection keeps its interval');
  const told = (peer: H2Peer) => {
    const { payload } = peer.frames.find(({ type }) => type === frameType.settings)!;
    for (let at = 0; at < payload.length; at += 6)
      if (payload.readUInt16BE(at) === pingsWelcome) return payload.readUInt32BE(at + 2);
    return undefined;
  };
  t.same([told(free), told(guarded)], [1, 3_600_000], 'and got too_many_pings');
});

t.test('the local app may send more PINGs, within a bound', async (t) => {
  const plane = await startDataPlane(t, {});
  const app = await H2Peer.connect(t, plane.outboundPort);
  t.equal(await pingTimes(app, 10), 3, 'a loop is stopped');
  t.match(app.goaway, tooMany);
});

t.test('grpc-js recognizes the GOAWAY for too many PINGs', async (t) => {
  const app = await startUpstream(t, { onCall: () => {} });
  const plane = await startDataPlane(t, { inbound: { app: app.address } });
  const client = new RawClient(t, plane.inboundPort, { 'grpc.keepalive_time_ms': 50 });
  const { code } = await client.unary(Buffer.from('x'), { path: waitPath });
  t.equal(code, status.RESOURCE_EXHAUSTED, 'its call goes with the connection');
  t.equal(plane.sidecar.inbound.stats.rejected.get('too_many_pings'), 1);
  t.equal(app.calls.length, 1, 'and is not run again');
});

t.test(
  'an eager grpcio client is disconnected, and a patient one is not',
  { skip: skipWithout('python') },
  async (t) => {
    const app = await startUpstream(t, {
      onCall: ({ stream }) => void setTimeout(() => answerWith(stream, 'x'), 8_000),
    });
    const program = requireTool('python');
    /** Its shortest time is a second, whatever it is told. */
    const run = async (minTime: string) => {
      const inbound = { app: app.address, keepalive: { min_time: minTime } };
      const plane = await startDataPlane(t, { inbound });
      const args = [join(python, 'eager_client.py'), `${plane.inboundPort}`, '8', '1000', '1'];
      return (await runProcess(t, program, args)).output;
    };
    const [strict, lenient] = await Promise.all([run('1h'), run('500ms')]);
    t.match(strict, /^UNAVAILABLE .*too_many_pings/im);
    t.match(lenient, /^OK/m);
  },
);

t.test(
  'keepalive never exceeds the limits of a strict server',
  { skip: skipWithout('python') },
  async (t) => {
    const address = await startStrictServer(t);
    const plane = await startDataPlane(
      t,
      oneCluster([address], { keepalive: { time: '100ms', timeout: '1s' } }),
    );
    const client = new RawClient(t, plane.outboundPort);
    const { code, details } = await client.unary(Buffer.from('5.5'), { path: waitPath });
    t.equal(code, status.OK, details);
    const [endpoint] = plane.sidecar.outbound.clusters.clusters.get('upstream')!.endpoints;
    t.equal(endpoint!.pool.connections[0]!.nextStreamId, 3, 'on its connection');
    t.ok(Number(endpoint!.pool.connections[0]!.control['pingNumber']) >= 2, 'and PINGs were sent');
    t.equal(endpoint!.pool.keepaliveTimeMs, 100);
  },
);

t.test(
  'a busy strict app gets PINGs continuously, and keeps its calls',
  { skip: skipWithout('python') },
  async (t) => {
    const address = await startStrictServer(t);
    const health = { interval: '50ms', timeout: '100ms' };
    const clock = new TestClock();
    const plane = await startDataPlane(t, { inbound: { app: address, health } }, {}, clock);
    const { appHealth, app } = plane.sidecar.inbound;
    await waitUntil('the app serves', () => appHealth.state === 'serving');
    let looks = 0;
    const found = appHealth['found'].bind(appHealth);
    appHealth['found'] = (state) => {
      if (state === 'busy') looks++;
      found(state);
    };
    const [connection] = app.endpoints[0]!.pool.connections;
    const client = new RawClient(t, plane.inboundPort);
    const call = client.unary(Buffer.from('4'), { path: waitPath });
    await waitUntil('the call is with it', () => app.endpoints[0]!.activeCalls === 1);
    const asks = (): boolean => appHealth['probe'] !== undefined;
    for (let look = 1; look <= 8; look++) {
      clock.advance(60);
      t.ok(asks(), 'it gets a PING');
      // The question goes unanswered, and then the sign is asked for and given.
      clock.advance(110);
      await waitUntil('it was found busy', () => looks === look);
    }
    const { code, details } = await call;
    t.equal(code, status.OK, details);
    clock.advance(60);
    await waitUntil('the app serves', () => appHealth.state === 'serving');
    t.equal(app.endpoints[0]!.pool.connections[0], connection, 'over one connection');
    t.equal(connection!.control['pingNumber'], 0, 'without a PING, which servers count');
  },
);

t.test('after too_many_pings, new connections send half as many PINGs', async (t) => {
  const server = await startPeerServer(t, (peer) => {
    peer.behave().send(settings());
    peer.onFrame = ((before) => (received: Parameters<NonNullable<typeof before>>[0]) => {
      before?.(received);
      if (received.type !== frameType.ping || (received.flags & flag.ack) !== 0) return;
      const payload = Buffer.concat([
        uint32(1),
        uint32(errorCode.enhanceYourCalm),
        Buffer.from('too_many_pings'),
      ]);
      void peer.send(frame(frameType.goaway, 0, 0, payload)).then(() => peer.socket.end());
    })(peer.onFrame);
  });
  const told: number[] = [];
  const plane = await startDataPlane(
    t,
    oneCluster([server.address], { keepalive: { time: '100ms', timeout: '60s' } }),
    { onTooManyPings: (_cluster, _endpoint, timeMs) => told.push(timeMs) },
  );
  const client = new RawClient(t, plane.outboundPort);
  for (const expected of [200, 400, 800]) {
    const { code } = await client.unary(Buffer.from('x'), { path: rawPaths.unary });
    t.equal(code, status.UNAVAILABLE);
    t.equal(told.at(-1), expected);
    type Shape = Record<string, { endpoints: { keepalive_ms: number }[] }>;
    const { upstream } = clustersSnapshot(plane.sidecar) as Shape;
    t.equal(upstream!.endpoints[0]!.keepalive_ms, expected, '/clusters shows it');
  }
});

t.test('another sidecar gets PINGs as often as it allows', async (t) => {
  const peers: H2Peer[] = [];
  const server = await startPeerServer(t, (peer) => {
    peers.push(peer);
    peer.behave().send(settings([pingsWelcome, 300]));
  });
  const clock = new TestClock();
  const keepaliveSettings = { time: '50ms', timeout: '1s' };
  const plane = await startDataPlane(
    t,
    oneCluster([server.address], { keepalive: keepaliveSettings }),
    {},
    clock,
  );
  const client = new RawClient(t, plane.outboundPort);
  void client.unary(Buffer.from('x'), { path: rawPaths.unary });
  const peer = await waitUntil('the call is there', () => peers[0]?.heads.has(1) && peers[0]);
  const [endpoint] = plane.sidecar.outbound.clusters.clusters.get('upstream')!.endpoints;
  const [connection] = endpoint!.pool.connections;
  for (let asked = 1; asked <= 3; asked++) {
    clock.advance(asked === 1 ? 290 : 990);
    t.equal(connection!.control['pingNumber'], asked - 1, 'no faster than is welcome');
    clock.advance(20);
    await peer.until('it was asked', () => peer.count(frameType.ping) === asked);
    await waitUntil('the answer came', () => connection!.control['pings'].length === 0);
  }
  const [keepalive] = endpoint!.pool['keepalive']['clocks'].values();
  t.equal(keepalive!.timeMs, 300);
});

t.test('two sidecars with different times do not disconnect each other', async (t) => {
  const app = await startUpstream(t, {
    onCall: ({ stream }) => void setTimeout(() => answerWith(stream, 'late'), 5_000),
  });
  const far = await startDataPlane(t, { inbound: { app: app.address, keepalive: { min_time: '1500ms' } } });
  const near = await startDataPlane(
    t,
    oneCluster([`127.0.0.1:${far.inboundPort}`], { keepalive: { time: '20ms', timeout: '1s' } }),
  );
  const client = new RawClient(t, near.outboundPort);
  t.equal((await client.unary(Buffer.from('x'), { path: waitPath })).code, status.OK);
  t.equal(far.sidecar.inbound.stats.rejected.get('too_many_pings'), undefined);
});
