// Circuits that open and close, and replicas that are ejected and come back, through real sockets.
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient, rawPaths, type UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { clustersSnapshot } from '../sidecar/admin/snapshot.ts';
import type { OutlierEvent } from '../sidecar/cluster/outlier/detector.ts';
import type { SidecarObserver } from '../sidecar/data-plane/sidecar.ts';
import type { CircuitTransition } from '../sidecar/policy/circuit-state.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import {
  type Answer,
  headThen,
  later,
  messageThen,
  ok,
  page,
  type Replica,
  silence,
  startReplica,
  taskStatus,
  trailersOnly,
} from './support/answers.ts';
import { grpcFrame } from './support/upstream.ts';

const request = Buffer.from('request');
const other = '/test.Raw/Other';

interface Scene {
  readonly plane: DataPlane;
  /** Time passes as the test says. */
  readonly clock: TestClock;
  readonly client: RawClient;
  readonly circuits: { method: string; change: CircuitTransition }[];
  readonly outliers: OutlierEvent[];
  call(path?: string): Promise<UnaryOutcome>;
  calls(count: number, path?: string): Promise<void>;
}

async function startScene(
  t: Test,
  replicas: readonly Replica[],
  settings: Record<string, unknown>,
): Promise<Scene> {
  const clock = new TestClock();
  const circuits: Scene['circuits'] = [];
  const outliers: OutlierEvent[] = [];
  const observer: Partial<SidecarObserver> = {
    onCircuit: (_cluster, method, change) => circuits.push({ method, change }),
    onOutlier: (_cluster, event) => outliers.push(event),
  };
  const addresses = replicas.map(({ address }) => address);
  const plane = await startDataPlane(
    t,
    oneCluster(addresses, { balancer: 'round_robin', ...settings }),
    observer,
    clock,
  );
  const client = new RawClient(t, plane.outboundPort);
  const call = (path: string = rawPaths.unary) => client.unary(request, { path });
  const calls = async (count: number, path?: string) => {
    for (let i = 0; i < count; i++) await call(path);
  };
  return { plane, clock, client, circuits, outliers, call, calls };
}

const breaker = { circuit_breaker: { consecutive_failures: 5, failure_percent: 0, recovery_timeout: '60s' } };
const quick = { circuit_breaker: { ...breaker.circuit_breaker, recovery_timeout: '100ms' } };

interface ClusterShape {
  circuits: Record<string, { state: string; because: string; half_open_in_ms: number; rejections: number }>;
  endpoints: {
    address: string;
    service: string;
    ejections: number;
    ejected_for_ms: number;
    usable: boolean;
  }[];
  retries_running: number;
}
const shapeOf = ({ plane }: Scene): ClusterShape =>
  (clustersSnapshot(plane.sidecar) as Record<string, ClusterShape>).upstream!;

const afterMessage = messageThen(14);
const failing: readonly [what: string, answer: Answer, path: string, reason: string][] = [
  ['UNAVAILABLE in trailers behind a message', afterMessage, rawPaths.unary, 'unavailable'],
  ['INTERNAL in trailers behind a head', headThen(13), rawPaths.unary, 'internal'],
  ['UNKNOWN, Trailers-Only', trailersOnly(2), rawPaths.unary, 'unknown'],
  ['a task that FAILED, with OK', taskStatus(2), PROCESS_TASK_PATH, 'task_failed'],
  ['a reset', (stream) => stream.close(2), rawPaths.unary, 'reset'],
  [
    'an end without a status',
    (stream) =>
      void stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { endStream: true }),
    rawPaths.unary,
    'no_status',
  ],
];

for (const [what, answer, path, reason] of failing) {
  t.test(`five of these in a row open the circuit: ${what}`, async (t) => {
    const replica = await startReplica(t, answer);
    const scene = await startScene(t, [replica], breaker);
    await scene.calls(4, path);
    t.same(scene.circuits, [], 'four do not');
    await scene.call(path);
    await waitUntil('it is open', () => scene.circuits.length === 1);
    const { method, change } = scene.circuits[0]!;
    t.equal(method, path);
    t.match(change, { from: 'closed', to: 'open', openForMs: 60_000, openings: 1 });
    // What is not known to be unary counts as a stream: its first message was a success, that the end takes back.
    const cut = answer === afterMessage;
    const rule = cut ? 'consecutive_cuts' : 'consecutive_failures';
    t.match(change.cause, { rule, failures: 5, reasons: Array(5).fill(reason) });
    const turnedAway = await scene.call(path);
    t.equal(turnedAway.code, status.UNAVAILABLE);
    const told = cut ? '5 streams in a row were cut' : '5 calls in a row failed';
    t.match(turnedAway.details, new RegExp(`${told} \\(5 × ${reason}\\); try again in`));
    t.same(turnedAway.trailers.get('outrigger-reason'), ['circuit_open']);
    const pushbackMs = Number(turnedAway.trailers.get('grpc-retry-pushback-ms')[0]);
    t.ok(pushbackMs > 0 && pushbackMs <= 60_000, `${pushbackMs} ms`);
    t.equal(replica.calls.length, 5, 'the replica has not seen it');
    const shape = shapeOf(scene).circuits[path]!;
    t.match(shape, { state: 'open', because: new RegExp(told), rejections: 1, probes: 0 });
    t.ok(shape.half_open_in_ms > 0 && shape.half_open_in_ms <= 60_000);
    replica.answer = ok;
    t.equal((await scene.call(other)).code, status.OK, 'other methods of the cluster are not held up');
    t.equal(shapeOf(scene).circuits[other]!.state, 'closed');
  });
}

