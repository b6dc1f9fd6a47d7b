// Extra attempts beside slow ones: when they are made, who wins, and what becomes of the losers.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import {
  type Answer,
  headThen,
  later as laterBy,
  messageThen,
  ok,
  type Replica,
  silence,
  startReplica,
  trailersOnly,
} from './support/answers.ts';

const request = Buffer.from('request');
const cancel = 8;

/** Delays and the replicas' time pass as a test says, once the attempts that it expects are there. */
const clock = new TestClock();
const later = (ms: number, answer: Answer): Answer => laterBy(ms, answer, clock);

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
    {},
    clock,
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
    /** Waits until so many attempts have come to replicas, whole, since the beginning. */
    arrived: (count: number) => {
      const whole = () => replicas.flatMap(({ calls }) => calls).filter(({ complete }) => complete).length;
      return waitUntil(`${count} attempts were there`, () => whole() === count);
    },
    /** Waits until the sidecar knows of so many attempts that run. */
    running: (count: number) =>
      waitUntil(`${count} attempts run`, () => {
        return cluster.endpoints.reduce((sum, { activeCalls }) => sum + activeCalls, 0) === count;
      }),
  };
}

/** The first call that comes to any of them is answered by the first, and so on: who is picked first is not known. */
function inOrder(...answers: readonly Answer[]): Answer[] {
  let calls = 0;
  return answers.map(() => (stream, call) => answers[calls++]!(stream, call));
}

type Scene = Awaited<ReturnType<typeof startScene>>;

async function expectNothingLeft(t: Test, { cluster, plane }: Scene): Promise<void> {
  await waitUntil('the budget is free', () => cluster.policies.budget.running === 0);
  await waitUntil('no attempt runs', () => cluster.endpoints.every(({ activeCalls }) => activeCalls === 0));
  t.equal(cluster.activeCalls, 0);
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
}

for (const path of [rawPaths.unary, PROCESS_TASK_PATH]) {
  t.test(`the first answer wins and the loser is reset: ${path}`, async (t) => {
    const scene = await startScene(t, [silence, ok], { delay: '20ms' });
    const silent = scene.replicas[0]!;
    for (let i = 0; i < 4; i++) {
      const before = silent.calls.length;
      let answered = false;
      const asked = scene.client.unary(request, { path }).finally(() => {
        answered = true;
      });
      await waitUntil('it met silence or was answered', () => {
        return answered || silent.calls[before]?.complete === true;
      });
      if (!answered) clock.advance(30);
      t.equal((await asked).code, status.OK);
    }
    t.ok(silent.calls.length >= 2, 'round robin: it has its share');
    await waitUntil('the losers were reset', () =>
      silent.calls.every(({ closedWith }) => closedWith === cancel),
    );
    t.equal(scene.hedges('sent'), silent.calls.length);
    t.equal(scene.hedges('won'), silent.calls.length);
    t.equal(scene.cluster.retries.get('success'), undefined, 'a hedge is no retry');
    t.equal(
      silent.calls[0]!.body.equals(scene.replicas[1]!.calls[0]!.body),
      true,
      'the whole request went to both',
    );
    await expectNothingLeft(t, scene);
  });
}

t.test('the slow attempt may still win', async (t) => {
  const scene = await startScene(t, inOrder(later(150, messageThen(0, { message: 'first' })), silence), {
    delay: '20ms',
  });
  const asked = scene.client.unary(request);
  await scene.arrived(1);
  clock.advance(30);
  await scene.arrived(2);
  clock.advance(150);
  t.equal(String((await asked).response), 'first');
  const calls = scene.replicas.flatMap(({ calls }) => calls);
  await waitUntil('the extra one was reset', () => calls.some(({ closedWith }) => closedWith === cancel));
  t.equal(calls.length, 2);
  t.equal(scene.hedges('won'), 0);
  await expectNothingLeft(t, scene);
});

