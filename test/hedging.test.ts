// Extra attempts beside slow ones: when they are made, who wins, and what becomes of the losers.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { policiesOf } from '../sidecar/proxy/cluster-policies.ts';
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
import { oneCluster, startDataPlane } from './support/data-plane.ts';
import { RawClient, rawPaths } from './support/raw-grpc.ts';
import { waitUntil } from './support/wait-until.ts';

const request = Buffer.from('request');
const cancel = 8;

async function startScene(
  t: Test,
  answers: readonly Answer[],
  hedge: Record<string, unknown>,
  { retry = {}, ...settings }: Record<string, unknown> = {},
) {
  const replicas: Replica[] = [];
  for (const answer of answers) replicas.push(await startReplica(t, answer));
  const plane = await startDataPlane(
    t,
    oneCluster(
      replicas.map(({ address }) => address),
      {
        balancer: 'round_robin',
        // Failures are not to eject, nor open the circuit, in the middle of a test.
        outlier_detection: { consecutive_failures: 0, max_ejection_percent: 0 },
        circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
        retry: {
          max_attempts: 3,
          idempotent_methods: [rawPaths.unary, rawPaths.serverStream, PROCESS_TASK_PATH],
          budget: { min_concurrent: 100 },
          ...(retry as object),
        },
        hedge,
        ...settings,
      },
    ),
  );
  const cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  const client = new RawClient(t, plane.outboundPort, { 'grpc.enable_retries': 0 });
  return {
    replicas,
    plane,
    cluster,
    client,
    hedges: (what: string) => cluster.hedges.get(what) ?? 0,
    attempts: () => replicas.reduce((sum, { calls }) => sum + calls.length, 0),
  };
}

/** The first call that comes to any of them is answered by the first, and so on: who is picked first is not known. */
function inOrder(...answers: readonly Answer[]): Answer[] {
  let calls = 0;
  return answers.map(() => (stream, call) => answers[calls++]!(stream, call));
}

type Scene = Awaited<ReturnType<typeof startScene>>;

async function expectNothingLeft(t: Test, { cluster, plane }: Scene): Promise<void> {
  await waitUntil('the budget is free', () => policiesOf(cluster).budget.running === 0);
  await waitUntil('no attempt runs', () => cluster.endpoints.every(({ activeCalls }) => activeCalls === 0));
  t.equal(cluster.activeCalls, 0);
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
}

for (const path of [rawPaths.unary, PROCESS_TASK_PATH]) {
  t.test(`the first answer wins and the loser is reset: ${path}`, async (t) => {
    const scene = await startScene(t, [silence, ok], { delay: '20ms' });
    for (let i = 0; i < 4; i++) {
      const answer = await scene.client.unary(request, { path });
      t.equal(answer.code, status.OK);
    }
    const silent = scene.replicas[0]!;
    t.ok(silent.calls.length >= 2, 'round robin: it has its share');
    await waitUntil('the losers were reset', () =>
      silent.calls.every(({ closedWith }) => closedWith === cancel),
    );
    // On a busy machine an answer may be late at the other one, too.
    t.ok(scene.hedges('sent') >= silent.calls.length);
    t.ok(scene.hedges('won') >= 2, `${scene.hedges('won')} won`);
    t.equal(
      silent.calls[0]!.body.equals(scene.replicas[1]!.calls[0]!.body),
      true,
      'the whole request went to both',
    );
    await expectNothingLeft(t, scene);
  });
}

t.test('the slow one may still win', async (t) => {
  const scene = await startScene(t, inOrder(later(150, messageThen(0, { message: 'first' })), silence), {
    delay: '20ms',
  });
  const answer = await scene.client.unary(request);
  t.equal(String(answer.response), 'first');
  const calls = scene.replicas.flatMap(({ calls }) => calls);
  await waitUntil('the extra one was reset', () => calls.some(({ closedWith }) => closedWith === cancel));
  t.equal(calls.length, 2);
  t.equal(scene.hedges('won'), 0);
  await expectNothingLeft(t, scene);
});

t.test('no extra attempt: a method not declared, off, quick answers, nowhere to go, no budget', async (t) => {
  const slow = later(80, ok);
  const undeclared = await startScene(t, [slow, slow], { delay: '10ms' });
  t.equal((await undeclared.client.unary(request, { path: '/test.Raw/Other' })).code, status.OK);
  t.equal(undeclared.attempts(), 1);
  const off = await startScene(t, [slow, slow], {});
  t.equal((await off.client.unary(request)).code, status.OK);
  t.equal(off.attempts(), 1);
  const quick = await startScene(t, [ok, ok], { delay: '5s' });
  await quick.client.unary(request);
  const timers = quick.plane.sidecar.wheel.size;
  for (let i = 0; i < 50; i++) await quick.client.unary(request);
  t.equal(quick.attempts(), 51);
  t.ok(quick.plane.sidecar.wheel.size < timers + 10, 'no timer is left of them');
  const lone = await startScene(t, [slow], { delay: '10ms' });
  t.equal((await lone.client.unary(request)).code, status.OK);
  t.equal(lone.attempts(), 1);
  const poor = await startScene(
    t,
    [slow, slow],
    { delay: '10ms' },
    { retry: { budget: { percent: 0, min_concurrent: 0 } } },
  );
  t.equal((await poor.client.unary(request)).code, status.OK);
  t.equal(poor.attempts(), 1);
  t.equal(poor.hedges('budget_exhausted'), 1);
  for (const scene of [undeclared, off, quick, lone, poor]) await expectNothingLeft(t, scene);
});