t.test('results that open no circuit', async (t) => {
  const answers: Record<string, Answer> = {
    INVALID_ARGUMENT: trailersOnly(3),
    'NOT_FOUND behind a message': messageThen(5),
    UNIMPLEMENTED: trailersOnly(12),
    RESOURCE_EXHAUSTED: trailersOnly(8),
    'a turned away call': trailersOnly(14, { 'outrigger-reason': 'draining' }),
  };
  for (const [what, answer] of Object.entries(answers)) {
    const replica = await startReplica(t, answer);
    const scene = await startScene(t, [replica], breaker);
    await scene.calls(10);
    t.equal(replica.calls.length, 10, what);
    t.same(scene.circuits, [], what);
  }
  const replica = await startReplica(t, silence);
  const scene = await startScene(t, [replica], breaker);
  for (let count = 1; count <= 10; count++) {
    const call = scene.client.serverStream(request, { path: rawPaths.unary });
    call.on('error', () => {});
    await waitUntil('it is there', () => replica.calls.length === count);
    call.cancel();
    await waitUntil('its end is there', () => replica.calls[count - 1]!.closedWith !== undefined);
  }
  t.same(scene.circuits, [], 'callers that left');
  t.equal(shapeOf(scene).circuits[rawPaths.unary]!.state, 'closed');
});

t.test('an HTTP error of the request opens no circuit and ejects no endpoint', async (t) => {
  const replicas = [await startReplica(t, ok), await startReplica(t, ok)];
  const beside: { address: string }[] = [];
  for (const { address } of replicas) {
    const plane = await startDataPlane(t, { inbound: { app: address } });
    beside.push({ address: `127.0.0.1:${plane.inboundPort}` });
  }
  for (const [hops, endpoints] of Object.entries({ one: replicas, two: beside })) {
    const addresses = endpoints.map(({ address }) => address);
    const plane = await startDataPlane(t, oneCluster(addresses, { balancer: 'round_robin', ...breaker }));
    const client = new RawClient(t, plane.outboundPort);
    const cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
    const ejections = () => cluster.endpoints.reduce((sum, { watched }) => sum + watched.ejections, 0);
    const faults: [httpStatus: number, code: status][] = [
      [302, status.UNKNOWN],
      [400, status.INTERNAL],
      [401, status.UNAUTHENTICATED],
      [403, status.PERMISSION_DENIED],
      [404, status.UNIMPLEMENTED],
      [431, status.UNKNOWN],
    ];
    for (const [httpStatus, code] of faults) {
      for (const replica of replicas) replica.answer = page(httpStatus);
      for (let i = 0; i < 8; i++) t.equal((await client.unary(request)).code, code, `HTTP ${httpStatus}`);
    }
    // One that finds fault with all that it gets, beside one that does not: no failures of the endpoint, either.
    replicas[1]!.answer = ok;
    for (let i = 0; i < 20; i++) await client.unary(request);
    t.equal(ejections(), 0, `${hops}: nobody`);
    replicas[0]!.answer = ok;
    for (let i = 0; i < 10; i++) t.equal((await client.unary(request)).code, status.OK, hops);
    for (const replica of replicas) replica.answer = page(503);
    const codes: string[] = [];
    for (let i = 0; i < 8; i++) {
      const { trailers } = await client.unary(request);
      codes.push(String(trailers.get('outrigger-reason')[0]));
    }
    t.equal(codes.at(-1), 'circuit_open', `${hops}: what is the server's fault still does`);
    for (const replica of replicas) replica.answer = ok;
  }
});

t.test('a success in between restarts the count', async (t) => {
  const replica = await startReplica(t, messageThen(14));
  const scene = await startScene(t, [replica], breaker);
  for (const answer of [messageThen(14), ok, messageThen(14)]) {
    replica.answer = answer;
    await scene.calls(answer === ok ? 1 : 4);
  }
  t.same(scene.circuits, []);
  await scene.call();
  t.equal(scene.circuits.length, 1);
});

