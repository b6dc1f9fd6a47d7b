// Which failed calls are tried again by policy, where, how often, and what they leave behind.

import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  flag,
  frame,
  frameType,
  grpcRequest,
  H2Peer,
  settings as h2Settings,
  headerBlock,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { type RawCallOptions, RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { ClusterWithPolicies } from '../sidecar/proxy/cluster-policies.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import {
  type Answer,
  headThen,
  later,
  messageThen,
  ok,
  type Replica,
  silence,
  startReplica,
  trailersOnly,
} from './support/answers.ts';
import { grpcFrame } from './support/upstream.ts';

const request = Buffer.from('request');
const backoff = { base: '1ms', max: '2ms' };
const idempotent = [rawPaths.unary, PROCESS_TASK_PATH, rawPaths.bidi];

/** Enough room in the budget for all calls of a test. */
const budget = { min_concurrent: 1000 };

interface Scene {
  readonly plane: DataPlane;
  readonly cluster: ClusterWithPolicies;
  readonly client: RawClient;
  /** Makes a unary call. */
  call(options?: RawCallOptions): ReturnType<RawClient['unary']>;
  retries(outcome: string): number;
}

async function startScene(
  t: Test,
  replicas: readonly Pick<Replica, 'address'>[],
  retry: Record<string, unknown> = {},
  settings: Record<string, unknown> = {},
  clock?: TestClock,
): Promise<Scene> {
  const plane = await startDataPlane(
    t,
    oneCluster(
      replicas.map(({ address }) => address),
      {
        balancer: 'round_robin',
        retry: { max_attempts: 3, idempotent_methods: idempotent, backoff, budget, ...retry },
        ...settings,
      },
    ),
    {},
    clock,
  );
  const cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  // A library's own retries would hide what the sidecar does.
  const client = new RawClient(t, plane.outboundPort, { 'grpc.enable_retries': 0 });
  return {
    plane,
    cluster,
    client,
    call: (options) => client.unary(request, options),
    retries: (outcome) => cluster.retries.get(outcome) ?? 0,
  };
}

const attemptsAt = (replicas: readonly Replica[]): number =>
  replicas.reduce((sum, { calls }) => sum + calls.length, 0);

/** Nothing is left of the calls: no place in the budget, no timer, no attempt. */
async function expectNothingLeft(t: Test, { plane, cluster }: Scene, timersBefore: number): Promise<void> {
  const { budget: places } = cluster.policies;
  await waitUntil('the budget is free', () => places.running === 0);
  await waitUntil('no attempt runs', () => cluster.endpoints.every(({ activeCalls }) => activeCalls === 0));
  t.equal(cluster.activeCalls, 0);
  // The outlier watch ends by itself when it has nothing to wait for.
  await waitUntil(`no more than ${timersBefore} timers`, () => plane.sidecar.wheel.size <= timersBefore);
}

const mended: readonly [what: string, answer: Answer, path: string, settings?: Record<string, unknown>][] = [
  ['UNAVAILABLE, Trailers-Only', trailersOnly(14), rawPaths.unary],
  ['UNAVAILABLE in trailers behind the head of a task', headThen(14), PROCESS_TASK_PATH],
  [
    'a method not declared, turned away by its sidecar',
    trailersOnly(14, { 'outrigger-reason': 'connect_failed' }),
    '/test.Raw/Other',
  ],
  [
    'a task turned away by its sidecar',
    trailersOnly(14, { 'outrigger-reason': 'draining' }),
    '/agent.AgentService/StreamProcess',
  ],
  [
    'a sidecar that has too much to do',
    trailersOnly(8, { 'outrigger-reason': 'overloaded', 'grpc-retry-pushback-ms': '500' }),
    rawPaths.unary,
  ],
  [
    'a sidecar that this caller has asked too often',
    trailersOnly(8, { 'outrigger-reason': 'rate_limited', 'grpc-retry-pushback-ms': '500' }),
    '/test.Raw/Other',
  ],
  ['another code, by configuration', trailersOnly(13), rawPaths.unary, { on: ['INTERNAL'] }],
  ['a reset', (stream) => stream.close(2), rawPaths.unary, { on: ['INTERNAL', 'UNAVAILABLE'] }],
];

