// Agents that call agents: one owner of retries, no circles, no more time than the caller has, and an end for all.
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { errorCode } from '../scripts/harness/h2-peer.ts';
import type { UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { parseTimeout } from '../sidecar/grpc/timeout.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { ok, silence, startReplica, trailersOnly } from './support/answers.ts';
import { AgentError, type ChainAgent, type OnTask, startChain } from './support/chain-agent.ts';
import { TaskCaller } from './support/task-caller.ts';
import { taskRequest } from './support/upstream.ts';

t.setTimeout(290_000);

const request = taskRequest({ id: 'task', input: 'question' });
const backoff = { base: '1ms', max: '2ms' };
const budget = { min_concurrent: 1000 };

/** What an agent hands on of the call it answers. */
interface Habit {
  readonly what: string;
  readonly metadata: (from: Metadata) => Metadata;
  readonly request: (from: Buffer) => Buffer;
}

let ids = 0;
const newRequest = (): Buffer => taskRequest({ id: `own ${ids++}`, input: 'part of it' });
const ownHeaders = ['traceparent', 'outrigger-path', 'grpc-previous-rpc-attempts', 'authorization'];

function forwarded(from: Metadata, names: readonly string[]): Metadata {
  const metadata = new Metadata();
  for (const name of names) for (const value of from.get(name)) metadata.add(name, value);
  return metadata;
}

const nothing = (): Metadata => new Metadata();
const handsOnAll: Habit = {
  what: 'hand on the metadata and the task',
  metadata: (from) => forwarded(from, ownHeaders),
  request: (from) => from,
};
const handsOnTrace: Habit = {
  what: 'hand on the trace only',
  metadata: (from) => forwarded(from, ['traceparent']),
  request: newRequest,
};
const handsOnTask: Habit = { what: 'hand on the task only', metadata: nothing, request: (from) => from };
const handsOnNothing: Habit = { what: 'hand on nothing', metadata: nothing, request: newRequest };
const habits = [handsOnAll, handsOnTrace, handsOnTask, handsOnNothing];

/** Calls the next one, and makes an error of its own of whatever fails. */
function callsNext(next: string, habit: Habit): OnTask {
  return async (task, agent) => {
    const outcome = await agent.call(next, habit.request(task.request), habit.metadata(task.metadata));
    if (outcome.code !== status.OK) throw new AgentError(status.UNAVAILABLE);
    return outcome.response!;
  };
}

const traced = (n: number): Metadata => {
  const metadata = new Metadata();
  metadata.set('traceparent', `00-${String(n + 1).padStart(32, '0')}-00000000000000ff-00`);
  return metadata;
};

const safe: readonly [what: string, retry: Record<string, unknown>][] = [
  ['declared idempotent', { idempotent_methods: [PROCESS_TASK_PATH] }],
  ['run once by their id', {}],
];

for (const habit of habits) {
  for (const [what, retry] of safe) {
    t.test(
      `a dead leaf gets as many attempts as one hop may make, of agents that ${habit.what}: ${what}`,
      async (t) => {
        const leaf = await startReplica(t, trailersOnly(14));
        const agents = await startChain(t, {
          names: ['gateway', 'a', 'b'],
          retry: { max_attempts: 3, backoff, budget, ...retry },
          others: { leaf: leaf.address },
        });
        const { gateway, a, b } = agents as Record<'gateway' | 'a' | 'b', ChainAgent>;
        a.onTask = callsNext('b', habit);
        b.onTask = callsNext('leaf', habit);
        const outcome = await gateway.call('a', request, traced(0));
        t.equal(outcome.code, status.UNAVAILABLE);
        // A client's own policy ends where its chain has made its retries. What was not tried again is the client's to try.
        const used = what === 'declared idempotent';
        t.same(outcome.trailers.get('grpc-retry-pushback-ms'), used ? ['-1'] : []);
        // The leaf has no sidecar that de-duplicates: what is not idempotent is sent there once.
        t.equal(leaf.calls.length, used ? 3 : 1);
        t.equal(b.tasks.length, 1);
        t.equal(a.tasks.length, 1);
        // The next call is not held to account for it.
        leaf.answer = ok;
        t.equal((await gateway.call('a', newRequest(), traced(1))).code, status.OK);
      },
    );
  }
}

t.test('each of many simultaneous calls with a dead leaf has its own owner', async (t) => {
  const leaf = await startReplica(t, trailersOnly(14));
  const { gateway, a, b } = (await startChain(t, {
    names: ['gateway', 'a', 'b'],
    retry: { max_attempts: 3, backoff, budget, idempotent_methods: [PROCESS_TASK_PATH] },
    others: { leaf: leaf.address },
  })) as Record<'gateway' | 'a' | 'b', ChainAgent>;
  for (const habit of [handsOnAll, handsOnTrace, handsOnTask]) {
    a.onTask = callsNext('b', habit);
    b.onTask = callsNext('leaf', habit);
    const before = leaf.calls.length;
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        gateway.call('a', taskRequest({ id: `${habit.what} ${i}` }), traced(i)),
      ),
    );
    t.equal(leaf.calls.length - before, 60, habit.what);
  }
});

