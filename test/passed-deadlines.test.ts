// A caller whose time is up says so with RST_STREAM, a moment before our own clock strikes: it is the deadline all the same,
// for the verdict, the metric, the log and what hangs on the call.
import { join } from 'node:path';
import { Metadata, type status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode, grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { OutlierEvent } from '../sidecar/cluster/outlier/detector.ts';
import { statusName } from '../sidecar/grpc/status.ts';
import type { Attempt } from '../sidecar/proxy/attempt.ts';
import type { Call } from '../sidecar/proxy/call.ts';
import type { ProxyContext } from '../sidecar/proxy/context.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import type { CallStats } from '../sidecar/telemetry/call-stats.ts';
import { type Answer, ok, silence, startReplica, trailersOnly } from './support/answers.ts';
import { TaskCaller } from './support/task-caller.ts';
import { grpcFrame } from './support/upstream.ts';

t.setTimeout(180_000);

type Side = 'inbound' | 'outbound';
const sides: readonly Side[] = ['inbound', 'outbound'];
const streamPath = '/agent.AgentService/StreamProcess';

/** What was said of each call that ended: its status and reason, and its last attempt's verdict and status. */
function watch(context: ProxyContext): string[] {
  const ends: string[] = [];
  context.observer = {
    onCallEnd: ({ statusName: name, reason, attempt }: Call) =>
      ends.push([name, reason ?? '', ...(attempt === undefined ? [] : said(attempt))].join(' ')),
  };
  return ends;
}
const said = ({ verdict, status: code }: Attempt): string[] => [verdict.reason, statusName(code)];

/** Calls by status, of all methods. */
function countsOf({ methods }: CallStats): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { byStatus } of methods.values())
    for (const [code, durations] of byStatus.entries())
      if (durations !== undefined)
        counts[statusName(code)] = (counts[statusName(code)] ?? 0) + durations.count;
  return counts;
}

interface Scene {
  readonly plane: DataPlane;
  readonly port: number;
  readonly clock: TestClock;
  readonly ends: string[];
  readonly counts: () => Record<string, number>;
}

async function startScene(t: Test, side: Side, address: string, settings: object = {}): Promise<Scene> {
  const clock = new TestClock();
  const content =
    side === 'outbound'
      ? oneCluster([address], { timeout: '0s', ...settings })
      : { inbound: { app: address, timeout: '0s', ...settings } };
  const plane = await startDataPlane(t, content, {}, clock);
  const { inbound, outbound } = plane.sidecar;
  return {
    plane,
    port: side === 'outbound' ? plane.outboundPort : plane.inboundPort,
    clock,
    ends: watch(plane.sidecar[side].context),
    counts: () =>
      countsOf(side === 'inbound' ? inbound.stats.calls : outbound.clusters.clusters.get('upstream')!.calls),
  };
}

const late = 'DEADLINE_EXCEEDED deadline timeout DEADLINE_EXCEEDED';
const gone = 'CANCELLED  cancelled CANCELLED';

/** grpc-timeout, milliseconds at which the caller leaves, and what is to be said of the call. */
const leavings: readonly [timeout: string, atMs: number, expected: string][] = [
  ['1S', 910, late],
  ['1S', 999, late],
  ['1S', 890, gone],
  ['200m', 185, late],
  ['200m', 175, gone],
  ['120m', 105, late],
  ['120m', 95, gone],
  ['60S', 59_200, late],
  ['60S', 58_500, gone],
  // C-core writes 1,000.5 s so: it rounds up, to three digits.
  ['1010S', 1_000_500, late],
  ['1010S', 990_000, gone],
];