for (const [what, answer, path, retry] of mended) {
  t.test(`the sidecar retries at the other replica: ${what}`, async (t) => {
    const fails = await startReplica(t, answer);
    const works = await startReplica(t, ok);
    const scene = await startScene(t, [fails, works], retry);
    await scene.call({ path });
    const timers = scene.plane.sidecar.wheel.size;
    for (let i = 0; i < 5; i++) t.equal((await scene.call({ path })).code, status.OK);
    t.ok(fails.calls.length >= 1);
    t.equal(scene.retries('retried'), fails.calls.length);
    const previous = works.calls.map(({ headers }) => headers['grpc-previous-rpc-attempts']);
    t.equal(previous.filter((value) => value === '1').length, fails.calls.length);
    t.equal(works.calls.length, 6);
    await expectNothingLeft(t, scene, timers);
  });
}

const kept: readonly [what: string, answer: Answer, path: string, code: number, counted: string][] = [
  ['a task that its app refused', trailersOnly(14), '/agent.AgentService/StreamProcess', 14, 'not_safe'],
  ['a code that is not configured', trailersOnly(13), rawPaths.unary, 13, ''],
  [
    'a request that its app has not read to the end',
    trailersOnly(8, { 'outrigger-reason': 'not_read' }),
    rawPaths.unary,
    8,
    '',
  ],
  ['an error of the caller', trailersOnly(3), rawPaths.unary, 3, ''],
  ['a stream behind its first message', messageThen(14), rawPaths.unary, 14, ''],
  // As gRPC has it (A6): a head that was passed on commits the call. Only a task is known to be unary.
  ['a call behind its head', headThen(14), rawPaths.unary, 14, ''],
];

for (const [what, answer, path, code, counted] of kept) {
  t.test(`the sidecar does not retry: ${what}`, async (t) => {
    const replicas = [await startReplica(t, answer), await startReplica(t, answer)];
    const scene = await startScene(t, replicas);
    const outcome = await scene.call({ path });
    t.equal(outcome.code, code);
    t.equal(attemptsAt(replicas), 1);
    t.equal(scene.retries('retried'), 0);
    if (counted === '') return;
    t.equal(scene.retries(counted), 1);
    t.same(outcome.trailers.get('grpc-retry-pushback-ms'), [], 'but the caller may');
  });
}

t.test('a task runs once unless its method is declared idempotent', async (t) => {
  const replicas = [await startReplica(t, trailersOnly(14)), await startReplica(t, trailersOnly(14))];
  const scene = await startScene(t, replicas, { idempotent_methods: [] });
  t.equal((await scene.call({ path: PROCESS_TASK_PATH })).code, status.UNAVAILABLE);
  t.equal(attemptsAt(replicas), 1);
  t.equal(scene.retries('not_safe'), 1);
});

t.test('a call gets the configured attempts, those of the hops above included', async (t) => {
  const replicas = [await startReplica(t, trailersOnly(14)), await startReplica(t, trailersOnly(14))];
  const scene = await startScene(t, replicas);
  const outcome = await scene.call();
  t.equal(outcome.code, status.UNAVAILABLE);
  t.equal(attemptsAt(replicas), 3);
  t.same(outcome.trailers.get('grpc-retry-pushback-ms'), ['-1']);
  const previous = replicas.flatMap(({ calls }) => calls.map((c) => c.headers['grpc-previous-rpc-attempts']));
  t.same(previous.sort(), ['1', '2', undefined]);
  const metadata = new Metadata();
  metadata.set('grpc-previous-rpc-attempts', '1');
  await scene.call({ metadata });
  t.equal(attemptsAt(replicas), 5, 'one was made before');
});

t.test("the sidecar waits for a replica's pushback, and obeys a negative one", async (t) => {
  let first = true;
  const once: Answer = (stream, call) => {
    const answer = first ? trailersOnly(14, { 'grpc-retry-pushback-ms': '300' }) : ok;
    first = false;
    answer(stream, call);
  };
  const replicas = [await startReplica(t, once), await startReplica(t, once)];
  const clock = new TestClock();
  const scene = await startScene(t, replicas, {}, {}, clock);
  const call = scene.call();
  await waitUntil('it waits', () => scene.cluster.policies.budget.running === 1);
  clock.advance(290);
  t.equal(attemptsAt(replicas), 1, 'not before its time');
  clock.advance(20);
  t.equal((await call).code, status.OK);
  for (const value of ['-1', 'soon', '']) {
    for (const replica of replicas) replica.answer = trailersOnly(14, { 'grpc-retry-pushback-ms': value });
    const before = attemptsAt(replicas);
    t.equal((await scene.call()).code, status.UNAVAILABLE);
    t.equal(attemptsAt(replicas), before + 1, JSON.stringify(value));
  }
});