for (const habit of habits) {
  t.test(`a circle is refused before its first agent runs again, of agents that ${habit.what}`, async (t) => {
    const { gateway, a, b } = (await startChain(t, {
      names: ['gateway', 'a', 'b'],
      retry: { max_attempts: 3, backoff, budget, idempotent_methods: [PROCESS_TASK_PATH] },
    })) as Record<'gateway' | 'a' | 'b', ChainAgent>;
    const refusals: string[] = [];
    const asks =
      (next: string): OnTask =>
      async (task, agent) => {
        const outcome = await agent.call(next, habit.request(task.request), habit.metadata(task.metadata));
        if (outcome.code === status.OK) return outcome.response!;
        refusals.push(`${agent.name}: ${outcome.code} ${outcome.trailers.get('outrigger-reason')[0]}`);
        throw new AgentError(status.UNAVAILABLE);
      };
    a.onTask = asks('b');
    b.onTask = asks('a');
    const outcome = await gateway.call('a', request, traced(0));
    t.equal(outcome.code, status.UNAVAILABLE);
    t.equal(a.tasks.length, 1);
    t.equal(b.tasks.length, 1);
    t.equal(refusals[0], `b: ${status.FAILED_PRECONDITION} call_cycle`);
    t.equal(a.plane.sidecar.inbound.stats.rejected.get('call_cycle'), 1, 'and not tried again');
  });
}

t.test('an agent that calls itself is refused, unless the configuration allows it', async (t) => {
  for (const allowed of [false, true]) {
    const { gateway, a } = (await startChain(t, {
      names: ['gateway', 'a'],
      inbound: { allow_call_cycles: allowed, max_call_depth: 5 },
    })) as Record<'gateway' | 'a', ChainAgent>;
    const codes: number[] = [];
    a.onTask = async (task, agent) => {
      const outcome = await agent.call('a', newRequest(), forwarded(task.metadata, ownHeaders));
      codes.push(outcome.code);
      return Buffer.from('done');
    };
    t.equal((await gateway.call('a', request)).code, status.OK);
    t.equal(a.tasks.length, allowed ? 4 : 1, 'the gateway is one of the five');
    t.equal(codes[0], status.FAILED_PRECONDITION);
    t.equal(a.plane.sidecar.inbound.stats.rejected.get(allowed ? 'call_depth' : 'call_cycle'), 1);
  }
});

for (const habit of habits) {
  t.test(`a chain that is too long is refused, of agents that ${habit.what}`, async (t) => {
    const names = ['gateway', 'a', 'b', 'c', 'd'];
    const agents = await startChain(t, { names, inbound: { max_call_depth: 4 } });
    for (const [i, name] of names.entries())
      if (i < names.length - 1) agents[name]!.onTask = callsNext(names[i + 1]!, habit);
    await agents['gateway']!.call('a', request, traced(0));
    t.same(
      names.map((name) => agents[name]!.tasks.length),
      [0, 1, 1, 1, 0],
      'the gateway, a, b and c',
    );
    t.equal(agents['d']!.plane.sidecar.inbound.stats.rejected.get('call_depth'), 1);
  });
}