t.test('three successes close a half-open circuit', async (t) => {
  const replica = await startReplica(t, messageThen(14));
  const scene = await startScene(t, [replica], quick);
  await scene.calls(5);
  replica.answer = ok;
  scene.clock.advance(50);
  t.equal((await scene.call()).code, status.UNAVAILABLE, 'not before its time');
  scene.clock.advance(110);
  t.equal((await scene.call()).code, status.OK, 'a probe was let in');
  t.same(
    scene.circuits.map(({ change }) => change.to),
    ['open', 'half_open'],
  );
  t.equal(shapeOf(scene).circuits[rawPaths.unary]!.state, 'half-open');
  await scene.calls(2);
  t.same(
    scene.circuits.map(({ change }) => change.to),
    ['open', 'half_open', 'closed'],
  );
  t.match(shapeOf(scene).circuits[rawPaths.unary], { state: 'closed', because: '', probes: 0 });
});

t.test('a half-open circuit admits at most three probes, and a cancelled one makes room', async (t) => {
  const replica = await startReplica(t, messageThen(14));
  const scene = await startScene(t, [replica], { ...quick, retry: { max_attempts: 3 } });
  await scene.calls(5);
  scene.clock.advance(150);
  replica.answer = silence;
  const probes = Array.from({ length: 3 }, () => {
    const call = scene.client.serverStream(request, { path: rawPaths.unary });
    call.on('error', () => {});
    return call;
  });
  await waitUntil('three are there', () => replica.calls.length === 8);
  const turnedAway = await scene.call();
  t.equal(turnedAway.code, status.UNAVAILABLE);
  t.match(turnedAway.details, /half-open and its probes are out/);
  probes[0]!.cancel();
  replica.answer = messageThen(14);
  await waitUntil('the cancelled one has ended', () => replica.calls[5]!.closedWith !== undefined);
  await waitUntil('a probe fails', async () => {
    await scene.call();
    return scene.circuits.at(-1)!.change.to === 'open';
  });
  t.match(scene.circuits.at(-1)!.change, { from: 'half_open', openings: 2, cause: { rule: 'probe' } });
  for (const probe of probes) probe.cancel();
});

t.test('the first message of a stream decides its probe, before the stream ends', async (t) => {
  const replica = await startReplica(t, trailersOnly(14));
  const scene = await startScene(t, [replica], quick);
  const path = rawPaths.serverStream;
  await scene.calls(5, path);
  replica.answer = (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    stream.write(grpcFrame('first'));
  };
  scene.clock.advance(150);
  for (let i = 0; i < 3; i++) {
    const call = scene.client.serverStream(request, { path });
    call.on('error', () => {});
    await new Promise((resolve) => call.once('data', resolve));
  }
  t.equal(scene.circuits.at(-1)!.change.to, 'closed');
  t.equal(shapeOf(scene).circuits[path]!.state, 'closed');
});

t.test('half of the calls of a window open it, in any order of failures', async (t) => {
  const replica = await startReplica(t, ok);
  const scene = await startScene(t, [replica], {
    circuit_breaker: { consecutive_failures: 0, failure_percent: 50, min_calls: 10 },
  });
  for (let i = 0; i < 9; i++) {
    replica.answer = i % 2 === 0 ? trailersOnly(14) : ok;
    await scene.call();
  }
  t.same(scene.circuits, [], 'nine are not enough to tell');
  replica.answer = trailersOnly(14);
  await scene.call();
  t.match(scene.circuits[0]!.change.cause, { rule: 'failure_percent', failures: 6, calls: 10 });
  t.match((await scene.call()).details, /6 of 10 calls in .* s failed/);
});

// --- Ejection ------------------------------------------------------------------------------------------------

const ejection = {
  outlier_detection: { consecutive_failures: 3, base_ejection_time: '60s', max_ejection_time: '60s' },
};

const bad: readonly [what: string, answer: Answer, path: string][] = [
  ['UNAVAILABLE in the trailers of streams', messageThen(14), rawPaths.serverStream],
  ['tasks that FAILED, with OK', taskStatus(2), PROCESS_TASK_PATH],
  ['Trailers-Only INTERNAL', trailersOnly(13), rawPaths.unary],
];

for (const [what, answer, path] of bad) {
  t.test(`a replica gets no more calls after three of these: ${what}`, async (t) => {
    const works = await startReplica(t, ok);
    const fails = await startReplica(t, answer);
    const scene = await startScene(t, [works, fails], ejection);
    await scene.calls(40, path);
    t.equal(fails.calls.length, 3);
    t.equal(works.calls.length, 37);
    t.match(scene.outliers, [{ kind: 'ejected', reason: 'consecutive_failures', forMs: 60_000 }]);
    t.equal(scene.outliers[0]!.endpoint.address, fails.address);
    const shape = shapeOf(scene).endpoints.find(({ address }) => address === fails.address)!;
    t.match(shape, { service: 'ejected', usable: false, ejections: 1, because: /3 failures in a row/ });
    t.ok(shape.ejected_for_ms > 0 && shape.ejected_for_ms <= 60_000);
  });
}