t.test('the only replica gets the retry, unless it refuses connections', async (t) => {
  const lone = await startReplica(t, trailersOnly(14));
  const scene = await startScene(t, [lone]);
  t.equal((await scene.call()).code, status.UNAVAILABLE);
  t.equal(lone.calls.length, 3);
  await lone.stop();
  await waitUntil('it has ended', () => scene.cluster.endpoints[0]!.pool.connectionCount === 0);
  const outcome = await scene.call();
  t.equal(outcome.code, status.UNAVAILABLE);
  t.match(outcome.trailers.get('outrigger-reason')[0], /^(connect_failed|no_endpoint)$/);
  t.equal(scene.retries('retried'), 2, 'nobody is there');
});

t.test('the budget ends a retry storm', async (t) => {
  const replicas = [await startReplica(t, trailersOnly(14)), await startReplica(t, trailersOnly(14))];
  const scene = await startScene(t, replicas, { budget: { percent: 20, min_concurrent: 0 } });
  const timers = scene.plane.sidecar.wheel.size;
  const outcomes = await Promise.all(Array.from({ length: 100 }, () => scene.call()));
  t.ok(outcomes.every(({ code }) => code === status.UNAVAILABLE));
  t.equal(attemptsAt(replicas), 100 + scene.retries('retried'));
  t.ok(
    scene.retries('retried') >= 1 && scene.retries('retried') <= 20,
    `${scene.retries('retried')} retries`,
  );
  t.ok(scene.retries('budget_exhausted') >= 60);
  await expectNothingLeft(t, scene, timers + 2);
});

t.test('a retry without remaining time is not made', async (t) => {
  const asks = trailersOnly(14, { 'grpc-retry-pushback-ms': '60000' });
  const replicas = [await startReplica(t, asks), await startReplica(t, asks)];
  const scene = await startScene(t, replicas);
  const outcome = await scene.call({ deadline: Date.now() + 5_000 });
  t.equal(outcome.code, status.UNAVAILABLE, 'at once, with what is known');
  t.equal(scene.retries('deadline'), 1);
  t.equal(attemptsAt(replicas), 1);
});

t.test('a call that ends while its retry waits leaves nothing behind', async (t) => {
  const asks = trailersOnly(14, { 'grpc-retry-pushback-ms': '30000' });
  const replicas = [await startReplica(t, asks), await startReplica(t, asks)];
  const scene = await startScene(t, replicas);
  await scene.call({ path: '/test.Raw/Other' });
  const timers = scene.plane.sidecar.wheel.size;
  const call = scene.client.serverStream(request, { path: rawPaths.unary });
  call.on('error', () => {});
  await waitUntil('it waits', () => scene.cluster.policies.budget.running === 1);
  call.cancel();
  await expectNothingLeft(t, scene, timers + 1);
  t.equal(attemptsAt(replicas), 2);
});

t.test('a request above the buffer is tried once', async (t) => {
  const replicas = [await startReplica(t, trailersOnly(14)), await startReplica(t, trailersOnly(14))];
  const scene = await startScene(t, replicas, { buffer_bytes: 1_000 });
  await scene.client.unary(Buffer.alloc(990));
  t.equal(attemptsAt(replicas), 3);
  await scene.client.unary(Buffer.alloc(1_000));
  t.equal(attemptsAt(replicas), 4);
});

t.test('an abandoned attempt ends, however much of the request is missing', async (t) => {
  const early: Answer = trailersOnly(14);
  const fails = await startReplica(t, silence);
  const works = await startReplica(t, silence);
  const scene = await startScene(t, [fails, works]);
  const peer = (await H2Peer.connect(t, scene.plane.outboundPort)).behave();
  await peer.headers(1, grpcRequest(rawPaths.bidi));
  await peer.data(1, grpcFrame('one'));
  const first = await waitUntil('the call is there', () =>
    [...fails.calls, ...works.calls].find(({ body }) => body.length > 0),
  );
  early(first.stream, first);
  const second = await waitUntil('it is tried again', () =>
    [...fails.calls, ...works.calls].find((call) => call !== first && call.body.length > 0),
  );
  // Without a reset the half-open stream would hold a place at the replica for ever.
  await waitUntil('the first attempt has ended', () => first.closedWith !== undefined);
  t.equal(first.closedWith, 8);
  await peer.data(1, grpcFrame('two'));
  // Trailers of the request, which go to the attempt that runs.
  await peer.send(
    frame(frameType.headers, flag.endHeaders | flag.endStream, 1, headerBlock([['x-end', 'yes']])),
  );
  await waitUntil('the request is complete', () => second.complete);
  t.ok(second.body.equals(Buffer.concat([grpcFrame('one'), grpcFrame('two')])), 'all of it, once');
  ok(second.stream, second);
  await peer.until('it is answered', () => peer.ended.has(1));
  t.equal(peer.field(1, 'grpc-status'), '0');
});