t.test('a diamond is not a circle', async (t) => {
  for (const habit of habits) {
    const { gateway, a, b, c, d } = (await startChain(t, {
      names: ['gateway', 'a', 'b', 'c', 'd'],
    })) as Record<string, ChainAgent>;
    b!.onTask = callsNext('d', habit);
    c!.onTask = callsNext('d', habit);
    a!.onTask = async (task, agent) => {
      const next = (to: string) => agent.call(to, habit.request(task.request), habit.metadata(task.metadata));
      const outcomes = await Promise.all([next('b'), next('c')]);
      if (outcomes.some(({ code }) => code !== status.OK)) throw new AgentError(status.UNAVAILABLE);
      return Buffer.from('both');
    };
    t.equal((await gateway!.call('a', request, traced(0))).code, status.OK, habit.what);
    const sameTask = habit.request(request).equals(habit.request(request));
    t.equal(d!.tasks.length, sameTask ? 1 : 2, 'one task with one id is run once');
  }
});

t.test('sidecars without names are not mistaken for each other', async (t) => {
  const { gateway, a, b } = (await startChain(t, {
    names: ['gateway', 'a', 'b'],
    named: false,
  })) as Record<'gateway' | 'a' | 'b', ChainAgent>;
  a.onTask = callsNext('b', handsOnAll);
  t.equal((await gateway.call('a', request)).code, status.OK);
  b.onTask = callsNext('a', handsOnAll);
  t.equal((await gateway.call('a', newRequest())).code, status.UNAVAILABLE, 'but a circle is found');
  t.equal(a.tasks.length, 2);
});

async function startSilentChain(t: Test, habit: Habit) {
  const leaf = await startReplica(t, silence);
  const agents = await startChain(t, { names: ['gateway', 'a', 'b'], others: { leaf: leaf.address } });
  const { gateway, a, b } = agents as Record<'gateway' | 'a' | 'b', ChainAgent>;
  a.onTask = callsNext('b', habit);
  b.onTask = callsNext('leaf', habit);
  const caller = await TaskCaller.connect(t, gateway.plane.outboundPort);
  const fields: [string, string][] = [['traceparent', traced(0).get('traceparent')[0] as string]];
  return { leaf, gateway, a, b, caller, fields };
}

for (const habit of [handsOnAll, handsOnTrace, handsOnTask]) {
  t.test(`a cancellation reaches agents three hops away, of agents that ${habit.what}`, async (t) => {
    for (const how of ['cancels', 'is gone']) {
      const { leaf, gateway, a, b, caller, fields } = await startSilentChain(t, habit);
      const call = await caller.send({ to: 'a', fields });
      await waitUntil('the leaf has it', () => leaf.calls.length === 1 && leaf.calls[0]!.complete);
      if (how === 'cancels') await call.cancel();
      else caller.vanish();
      await waitUntil('the leaf heard', () => leaf.calls[0]!.closedWith === errorCode.cancel);
      for (const agent of [a, b]) t.equal(agent.tasks[0]!.cancelled(), true, agent.name);
      for (const { plane } of [gateway, a, b]) {
        await waitUntil('nothing runs', () => plane.sidecar.outbound.stats.activeCalls === 0);
        await waitUntil('nothing runs', () => plane.sidecar.inbound.stats.activeCalls === 0);
      }
      t.equal(leaf.calls.length, 1, 'and nothing is tried again');
    }
  });
}

for (const habit of habits) {
  t.test(`the remaining time shrinks from hop to hop, of agents that ${habit.what}`, async (t) => {
    const { leaf, a, b, caller, fields } = await startSilentChain(t, habit);
    const startedAtMs = performance.now();
    const call = await caller.send({ to: 'a', fields: [...fields, ['grpc-timeout', '3S']] });
    await waitUntil('the leaf has it', () => leaf.calls.length === 1);
    const atLeafMs = parseTimeout(leaf.calls[0]!.headers['grpc-timeout'] as string);
    t.ok(a.tasks[0]!.timeLeftMs <= 3_000);
    t.ok(b.tasks[0]!.timeLeftMs <= a.tasks[0]!.timeLeftMs);
    t.ok(atLeafMs < 3_000, `${atLeafMs} ms are left`);
    await call.ended();
    // All clocks strike together. When a hop behind is first, its agent has its own word for it.
    t.ok([status.DEADLINE_EXCEEDED, status.UNAVAILABLE].includes(call.status), `${call.status}`);
    await waitUntil('the leaf heard', () => leaf.calls[0]!.closedWith === errorCode.cancel);
    t.ok(performance.now() - startedAtMs < 50_000, 'by that clock, not the minute of each hop');
    t.equal(a.tasks.length + b.tasks.length + leaf.calls.length, 3);
  });
}

