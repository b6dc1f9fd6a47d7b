// Whom a time limit of ours may end, and whom not. Both listeners, with the defaults, by a clock that the test moves; at
// the end the same through whole sidecars in real time.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcRequest,
  H2Peer,
  headerBlock,
} from '../scripts/harness/h2-peer.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { heldRequests } from '../sidecar/http2/held-requests.ts';
import { silence, startReplica } from './support/answers.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream, taskRequest } from './support/upstream.ts';

const processTask = '/agent.AgentService/ProcessTask';
const streamProcess = '/agent.AgentService/StreamProcess';
const unknown = '/any.Service/Method';
const warmUp = '/warm.Up/Call';
const watch = '/grpc.health.v1.Health/Watch';

const message = grpcFrame(taskRequest({ input: 'x' }));
const grpcHead = { ':status': 200, 'content-type': 'application/grpc' } as const;
const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;

/** PINGs would find the test's ends silent while hours pass in a moment; so would the look at the app. */
const noKeepalive = { time: '0s' };

type Side = 'inbound' | 'outbound';
const sides: readonly Side[] = ['inbound', 'outbound'];

interface Scene {
  readonly clock: TestClock;
  readonly plane: DataPlane;
  /** Calls of the app, or of the endpoint. */
  readonly calls: readonly SeenCall[];
  call(path: string, options?: CallOptions): Promise<OpenCall>;
  apply(settings: object): Promise<void>;
}

interface CallOptions {
  readonly fields?: readonly [string, string][];
  /** Parts of the request; by default its message, which ends it. */
  readonly parts?: readonly Buffer[];
  readonly ends?: boolean;
  readonly reads?: boolean;
}

/** A caller of one call on a connection of its own. */
class OpenCall {
  readonly peer: H2Peer;
  private readonly clock: TestClock;

  constructor(peer: H2Peer, clock: TestClock) {
    this.peer = peer;
    this.clock = clock;
  }

  /** Lets time pass; what has come of it is known afterwards. */
  async after(ms: number): Promise<void> {
    this.clock.advance(ms);
    await this.peer.roundTrip();
  }

  async send(body: Buffer, end = false): Promise<void> {
    await this.peer.data(1, body, end);
    await this.peer.roundTrip();
  }

  get ended(): boolean {
    return this.peer.ended.has(1) || this.peer.resets.has(1) || this.peer.closed;
  }

  get reason(): string | undefined {
    return this.peer.field(1, 'outrigger-reason');
  }

  get details(): string {
    return decodeURIComponent(this.peer.field(1, 'grpc-message') ?? '');
  }

  get status(): string | undefined {
    return this.peer.field(1, 'grpc-status');
  }
}

async function startScene(t: Test, side: Side, settings: object = {}): Promise<Scene> {
  const clock = new TestClock();
  const calls: SeenCall[] = [];
  const app = await startUpstream(t, {
    health: true,
    onCall: (call) => {
      const path = call.headers[':path'];
      if (path === warmUp || path === '/grpc.health.v1.Health/Check') answerWith(call.stream, '');
      else calls.push(call);
    },
  });
  const contentOf = (settings: object) => {
    const inbound = {
      app: app.address,
      health: { interval: '0s' },
      keepalive: { time: '0s', max_connection_age: '0s' },
    };
    return side === 'inbound'
      ? { inbound: { ...inbound, ...settings } }
      : { inbound, ...oneCluster([app.address], { keepalive: noKeepalive, ...settings }) };
  };
  const plane = await startDataPlane(t, contentOf(settings), {}, clock);
  const port = side === 'inbound' ? plane.inboundPort : plane.outboundPort;
  // A connection that is still being made has a clock, too.
  t.equal((await new RawClient(t, port).unary(Buffer.alloc(0), { path: warmUp })).code, status.OK);
  return {
    clock,
    plane,
    calls,
    apply: (settings) => plane.apply(contentOf(settings)),
    call: async (path, { fields = [], parts = [message], ends = true, reads = true } = {}) => {
      const peer = (await H2Peer.connect(t, port)).behave({ reads });
      await peer.headers(1, grpcRequest(path, ...fields));
      for (const [index, part] of parts.entries())
        await peer.data(1, part, ends && index === parts.length - 1);
      await peer.roundTrip();
      return new OpenCall(peer, clock);
    },
  };
}