for (const side of sides) {
  t.test(`a caller that disconnects at its deadline counts as not answered in time: ${side}`, async (t) => {
    const replica = await startReplica(t, silence);
    for (const how of ['a reset', 'a lost connection']) {
      const scene = await startScene(t, side, replica.address);
      for (const [timeout, atMs, expected] of leavings) {
        const { length } = replica.calls;
        const peer = (await H2Peer.connect(t, scene.port)).behave();
        await peer.headers(1, grpcRequest(rawPaths.unary, ['grpc-timeout', timeout]));
        await peer.data(1, grpcFrame('x'), true);
        await waitUntil(
          'the call is there',
          () => replica.calls.length > length && replica.calls[length]!.complete,
        );
        scene.clock.advance(atMs);
        if (how === 'a reset') await peer.reset(1, errorCode.cancel);
        else peer.socket.destroy();
        await waitUntil('it has ended', () => scene.ends.length > 0);
        t.equal(scene.ends.shift(), expected, `${how} after ${atMs} ms of ${timeout}`);
        await waitUntil('the endpoint heard', () => replica.calls[length]!.closedWith === errorCode.cancel);
        peer.socket.destroy();
      }
      const wanted = leavings.filter(([, , expected]) => expected === late).length;
      t.strictSame(scene.counts(), { DEADLINE_EXCEEDED: wanted, CANCELLED: leavings.length - wanted });
      t.equal(scene.plane.sidecar[side].stats.rejected.get('deadline'), wanted, 'the reason, too');
    }
  });

  t.test(`our own timeout counts as a failure of no one else: ${side}`, async (t) => {
    const replica = await startReplica(t, silence);
    const scene = await startScene(t, side, replica.address, { timeout: '1s' });
    const peer = (await H2Peer.connect(t, scene.port)).behave();
    await peer.headers(1, grpcRequest(PROCESS_TASK_PATH));
    await peer.data(1, grpcFrame(''), true);
    await waitUntil('the call is there', () => replica.calls[0]?.complete);
    scene.clock.advance(999);
    await peer.reset(1, errorCode.cancel);
    await waitUntil('it has ended', () => scene.ends.length > 0);
    t.equal(scene.ends[0], gone, 'who does not know of it has left by chance');
  });

  t.test(`a stream that flowed until its caller's deadline is no failure: ${side}`, async (t) => {
    const replica = await startReplica(t, (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(grpcFrame('first'));
    });
    const scene = await startScene(t, side, replica.address);
    const peer = (await H2Peer.connect(t, scene.port)).behave();
    await peer.headers(1, grpcRequest(streamPath, ['grpc-timeout', '2S']));
    await peer.data(1, grpcFrame(''), true);
    await peer.until('it flows', () => peer.dataBytes > 0);
    scene.clock.advance(1_950);
    await peer.reset(1, errorCode.cancel);
    await waitUntil('it has ended', () => scene.ends.length > 0);
    t.equal(scene.ends[0], 'DEADLINE_EXCEEDED deadline stream_deadline DEADLINE_EXCEEDED');
  });
}

t.test('an endpoint may give up at the deadline a moment before us', async (t) => {
  const reset: Answer = (stream) => stream.close(errorCode.cancel);
  const cases: readonly [what: string, end: Answer, atMs: number, expected: string, code: status][] = [
    ['a reset', reset, 970, 'DEADLINE_EXCEEDED deadline reset DEADLINE_EXCEEDED', 4],
    ['a reset', reset, 600, 'CANCELLED upstream_reset reset CANCELLED', 1],
    // What the app says is said to the caller as it is.
    ['CANCELLED', trailersOnly(1), 970, 'CANCELLED  deadline_exceeded CANCELLED', 1],
    ['CANCELLED', trailersOnly(1), 600, 'CANCELLED  cancelled_by_app CANCELLED', 1],
  ];
  for (const side of sides) {
    const replica = await startReplica(t, silence);
    const scene = await startScene(t, side, replica.address);
    for (const [what, end, atMs, expected, code] of cases) {
      const { length } = replica.calls;
      const peer = (await H2Peer.connect(t, scene.port)).behave();
      await peer.headers(1, grpcRequest(rawPaths.unary, ['grpc-timeout', '1S']));
      await peer.data(1, grpcFrame('x'), true);
      await waitUntil(
        'the call is there',
        () => replica.calls.length > length && replica.calls[length]!.complete,
      );
      scene.clock.advance(atMs);
      const call = replica.calls[length]!;
      end(call.stream, call);
      await peer.until('it was answered', () => peer.ended.has(1));
      t.equal(peer.field(1, 'grpc-status'), `${code}`, `${side}: ${what} after ${atMs} ms`);
      t.equal(scene.ends.shift(), expected, `${side}: ${what} after ${atMs} ms`);
      peer.socket.destroy();
    }
  }
});