t.test(
  'no hedge for an undeclared method, when off, with quick answers, without another endpoint, without budget',
  async (t) => {
    const slow = later(80, ok);
    /** A call that takes longer than the delay, and is not helped. */
    const alone = async (scene: Scene, path: string = rawPaths.unary): Promise<void> => {
      const asked = scene.client.unary(request, { path });
      await scene.arrived(1);
      clock.advance(70);
      clock.advance(10);
      t.equal((await asked).code, status.OK);
      t.equal(scene.attempts(), 1);
    };
    const undeclared = await startScene(t, [slow, slow], { delay: '10ms' });
    await alone(undeclared, '/test.Raw/Other');
    const off = await startScene(t, [slow, slow], {});
    await alone(off);
    const quick = await startScene(t, [ok, ok], { delay: '5s' });
    await quick.client.unary(request);
    const timers = quick.plane.sidecar.wheel.size;
    for (let i = 0; i < 50; i++) await quick.client.unary(request);
    t.equal(quick.attempts(), 51);
    t.ok(quick.plane.sidecar.wheel.size < timers + 10, 'no timer is left of them');
    const lone = await startScene(t, [slow], { delay: '10ms' });
    await alone(lone);
    const poor = await startScene(
      t,
      [slow, slow],
      { delay: '10ms' },
      { retry: { budget: { percent: 0, min_concurrent: 0 } } },
    );
    await alone(poor);
    t.equal(poor.hedges('budget_exhausted'), 1);
    for (const scene of [undeclared, off, quick, lone, poor]) await expectNothingLeft(t, scene);
  },
);

t.test('at most max_extra hedges, each at another endpoint', async (t) => {
  const scene = await startScene(
    t,
    [silence, silence, silence, silence],
    { delay: '15ms', max_extra: 2 },
    { timeout: '300ms' },
  );
  const asked = scene.client.unary(request, { path: PROCESS_TASK_PATH });
  for (const count of [1, 2, 3]) {
    await scene.arrived(count);
    clock.advance(30);
  }
  clock.advance(300);
  t.equal((await asked).code, status.DEADLINE_EXCEEDED);
  t.same(scene.replicas.map(({ calls }) => calls.length).sort(), [0, 1, 1, 1]);
  for (const { calls } of scene.replicas)
    for (const call of calls) await waitUntil('it was reset', () => call.closedWith === cancel);
  await expectNothingLeft(t, scene);
});

t.test('a failed attempt does not end the call while another runs, and starts the next hedge', async (t) => {
  const scene = await startScene(t, inOrder(later(60, trailersOnly(14)), later(200, ok)), { delay: '20ms' });
  const asked = scene.client.unary(request);
  await scene.arrived(1);
  clock.advance(30);
  await scene.arrived(2);
  clock.advance(30);
  await scene.running(1);
  clock.advance(200);
  t.equal((await asked).code, status.OK);
  t.equal(scene.attempts(), 2);
  t.equal(scene.cluster.retries.get('retried') ?? 0, 0, 'no retry was needed');
  const hasty = await startScene(t, inOrder(later(50, trailersOnly(14)), silence, later(5, ok)), {
    delay: '40ms',
    max_extra: 2,
  });
  const hastened = hasty.client.unary(request);
  await hasty.arrived(1);
  clock.advance(45);
  await hasty.arrived(2);
  clock.advance(5);
  await hasty.running(1);
  clock.advance(20);
  await hasty.arrived(3);
  clock.advance(10);
  t.equal((await hastened).code, status.OK, 'the third did not wait for its delay');
  t.equal(hasty.attempts(), 3);
  for (const each of [scene, hasty]) await expectNothingLeft(t, each);
});

t.test(
  'when all attempts fail, the retry policy continues, and the caller gets the last failure',
  async (t) => {
    const fails = later(40, headThen(14));
    const scene = await startScene(t, [fails, fails], { delay: '10ms' }, { retry: { max_attempts: 2 } });
    const asked = scene.client.unary(request, { path: PROCESS_TASK_PATH });
    await scene.arrived(1);
    clock.advance(20);
    await scene.arrived(2);
    clock.advance(20);
    await scene.running(1);
    clock.advance(20);
    t.equal((await asked).code, status.UNAVAILABLE);
    t.equal(scene.attempts(), 2, 'the extra attempt counts as one');
    t.equal(scene.hedges('sent'), 1);
    t.equal(scene.hedges('won'), 0, 'it failed, too');
    await expectNothingLeft(t, scene);
  },
);