const arrived = ({ calls }: Scene, count: number): Promise<SeenCall> =>
  waitUntil('the app has the call', () => calls[count - 1]);

for (const side of sides) {
  t.test(
    `${side}: our time limit applies only to calls known to be unary, without a caller's deadline`,
    async (t) => {
      const scene = await startScene(t, side);
      const call = await scene.call(processTask);
      const seen = await arrived(scene, 1);
      await call.after(minute - second);
      t.notOk(call.ended);
      await call.after(second + 20);
      t.equal(call.status, '4');
      t.equal(call.reason, 'deadline');
      t.match(call.details, /the configured timeout of 60000 ms/);
      await waitUntil('the app heard', () => seen.closedWith === 8);

      const patient = await scene.call(processTask, { fields: [['grpc-timeout', '300S']] });
      await arrived(scene, 2);
      await patient.after(300 * second - 20);
      t.notOk(patient.ended, "the caller's deadline is longer, and stands");
      await patient.after(40);
      t.match(patient.details, /the caller's grpc-timeout ran out/);

      const others = [await scene.call(unknown), await scene.call(unknown, { ends: false })];
      if (side === 'outbound') others.push(await scene.call(watch));
      await arrived(scene, 2 + others.length);
      scene.clock.advance(100 * hour);
      for (const other of others) {
        await other.after(0);
        t.notOk(other.ended, 'a stream, for all we know');
      }
    },
  );

  t.test(`${side}: max_timeout shortens deadlines of callers, for any method`, async (t) => {
    const scene = await startScene(t, side, { max_timeout: '90s' });
    let count = 0;
    for (const path of [processTask, streamProcess, unknown]) {
      const long = await scene.call(path, { fields: [['grpc-timeout', '10M']] });
      await arrived(scene, ++count);
      await long.after(90 * second - 20);
      t.notOk(long.ended);
      await long.after(40);
      t.equal(long.reason, 'deadline');
      t.match(long.details, /max_timeout of 90000 ms, which is less than the caller's grpc-timeout, ran out/);
      const short = await scene.call(path, { fields: [['grpc-timeout', '80S']] });
      await arrived(scene, ++count);
      await short.after(80 * second + 20);
      t.match(short.details, /the caller's grpc-timeout ran out/);
    }
    const none = await scene.call(unknown);
    await arrived(scene, ++count);
    await none.after(hour);
    t.notOk(none.ended, 'who names none is not asked for one');
  });

  t.test(`${side}: a task's stream continues while it is active, and ends when it is silent`, async (t) => {
    const scene = await startScene(t, side);
    const call = await scene.call(streamProcess);
    const { stream } = await arrived(scene, 1);
    await call.after(4 * minute);
    stream.respond(grpcHead);
    await call.peer.until('the head is there', () => call.peer.heads.has(1));
    let bytes = 0;
    for (let i = 0; i < 30; i++) {
      await call.after(4 * minute);
      t.notOk(call.ended, `after ${(i + 2) * 4} minutes`);
      stream.write(grpcFrame('chunk'));
      bytes += 10;
      await call.peer.until('it is there', () => call.peer.dataBytes === bytes);
    }
    await call.after(5 * minute - 20);
    t.notOk(call.ended);
    await call.after(40);
    t.equal(call.reason, 'idle');
    t.match(call.details, /sent nothing more \(idle_timeout\)/);

    const never = await scene.call(streamProcess);
    const seen = await arrived(scene, 2);
    await never.after(5 * minute + 20);
    t.equal(never.status, '4', 'the clock began with the request');
    t.match(never.details, /sent nothing \(idle_timeout\)/);
    await waitUntil('the app heard', () => seen.closedWith === 8);

    const late = await scene.call(streamProcess, { fields: [['grpc-timeout', '3M']] });
    await late.after(3 * minute + 20);
    t.equal(late.reason, 'deadline', 'a deadline counts beside it');
  });

  t.test(`${side}: a configured idle timeout counts silence in both directions, of any stream`, async (t) => {
    const scene = await startScene(t, side, { idle_timeout: '1m', timeout: '0s' });
    const speaks = await scene.call(unknown, { ends: false });
    await arrived(scene, 1);
    for (let i = 0; i < 10; i++) {
      await speaks.after(50 * second);
      t.notOk(speaks.ended, 'the caller speaks, and is never answered');
      await speaks.send(message);
    }
    await speaks.after(minute + 20);
    t.equal(speaks.reason, 'idle');
    t.match(speaks.details, /neither the caller nor .* sent anything more/);

    const never = await scene.call(unknown);
    await arrived(scene, 2);
    await never.after(minute + 20);
    t.equal(never.reason, 'idle', 'a method that never answers ends');

    const works = await scene.call(processTask);
    await arrived(scene, 3);
    await works.after(10 * hour);
    t.notOk(works.ended, 'a unary call is silent while it is worked on');

    await scene.apply({ idle_timeout: '0s' });
    const off = await scene.call(streamProcess);
    await arrived(scene, 4);
    await off.after(10 * hour);
    t.notOk(off.ended, 'turned off, for streams of tasks too');
  });

  t.test(`${side}: a request of plain HTTP has no time limit`, async (t) => {
    const scene = await startScene(t, side);
    const fields = grpcRequest(processTask).filter(([name]) => name !== 'content-type');
    const call = await scene.call(processTask);
    const port = side === 'inbound' ? scene.plane.inboundPort : scene.plane.outboundPort;
    const peer = (await H2Peer.connect(t, port)).behave();
    await peer.headers(1, fields, true);
    const { headers } = await arrived(scene, 2);
    t.notOk('grpc-timeout' in headers);
    scene.clock.advance(10 * hour);
    await peer.roundTrip();
    t.notOk(peer.ended.has(1));
    await call.after(0);
    t.ok(call.ended);
  });
}

t.test('silence is a failure of the endpoint only when the endpoint had to answer', async (t) => {
  const limits = { idle_timeout: '1m', outlier_detection: { consecutive_failures: 100 } };
  const scene = await startScene(t, 'outbound', limits);
  const [endpoint] = scene.plane.sidecar.outbound.clusters.clusters.get('upstream')!.endpoints;
  const failures = async (count: number, options: CallOptions): Promise<number> => {
    const call = await scene.call(unknown, options);
    await arrived(scene, count);
    await call.after(minute + 20);
    t.equal(call.reason, 'idle');
    return endpoint!.watched.outcomes.failures;
  };
  t.equal(await failures(1, { ends: false }), 0, 'it waited for more of the request');
  t.equal(await failures(2, {}), 1, 'it had all of it');
});

t.test('inbound: a missing first message has the timeouts of its call, and no other', async (t) => {
  const scene = await startScene(t, 'inbound');
  const half = message.subarray(0, 3);
  const slow = await scene.call(streamProcess, { parts: [half], ends: false });
  await slow.after(4 * minute);
  await slow.send(message.subarray(3, 4));
  await slow.after(4 * minute);
  t.notOk(slow.ended);
  await slow.send(message.subarray(4), true);
  await arrived(scene, 1);

  const stops = await scene.call(streamProcess, { parts: [half], ends: false });
  await stops.after(5 * minute + 20);
  t.equal(stops.reason, 'idle');
  t.match(stops.details, /the request did not come/);

  const deadline = await scene.call(processTask, {
    parts: [half],
    ends: false,
    fields: [['grpc-timeout', '2H']],
  });
  await deadline.after(2 * hour - second);
  t.notOk(deadline.ended, 'its caller has named two hours');
  await deadline.after(2 * second);
  t.equal(deadline.reason, 'deadline');
  t.equal(scene.calls.length, 1);
  t.equal(scene.plane.sidecar.inbound.stats.activeCalls, 0);
});

t.test("outbound: while the cluster is unknown, only the caller's deadline applies", async (t) => {
  const clock = new TestClock();
  const replica = await startReplica(t, silence);
  const plane = await startDataPlane(
    t,
    {
      inbound: { health: { interval: '0s' } },
      outbound: {
        routes: [{ match: { agent_type: 'code' }, cluster: 'code' }],
        clusters: { code: { endpoints: [replica.address], timeout: '30s', keepalive: noKeepalive } },
      },
    },
    {},
    clock,
  );
  const request = grpcFrame(taskRequest({ type: 'code' }));
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  const call = new OpenCall(peer, clock);
  await peer.headers(1, grpcRequest(processTask));
  await peer.roundTrip();
  await call.after(29 * second);
  await call.send(request, true);
  await waitUntil('it was routed', () => replica.calls.length === 1);
  await call.after(second + 20);
  t.equal(call.reason, 'deadline', 'the time it took to say where to counts');

  const late = new OpenCall((await H2Peer.connect(t, plane.outboundPort)).behave(), clock);
  await late.peer.headers(1, grpcRequest(processTask));
  await late.peer.roundTrip();
  await late.after(10 * hour);
  t.notOk(late.ended);
});

t.test(
  'waiting requests are bounded by their memory, and the largest or most silent ones end first',
  async (t) => {
    const scene = await startScene(t, 'inbound');
    const { maxBytes } = heldRequests;
    t.teardown(() => {
      heldRequests.maxBytes = maxBytes;
    });
    const half = message.subarray(0, 3);
    const slow = { parts: [half], ends: false };
    const calls = [await scene.call(streamProcess, slow), await scene.call(streamProcess, slow)];
    calls.push(await scene.call(processTask, { parts: [], ends: false }));
    const held = heldRequests.bytes;
    await calls[0]!.after(1_500);
    await calls[0]!.send(message.subarray(3, 4));
    t.ok(heldRequests.bytes > held, 'what has come counts');
    heldRequests.maxBytes = heldRequests.bytes + 1_000;
    calls.push(await scene.call(streamProcess, slow));
    await calls[1]!.after(0);
    t.strictSame(
      calls.map(({ reason }) => reason),
      [undefined, 'overloaded', undefined, undefined],
      'of the second nothing has come for the longest time',
    );
    t.equal(calls[1]!.status, '8');
    t.match(calls[1]!.details, /too many calls wait for their first message/);
    await calls[0]!.send(message.subarray(4), true);
    await arrived(scene, 1);

    const [, , third, fourth] = calls;
    await third!.send(half);
    await fourth!.send(message.subarray(3, 4));
    heldRequests.maxBytes = heldRequests.bytes + 1_000;
    const newest = await scene.call(streamProcess, slow);
    t.equal(newest.reason, 'overloaded', 'while all of them go on, the newest one goes');

    heldRequests.maxBytes = heldRequests.bytes + 30_000;
    const large = grpcFrame(taskRequest({ input: 'x'.repeat(30_000) }));
    const largest = await scene.call(streamProcess, { parts: [large.subarray(0, 9_000)], ends: false });
    t.notOk(largest.ended);
    await largest.send(large.subarray(9_000, 24_000));
    t.equal(largest.reason, 'overloaded', 'the one that holds most');
    const whole = await scene.call(streamProcess, { parts: [message] });
    await arrived(scene, 2);
    for (const call of [third!, fourth!, whole]) {
      await call.after(0);
      t.notOk(call.ended, 'and none beside it');
    }
    for (const call of [third!, fourth!]) call.peer.socket.destroy();
    await waitUntil('those that left are forgotten', () => heldRequests.bytes === 0);
  },
);

t.test('a header block has ten seconds from its first frame to its last', async (t) => {
  const scene = await startScene(t, 'inbound');
  const { lookMs } = heldRequests;
  heldRequests.lookMs = 20;
  t.teardown(() => {
    heldRequests.lookMs = lookMs;
  });
  const block = headerBlock(grpcRequest(streamProcess));
  const begin = async (): Promise<H2Peer> => {
    const peer = (await H2Peer.connect(t, scene.plane.inboundPort)).behave();
    await peer.roundTrip();
    await peer.send(frame(frameType.headers, 0, 1, block.subarray(0, 20)));
    await waitUntil('its beginning is held', () => heldRequests.bytes > 0);
    return peer;
  };
  const slow = await begin();
  scene.clock.advance(9 * second);
  await slow.send(frame(frameType.continuation, flag.endHeaders, 1, block.subarray(20)));
  await slow.data(1, message, true);
  await arrived(scene, 1);
  t.equal(heldRequests.bytes, 0, 'what an endpoint has is not held any more');

  const stops = await begin();
  scene.clock.advance(10 * second);
  await stops.until('its connection has ended', () => stops.closed);
  t.match(stops.goaway, {
    code: errorCode.enhanceYourCalm,
    debug: /a header block stays incomplete/,
  });
  t.equal(heldRequests.bytes, 0);
});

t.test('a health watch through two sidecars lasts as long as its caller wants', async (t) => {
  const clock = new TestClock();
  const app = await startRawServer(t);
  const keepalive = { time: '0s', max_connection_age: '0s' };
  const beside = await startDataPlane(
    t,
    { inbound: { app: app.address, health: { interval: '0s' }, keepalive } },
    {},
    clock,
  );
  const content = (settings: object) => ({
    inbound: { health: { interval: '0s' } },
    ...oneCluster([`127.0.0.1:${beside.inboundPort}`], { keepalive: noKeepalive, ...settings }),
  });
  const plane = await startDataPlane(t, content({}), {}, clock);
  const open = (port: number) => {
    const stream = new RawClient(t, port).serverStream(Buffer.alloc(0), { path: watch });
    const seen: number[] = [];
    stream.on('data', (bytes: Buffer) => seen.push(bytes[1]!)).on('error', () => {});
    const end = new Promise<status>((resolve) => stream.on('status', ({ code }) => resolve(code)));
    return { seen, end };
  };
  const watches = [open(beside.inboundPort), open(plane.outboundPort)];
  await waitUntil('both were told', () => watches.every(({ seen }) => seen.length === 1));
  for (let i = 0; i < 10; i++) clock.advance(10 * hour);
  await plane.apply(content({ idle_timeout: '1m' }));
  const limited = open(plane.outboundPort);
  await waitUntil('it was notified', () => limited.seen.length === 1);
  clock.advance(minute + 20);
  t.equal(await limited.end, status.DEADLINE_EXCEEDED, 'for those who want it so');
  beside.sidecar.inbound.health.drain();
  await waitUntil('both heard of the change', () => watches.every(({ seen }) => seen.length === 2));
  t.strictSame(
    watches.map(({ seen }) => seen),
    [
      [1, 2],
      [1, 2],
    ],
  );
});

t.test('in real time, a stream outlives timeout, with clients and servers of gRPC', async (t) => {
  const chunks = 8;
  const app = await startRawServer(
    t,
    {
      serverStream: (call) => {
        let sent = 0;
        const timer = setInterval(() => {
          call.write(Buffer.from('chunk'));
          if (++sent < chunks) return;
          clearInterval(timer);
          call.end();
        }, 50);
      },
      unary: () => {},
    },
    { unaryPath: processTask, serverStreamPath: streamProcess },
  );
  const limits = { timeout: '150ms' };
  const plane = await startDataPlane(t, {
    inbound: { app: app.address, ...limits },
    ...oneCluster([app.address], limits),
  });
  for (const port of [plane.inboundPort, plane.outboundPort]) {
    const client = new RawClient(t, port);
    const stream = client.serverStream(message.subarray(5), { path: streamProcess });
    let count = 0;
    stream.on('data', () => count++).on('error', () => {});
    const code = await new Promise((resolve) => stream.on('status', ({ code }) => resolve(code)));
    t.equal(code, status.OK);
    t.equal(count, chunks);
    const outcome = await client.unary(message.subarray(5), { path: processTask });
    t.equal(outcome.code, status.DEADLINE_EXCEEDED, 'which is still kept for those it is for');
  }
});