t.test("an agent's calls for a call end as the call does", async (t) => {
  const traceparent = (n: number): [string, string] => [
    'traceparent',
    `00-${String(n).padStart(32, '0')}-00000000000000ff-00`,
  ];
  const leaf = await startReplica(t, silence);
  const app = await startReplica(t, silence);
  const clock = new TestClock();
  const content = { ...oneCluster([leaf.address]), inbound: { app: app.address } };
  const plane = await startDataPlane(t, content, {}, clock);
  const inbound = watch(plane.sidecar.inbound.context);
  const outbound = watch(plane.sidecar.outbound.context);
  const cases: readonly [atMs: number, how: 'leaves' | 'stays', inbound: string, outbound: string][] = [
    [970, 'leaves', late, late],
    [1_000, 'stays', late, late],
    [500, 'leaves', gone, 'CANCELLED caller_gone cancelled CANCELLED'],
  ];
  for (const [n, [atMs, how, expectedInbound, expectedOutbound]] of cases.entries()) {
    const caller = (await H2Peer.connect(t, plane.inboundPort)).behave();
    await caller.headers(1, grpcRequest(rawPaths.unary, ['grpc-timeout', '1S'], traceparent(n + 1)));
    await caller.data(1, grpcFrame('x'), true);
    await waitUntil('the agent has it', () => app.calls[n]?.complete);
    const agent = (await H2Peer.connect(t, plane.outboundPort)).behave();
    await agent.headers(1, grpcRequest(rawPaths.unary, traceparent(n + 1)));
    await agent.data(1, grpcFrame('x'), true);
    await waitUntil('the leaf has it', () => leaf.calls[n]?.complete);
    clock.advance(atMs);
    if (how === 'leaves') await caller.reset(1, errorCode.cancel);
    await agent.until('it was notified', () => agent.ended.has(1));
    await waitUntil('both have ended', () => inbound.length > 0 && outbound.length > 0);
    t.equal(inbound.shift(), expectedInbound, `${how} after ${atMs} ms`);
    t.equal(outbound.shift(), expectedOutbound, `${how} after ${atMs} ms`);
    caller.socket.destroy();
    agent.socket.destroy();
  }
});

t.test('a task with followers is late when the last deadline expires', async (t) => {
  const replica = await startReplica(t, silence);
  const scene = await startScene(t, 'inbound', replica.address);
  const fields: [string, string][] = [['grpc-timeout', '1S']];
  const callers = [
    await TaskCaller.connect(t, scene.port),
    await TaskCaller.connect(t, scene.port),
    await TaskCaller.connect(t, scene.port),
  ] as const;
  const calls = [await callers[0].send({ fields })];
  await waitUntil('it runs', () => replica.calls[0]?.complete);
  for (const caller of callers.slice(1)) calls.push(await caller.send({ fields }));
  await waitUntil('both have joined', () => scene.plane.sidecar.inbound.taskRuns.store.joined === 2);
  scene.clock.advance(980);
  for (const call of calls) await call.cancel();
  await waitUntil('all have ended', () => scene.ends.length === 3);
  const followed = 'DEADLINE_EXCEEDED deadline';
  t.strictSame(scene.ends.sort(), [followed, followed, late]);
  t.strictSame(scene.counts(), { DEADLINE_EXCEEDED: 3 }, 'each call once, though the task has run once');
  t.equal(scene.plane.sidecar.inbound.stats.rejected.get('deadline'), 3);
  await waitUntil('the agent heard', () => replica.calls[0]!.closedWith === errorCode.cancel);
});

const python = join(import.meta.dirname, 'support', 'python');
type Counts = Record<string, number>;

/** Calls `upstream` by grpcio; the codes that the caller saw. */
async function callFromPython(t: Test, port: number, ...args: (string | number)[]): Promise<Counts> {
  const script = join(python, 'deadline_client.py');
  const options = { limitMs: 120_000 };
  const { output } = await runProcess(
    t,
    requireTool('python'),
    [script, `${port}`, ...args.map(String)],
    options,
  );
  return JSON.parse(output.trim().split('\n').at(-1)!) as Counts;
}