t.test('an answering retry does not count as a winning hedge, and counts when it is made', async (t) => {
  const scene = await startScene(t, inOrder(trailersOnly(14), ok), { delay: '10s' });
  const retries = (outcome: string) => scene.cluster.retries.get(outcome) ?? 0;
  const asked = scene.client.unary(request);
  await scene.arrived(1);
  await waitUntil('the first has failed', () =>
    scene.cluster.endpoints.every(({ activeCalls }) => activeCalls === 0),
  );
  t.equal(retries('retried'), 0, 'not yet: its caller may leave before');
  clock.advance(1_000);
  t.equal((await asked).code, status.OK);
  t.equal(retries('retried'), 1);
  t.equal(retries('success'), 1);
  t.equal(scene.hedges('won'), 0);
  await expectNothingLeft(t, scene);
});

t.test('an error that no retry can help is an answer', async (t) => {
  const scene = await startScene(t, inOrder(later(60, trailersOnly(3)), silence), { delay: '10ms' });
  const asked = scene.client.unary(request);
  await scene.arrived(1);
  clock.advance(20);
  await scene.arrived(2);
  clock.advance(40);
  t.equal((await asked).code, status.INVALID_ARGUMENT);
  const calls = scene.replicas.flatMap(({ calls }) => calls);
  await waitUntil('the other was reset', () => calls.some(({ closedWith }) => closedWith === cancel));
  await expectNothingLeft(t, scene);
});

t.test('a disconnected caller ends all attempts', async (t) => {
  const scene = await startScene(t, [silence, silence], { delay: '10ms' });
  const call = scene.client.serverStream(request, { path: rawPaths.serverStream });
  call.on('error', () => {});
  await scene.arrived(1);
  clock.advance(20);
  await scene.arrived(2);
  call.cancel();
  for (const { calls } of scene.replicas)
    await waitUntil('it was reset', () => calls[0]!.closedWith === cancel);
  await expectNothingLeft(t, scene);
});

t.test('hedges start after the latency percentile', async (t) => {
  const scene = await startScene(t, [later(10, ok), later(10, ok)], { percentile: 95 });
  const [first] = scene.replicas as [Replica];
  const ask = async (): Promise<void> => {
    const [before, beforeFirst] = [scene.attempts(), first.calls.length];
    const asked = scene.client.unary(request);
    await scene.arrived(before + 1);
    if (first.answer === silence && first.calls.length > beforeFirst) {
      clock.advance(60);
      await scene.arrived(before + 2);
    }
    clock.advance(10);
    t.equal((await asked).code, status.OK);
  };
  for (let i = 0; i < 40; i++) await ask();
  t.ok(scene.attempts() < 60, 'too little is known for most of them');
  first.answer = silence;
  const before = scene.hedges('sent');
  for (let i = 0; i < 4; i++) await ask();
  t.ok(scene.hedges('sent') >= before + 2, `${scene.hedges('sent')} were sent`);
  await expectNothingLeft(t, scene);
});

t.test('an exhausted budget only delays a hedge: a call at a silent endpoint gets one later', async (t) => {
  const scene = await startScene(
    t,
    [silence, silence],
    { delay: '20ms' },
    { retry: { budget: { percent: 0, min_concurrent: 1 } } },
  );
  const { budget } = scene.cluster.policies;
  t.ok(budget.tryAcquire(clock.nowMs, 1), 'another call has the only place');
  const answer = scene.client.unary(request);
  await scene.arrived(1);
  clock.advance(30);
  t.equal(scene.hedges('budget_exhausted'), 1, 'the budget was asked');
  for (const replica of scene.replicas) replica.answer = ok;
  budget.release();
  // A place that was used is free again a second later.
  clock.advance(1_100);
  t.equal((await answer).code, status.OK);
  t.equal(scene.hedges('budget_exhausted'), 1, 'counted once a call');
  await expectNothingLeft(t, scene);
});