t.test('an ejected replica returns on probation: one failure ejects it again, success ends it', async (t) => {
  const works = await startReplica(t, ok);
  const fails = await startReplica(t, messageThen(14));
  const scene = await startScene(t, [works, fails], {
    outlier_detection: { ...ejection.outlier_detection, base_ejection_time: '500ms', interval: '200ms' },
  });
  await scene.calls(10);
  t.equal(fails.calls.length, 3);
  const isBack = (): void => {
    for (let ms = 0; ms < 5_000 && scene.outliers.at(-1)!.kind !== 'returned'; ms += 50)
      scene.clock.advance(50);
    t.equal(scene.outliers.at(-1)!.kind, 'returned');
  };
  isBack();
  await scene.calls(10);
  t.equal(fails.calls.length, 4, 'one failure on probation');
  t.match(scene.outliers.at(-1), { kind: 'ejected', reason: 'consecutive_failures' });
  fails.answer = ok;
  isBack();
  await scene.calls(10);
  for (let ms = 0; ms < 5_000 && scene.outliers.at(-1)!.kind !== 'recovered'; ms += 50)
    scene.clock.advance(50);
  t.equal(scene.outliers.at(-1)!.kind, 'recovered', 'it has completed its probation');
  const before = fails.calls.length;
  await scene.calls(10);
  t.equal(fails.calls.length, before + 5, 'it has its share again');
});

t.test('a replica that is twenty times slower is ejected', async (t) => {
  const replicas: [Replica, Replica] = [await startReplica(t, ok), await startReplica(t, ok)];
  const [fast, slow] = replicas;
  const scene = await startScene(t, replicas, ejection);
  let answered = 0;
  const answer: Answer = (stream, call) => {
    answered++;
    ok(stream, call);
  };
  fast.answer = later(10, answer, scene.clock);
  slow.answer = later(200, answer, scene.clock);
  const cluster = scene.plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  const arrived = (): number => replicas.flatMap(({ calls }) => calls).filter((call) => call.complete).length;
  const waiting: Promise<UnaryOutcome>[] = [];
  // A call every 20 ms, for a minute at most.
  while (scene.outliers.length === 0 && waiting.length < 3_000) {
    waiting.push(scene.call());
    await waitUntil('a replica has it', () => arrived() === waiting.length, { everyMs: 1 });
    scene.clock.advance(20);
    const running = waiting.length - answered;
    await waitUntil('the answers came', () => cluster.activeCalls === running, { everyMs: 1 });
  }
  scene.clock.advance(200);
  const outcomes = await Promise.all(waiting);
  t.ok(outcomes.every(({ code }) => code === status.OK));
  t.match(scene.outliers, [{ kind: 'ejected', reason: 'latency' }]);
  t.equal(scene.outliers[0]!.endpoint.address, slow.address);
  const before = slow.calls.length;
  fast.answer = ok;
  await scene.calls(20);
  t.equal(slow.calls.length, before);
});

t.test('the only replica is never ejected, and of two failing ones one stays', async (t) => {
  const lone = await startReplica(t, messageThen(14));
  const alone = await startScene(t, [lone], ejection);
  await alone.calls(20);
  t.equal(lone.calls.length, 20);
  t.same(alone.outliers, []);
  const pair = [await startReplica(t, messageThen(14)), await startReplica(t, messageThen(14))];
  const both = await startScene(t, pair, ejection);
  await both.calls(20);
  t.ok(both.outliers.filter(({ kind }) => kind === 'ejected').length <= 1);
  t.equal(pair[0]!.calls.length + pair[1]!.calls.length, 20, 'each call was tried');
});

t.test('refused, throttled or cancelled calls eject no endpoint', async (t) => {
  const works = await startReplica(t, ok);
  const turns = await startReplica(t, trailersOnly(8));
  const scene = await startScene(t, [works, turns], ejection);
  await scene.calls(30);
  turns.answer = trailersOnly(14, { 'outrigger-reason': 'overloaded', 'grpc-retry-pushback-ms': '0' });
  await scene.calls(30);
  turns.answer = silence;
  for (let i = 0; i < 10; i++) {
    const call = scene.client.serverStream(request, { path: rawPaths.unary, metadata: new Metadata() });
    call.on('error', () => {});
    await sleep(5);
    call.cancel();
  }
  t.same(scene.outliers, []);
});