/** One agent beside the gateway, and a leaf that says nothing. */
async function startPair(t: Test) {
  const leaf = await startReplica(t, silence);
  const agents = await startChain(t, { names: ['gateway', 'a'], others: { leaf: leaf.address } });
  const { gateway, a } = agents as Record<'gateway' | 'a', ChainAgent>;
  const caller = await TaskCaller.connect(t, gateway.plane.outboundPort);
  return { leaf, gateway, a, caller };
}

t.test('work that only may belong to a call does not end with it', async (t) => {
  const { leaf, a, caller } = await startPair(t);
  let background: Promise<UnaryOutcome> | undefined;
  a.onTask = (_, agent) => {
    background ??= agent.call('leaf', newRequest());
    return new Promise(() => {});
  };
  const call = await caller.send({ to: 'a' });
  await waitUntil('the leaf has it', () => leaf.calls.length === 1 && leaf.calls[0]!.complete);
  await call.cancel();
  await waitUntil('the agent heard', () => a.tasks[0]!.cancelled());
  await waitUntil('the call is over', () => a.plane.sidecar.inbound.stats.activeCalls === 0);
  t.equal(leaf.calls[0]!.closedWith, undefined);
  ok(leaf.calls[0]!.stream, leaf.calls[0]!);
  t.equal((await background!).code, status.OK);
});

t.test('work of one call does not end with another', async (t) => {
  const { leaf, a, caller } = await startPair(t);
  a.onTask = callsNext('leaf', handsOnTask);
  const leaves = await caller.send({ to: 'a', id: 'leaves' });
  const stays = await caller.send({ to: 'a', id: 'stays' });
  const at = (id: string) => leaf.calls.find(({ body, complete }) => complete && body.includes(id));
  await waitUntil('the leaf has both', () => at('leaves') !== undefined && at('stays') !== undefined);
  await leaves.cancel();
  await waitUntil('the leaf heard', () => at('leaves')!.closedWith === errorCode.cancel);
  t.equal(at('stays')!.closedWith, undefined);
  ok(at('stays')!.stream, at('stays')!);
  t.equal((await stays.ended()).status, 0);
});

t.test('an agent that has answered may finish its further work', async (t) => {
  const { leaf, gateway, a } = await startPair(t);
  let background: Promise<UnaryOutcome> | undefined;
  a.onTask = async (task, agent) => {
    background = agent.call('leaf', task.request);
    await waitUntil('the leaf has it', () => leaf.calls.length === 1 && leaf.calls[0]!.complete);
    return Buffer.from('taken');
  };
  t.equal((await gateway.call('a', request)).code, status.OK);
  t.equal(leaf.calls[0]!.closedWith, undefined);
  ok(leaf.calls[0]!.stream, leaf.calls[0]!);
  t.equal((await background!).code, status.OK);
});

t.test('with an unreachable leaf, each agent before it runs once', async (t) => {
  for (const habit of habits) {
    const { gateway, a, b } = (await startChain(t, {
      names: ['gateway', 'a', 'b'],
      retry: { max_attempts: 3, backoff, budget, idempotent_methods: [PROCESS_TASK_PATH] },
      others: { leaf: `127.0.0.1:${await freePort()}` },
    })) as Record<'gateway' | 'a' | 'b', ChainAgent>;
    a.onTask = callsNext('b', habit);
    b.onTask = callsNext('leaf', habit);
    for (const runs of [1, 2]) {
      t.equal((await gateway.call('a', newRequest(), traced(runs))).code, status.UNAVAILABLE);
      t.same([a.tasks.length, b.tasks.length], [runs, runs], habit.what);
    }
  }
});