async function callFromNode(t: Test, port: number, count: number, seconds: number): Promise<Counts> {
  const client = new RawClient(t, port);
  const counts: Counts = {};
  await client.unary(Buffer.from('x'), { path: warmPath });
  const call = async (): Promise<void> => {
    const options = {
      path: rawPaths.unary,
      metadata: new Metadata(),
      deadline: Date.now() + seconds * 1_000,
    };
    const name = statusName((await client.unary(Buffer.from('x'), options)).code);
    counts[name] = (counts[name] ?? 0) + 1;
  };
  await Promise.all(Array.from({ length: count }, call));
  return counts;
}

const skip = skipWithout('python');
const warmPath = '/test.Raw/Warm';
/** Answers the callers' first call, with which the connections of all hops come, and nothing else. */
const hung: Answer = (stream, call) => {
  if (call.headers[':path'] === warmPath) ok(stream, call);
};

t.test('callers in other languages and the metrics agree about a hung agent', { skip }, async (t) => {
  const app = await startReplica(t, hung);
  const count = 12;
  const seconds = 10;
  const callers: readonly [string, (port: number) => Promise<Counts>][] = [
    ['grpcio', (port) => callFromPython(t, port, rawPaths.unary, 'sync', count, count, seconds)],
    ['grpcio, streams', (port) => callFromPython(t, port, streamPath, 'sync-stream', count, count, seconds)],
    ['grpc.aio', (port) => callFromPython(t, port, rawPaths.unary, 'aio', count, count, seconds)],
    ['grpc-js', (port) => callFromNode(t, port, count, seconds)],
  ];
  const check = async ([what, call]: (typeof callers)[number]): Promise<void> => {
    const beside = await startDataPlane(t, { inbound: { app: app.address } });
    const plane = await startDataPlane(t, oneCluster([`127.0.0.1:${beside.inboundPort}`]));
    t.strictSame(await call(plane.outboundPort), { DEADLINE_EXCEEDED: count }, what);
    const { inbound } = beside.sidecar;
    const { outbound } = plane.sidecar;
    await waitUntil('all have ended', () => inbound.stats.activeCalls + outbound.stats.activeCalls === 0);
    const cluster = outbound.clusters.clusters.get('upstream')!;
    const counted = { OK: 1, DEADLINE_EXCEEDED: count };
    t.strictSame(countsOf(cluster.calls), counted, `${what}: at the caller's sidecar`);
    t.strictSame(countsOf(inbound.stats.calls), counted, `${what}: at the agent's`);
    t.equal(inbound.stats.totalErrors, count, 'errors of the server');
  };
  await Promise.all(callers.map(check));
});

t.test("the callers' deadlines reveal a hung replica beside a healthy one", { skip }, async (t) => {
  const callers: readonly [string, (port: number) => Promise<Counts>][] = [
    ['grpcio', (port) => callFromPython(t, port, rawPaths.unary, 'sync', 60, 2, 2)],
    ['grpc.aio', (port) => callFromPython(t, port, rawPaths.unary, 'aio', 60, 2, 2)],
  ];
  for (const [what, call] of callers) {
    const outliers: OutlierEvent[] = [];
    const addresses: string[] = [];
    for (const answer of [ok, hung]) {
      const app = await startReplica(t, answer);
      const beside = await startDataPlane(t, { inbound: { app: app.address } });
      addresses.push(`127.0.0.1:${beside.inboundPort}`);
    }
    const settings = { balancer: 'round_robin', outlier_detection: {}, circuit_breaker: {} };
    const plane = await startDataPlane(t, oneCluster(addresses, settings), {
      onOutlier: (_cluster, event) => outliers.push(event),
    });
    const counts = await call(plane.outboundPort);
    t.equal(outliers[0]?.kind, 'ejected', `${what}: it is ejected`);
    t.equal(outliers[0]?.endpoint.address, addresses[1]);
    // Three in a row, those that were in flight beside them, and what a probe may cost later.
    t.ok(counts['DEADLINE_EXCEEDED']! <= 6, `${what}: ${JSON.stringify(counts)}`);
    t.equal(counts['OK']! + counts['DEADLINE_EXCEEDED']!, 60, `${what}: ${JSON.stringify(counts)}`);
  }
});