t.test('at most max_extra, each at another endpoint', async (t) => {
  const scene = await startScene(
    t,
    [silence, silence, silence, silence],
    { delay: '15ms', max_extra: 2 },
    { timeout: '300ms' },
  );
  t.equal((await scene.client.unary(request)).code, status.DEADLINE_EXCEEDED);
  t.same(scene.replicas.map(({ calls }) => calls.length).sort(), [0, 1, 1, 1]);
  for (const { calls } of scene.replicas)
    for (const call of calls) await waitUntil('it was reset', () => call.closedWith === cancel);
  await expectNothingLeft(t, scene);
});

t.test('one that fails does not end the call while another runs, and hastens the next', async (t) => {
  const scene = await startScene(t, inOrder(later(60, trailersOnly(14)), later(200, ok)), { delay: '20ms' });
  t.equal((await scene.client.unary(request)).code, status.OK);
  t.equal(scene.attempts(), 2);
  t.equal(scene.cluster.retries.get('retried') ?? 0, 0, 'no retry was needed');
  const hasty = await startScene(t, inOrder(later(30, trailersOnly(14)), silence, later(5, ok)), {
    delay: '20ms',
    max_extra: 2,
  });
  t.equal((await hasty.client.unary(request)).code, status.OK, 'the third did not wait for its delay');
  t.equal(hasty.attempts(), 3);
  for (const each of [scene, hasty]) await expectNothingLeft(t, each);
});

t.test('when all have failed the retry policy goes on, and the last failure is told', async (t) => {
  const fails = later(40, headThen(14));
  const scene = await startScene(t, [fails, fails], { delay: '10ms' }, { retry: { max_attempts: 2 } });
  const answer = await scene.client.unary(request, { path: PROCESS_TASK_PATH });
  t.equal(answer.code, status.UNAVAILABLE);
  t.equal(scene.attempts(), 2, 'the extra attempt counts as one');
  await expectNothingLeft(t, scene);
});

t.test('an error that no retry would help is an answer', async (t) => {
  const scene = await startScene(t, inOrder(later(60, trailersOnly(3)), silence), { delay: '10ms' });
  t.equal((await scene.client.unary(request)).code, status.INVALID_ARGUMENT);
  const calls = scene.replicas.flatMap(({ calls }) => calls);
  await waitUntil('the other was reset', () => calls.some(({ closedWith }) => closedWith === cancel));
  await expectNothingLeft(t, scene);
});

t.test('the caller that leaves takes all attempts along', async (t) => {
  const scene = await startScene(t, [silence, silence], { delay: '10ms' });
  const call = scene.client.serverStream(request, { path: rawPaths.serverStream });
  call.on('error', () => {});
  await waitUntil('both run', () => scene.attempts() === 2);
  call.cancel();
  for (const { calls } of scene.replicas)
    await waitUntil('it was reset', () => calls[0]!.closedWith === cancel);
  await expectNothingLeft(t, scene);
});

t.test('by percentile: what takes longer than nearly all answers did', async (t) => {
  const scene = await startScene(t, [ok, ok], { percentile: 95 });
  for (let i = 0; i < 40; i++) await scene.client.unary(request);
  t.ok(scene.attempts() < 60, 'too little is known for most of them');
  scene.replicas[0]!.answer = silence;
  const before = scene.hedges('sent');
  for (let i = 0; i < 4; i++) t.equal((await scene.client.unary(request)).code, status.OK);
  t.ok(scene.hedges('sent') >= before + 2, `${scene.hedges('sent')} were sent`);
  await expectNothingLeft(t, scene);
});

t.test(
  'want of budget only puts it off: a call at a silent endpoint is helped when there is room again',
  async (t) => {
    const scene = await startScene(
      t,
      [silence, silence],
      { delay: '20ms' },
      { retry: { budget: { percent: 0, min_concurrent: 1 } } },
    );
    const { budget } = policiesOf(scene.cluster);
    t.ok(budget.tryAcquire(scene.plane.sidecar.clock(), 1), 'another call has the only place');
    const answer = scene.client.unary(request);
    await waitUntil('the budget was asked', () => scene.hedges('budget_exhausted') === 1);
    for (const replica of scene.replicas) replica.answer = ok;
    budget.release();
    t.equal((await answer).code, status.OK);
    t.equal(scene.hedges('budget_exhausted'), 1, 'counted once a call');
    await expectNothingLeft(t, scene);
  },
);