t.test('request trailers that arrive between two attempts go to the second', async (t) => {
  const replicas = [await startReplica(t, silence), await startReplica(t, silence)];
  const clock = new TestClock();
  const scene = await startScene(t, replicas, {}, {}, clock);
  const peer = (await H2Peer.connect(t, scene.plane.outboundPort)).behave();
  const calls = () => replicas.flatMap((replica) => replica.calls);
  await peer.headers(1, grpcRequest(rawPaths.bidi));
  await peer.data(1, grpcFrame('one'));
  const first = await waitUntil('the call is there', () => calls().find(({ body }) => body.length > 0));
  trailersOnly(14, { 'grpc-retry-pushback-ms': '300' })(first.stream, first);
  await waitUntil('it waits', () => scene.cluster.policies.budget.running === 1);
  await peer.send(
    frame(frameType.headers, flag.endHeaders | flag.endStream, 1, headerBlock([['x-end', 'yes']])),
  );
  await peer.roundTrip();
  clock.advance(310);
  const second = await waitUntil('it is tried again', () =>
    calls().find((call) => call !== first && call.complete),
  );
  ok(second.stream, second);
  await peer.until('it is answered', () => peer.ended.has(1));
  t.equal(peer.field(1, 'grpc-status'), '0');
});

t.test('empty DATA is not an answer yet', async (t) => {
  const empty = (peer: H2Peer, id: number, end: boolean) =>
    peer.send(frame(frameType.data, end ? flag.endStream : 0, id));
  const ends: ((peer: H2Peer, id: number) => void)[] = [
    (peer, id) => {
      empty(peer, id, false);
      peer.headers(id, [['grpc-status', '14']], true);
    },
    (peer, id) => empty(peer, id, true),
  ];
  for (const end of ends) {
    let streams = 0;
    const { address } = await startPeerServer(t, (peer) => {
      peer.behave();
      const behaved = peer.onFrame!;
      peer.onFrame = (received) => {
        behaved(received);
        const { type, streamId, flags } = received;
        if (type !== frameType.data || (flags & flag.endStream) === 0) return;
        streams++;
        const head = [[':status', '200'] as const, ['content-type', 'application/grpc'] as const];
        peer.headers(streamId, head);
        end(peer, streamId);
      };
      peer.send(h2Settings());
    });
    const works = await startReplica(t, ok);
    const scene = await startScene(t, [{ address }, works]);
    for (let i = 0; i < 4; i++)
      t.equal((await scene.call({ path: PROCESS_TASK_PATH })).code, status.OK, 'another answered');
    t.ok(streams > 0);
    t.equal(scene.retries('retried'), streams);
  }
});

t.test('the head of a failed attempt is not the head of the next', async (t) => {
  const attempts: Answer[] = [
    (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'x-attempt': 'first' });
      setTimeout(() => stream.close(2), 20);
    },
    trailersOnly(9, { 'x-attempt': 'second' }),
  ];
  const next: Answer = (stream, call) => attempts.shift()!(stream, call);
  const replicas = [await startReplica(t, next), await startReplica(t, next)];
  const scene = await startScene(t, replicas, { on: ['UNAVAILABLE', 'INTERNAL'] });
  const peer = (await H2Peer.connect(t, scene.plane.outboundPort)).behave();
  await peer.headers(1, grpcRequest(PROCESS_TASK_PATH));
  await peer.data(1, grpcFrame('one'), true);
  await peer.until('it is answered', () => peer.ended.has(1));
  t.equal(attemptsAt(replicas), 2);
  t.equal(peer.heads.get(1)!.length, 1, 'Trailers-Only');
  t.equal(peer.field(1, 'grpc-status'), '9');
  t.equal(peer.field(1, 'x-attempt'), 'second');
});

t.test('an open circuit ends the retries of calls in flight', async (t) => {
  const replicas = [
    await startReplica(t, later(20, trailersOnly(14))),
    await startReplica(t, later(20, trailersOnly(14))),
  ];
  const scene = await startScene(
    t,
    replicas,
    {},
    {
      circuit_breaker: { consecutive_failures: 2, failure_percent: 0, recovery_timeout: '60s' },
    },
  );
  const outcomes = await Promise.all(Array.from({ length: 10 }, () => scene.call()));
  t.ok(outcomes.every(({ code }) => code === status.UNAVAILABLE));
  t.ok(attemptsAt(replicas) <= 30);
  const before = attemptsAt(replicas);
  t.same((await scene.call()).trailers.get('outrigger-reason'), ['circuit_open']);
  t.equal(attemptsAt(replicas), before);
});
