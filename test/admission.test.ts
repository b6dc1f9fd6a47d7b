// Who comes in at an agent, who waits, and who is told to come back later.
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient, rawPaths, type UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { later, ok, type Replica, startReplica, trailersOnly } from './support/answers.ts';
import { type SeenCall, startUpstream, type Upstream } from './support/upstream.ts';

const request = Buffer.from('request');

/** How long the agents take, and how much time their callers have, passes as a test says. */
const clock = new TestClock();

/** The time a call has, told in its header alone: a client that watched its own clock would hide whose answer it gets. */
function within(timeoutMs: number): Metadata {
  const metadata = new Metadata();
  metadata.set('grpc-timeout', `${timeoutMs}m`);
  return metadata;
}

/** One call that takes as long as the agent's do. */
async function callOf(client: RawClient, agent: Replica, ms: number): Promise<status> {
  const { length } = agent.calls;
  const call = client.unary(request);
  await waitUntil('it runs', () => agent.calls[length]?.complete);
  clock.advance(ms);
  return (await call).code;
}

interface Waiting extends Upstream {
  readonly open: SeenCall[];
  /** Answers the one that came first. */
  answerNext(): void;
}

/** An agent that answers when it is told to. */
async function startWaiting(t: Test): Promise<Waiting> {
  const open: SeenCall[] = [];
  const upstream = await startUpstream(t, {
    onCall: (call) => {
      call.stream.on('end', () => open.push(call));
      call.stream.on('close', () => {
        const at = open.indexOf(call);
        if (at >= 0) open.splice(at, 1);
      });
    },
  });
  return Object.assign(upstream, {
    open,
    answerNext: () => {
      const call = open.shift()!;
      ok(call.stream, call);
    },
  });
}

async function startScene(t: Test, inbound: Record<string, unknown>) {
  const agent = await startWaiting(t);
  const plane = await startDataPlane(t, { inbound: { app: agent.address, ...inbound } }, {}, clock);
  const { stats } = plane.sidecar.inbound;
  return { agent, plane, stats, client: new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 }) };
}

function expectRefused(t: Test, outcome: UnaryOutcome, details: RegExp, reason = 'overloaded'): void {
  t.equal(outcome.code, status.RESOURCE_EXHAUSTED);
  t.match(outcome.details, details);
  t.same(outcome.trailers.get('outrigger-reason'), [reason]);
  const pushbackMs = Number(outcome.trailers.get('grpc-retry-pushback-ms')[0]);
  t.ok(pushbackMs > 0 && pushbackMs <= 60_000, `come back in ${pushbackMs} ms`);
}

t.test('calls wait for a place in the order of their arrival', async (t) => {
  const { agent, client, stats } = await startScene(t, { max_concurrent_calls: 1, queue: { max_calls: 2 } });
  const ended: string[] = [];
  const call = (name: string): Promise<void> =>
    client.unary(Buffer.from(name)).then(({ code }) => void ended.push(`${name} ${code}`));
  const calls = [call('first')];
  await waitUntil('the first is there', () => agent.open.length === 1);
  for (const [name, waiting] of [
    ['second', 1],
    ['third', 2],
  ] as const) {
    calls.push(call(name));
    await waitUntil('it waits', () => stats.queuedCalls === waiting);
  }
  expectRefused(t, await client.unary(request), /1 calls are in flight, which is the limit, and 2 wait/);
  t.equal(agent.calls.length, 1, 'the agent sees one at a time');
  for (let i = 1; i <= 3; i++) {
    agent.answerNext();
    if (i < 3)
      await waitUntil('the next is there', () => agent.calls.length === i + 1 && agent.open.length === 1);
  }
  await Promise.all(calls);
  t.same(ended, ['first 0', 'second 0', 'third 0']);
  t.equal(stats.queuedCalls, 0);
  t.equal(stats.activeCalls, 0);
  t.equal(stats.concurrencyLimit, 1);
});

t.test('a caller that cancels, or whose deadline expires, leaves the queue', async (t) => {
  const { agent, client, stats } = await startScene(t, { max_concurrent_calls: 1, queue: { max_calls: 5 } });
  const first = client.unary(request);
  await waitUntil('the first is there', () => agent.open.length === 1);
  const leaves = client.serverStream(request, { path: rawPaths.serverStream });
  leaves.on('error', () => {});
  const late = client.unary(request, { metadata: within(200) });
  const stays = client.unary(request);
  await waitUntil('three wait', () => stats.queuedCalls === 3);
  leaves.cancel();
  await waitUntil('two wait', () => stats.queuedCalls === 2);
  clock.advance(210);
  t.equal((await late).code, status.DEADLINE_EXCEEDED);
  await waitUntil('one waits', () => stats.queuedCalls === 1);
  agent.answerNext();
  await waitUntil('its turn came', () => agent.calls.length === 2 && agent.open.length === 1);
  agent.answerNext();
  t.equal((await first).code, status.OK);
  t.equal((await stays).code, status.OK);
  t.equal(agent.calls.length, 2, 'the others never reached the agent');
  t.equal(stats.activeCalls, 0);
});

t.test('a call that could not be served before its deadline is refused at once', async (t) => {
  const agent = await startReplica(t, later(150, ok, clock));
  const queue = { max_calls: 100, max_wait: '10s' };
  const inbound = { app: agent.address, max_concurrent_calls: 1, queue };
  const plane = await startDataPlane(t, { inbound }, {}, clock);
  const client = new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 });
  for (let i = 0; i < 3; i++)
    t.equal(await callOf(client, agent, 150), status.OK, 'how long calls take is known');
  const busy = client.unary(request);
  await waitUntil('it runs', () => agent.calls[3]?.complete);
  const hurried = await client.unary(request, { metadata: within(200) });
  expectRefused(t, hurried, /in the time this call has left its turn would not come/);
  t.equal(agent.calls.length, 4);
  clock.advance(150);
  t.equal((await busy).code, status.OK);
});

t.test('a call that would wait too long is refused at once', async (t) => {
  const agent = await startReplica(t, later(150, ok, clock));
  const queue = { max_calls: 100, max_wait: '50ms' };
  const inbound = { app: agent.address, max_concurrent_calls: 1, queue };
  const plane = await startDataPlane(t, { inbound }, {}, clock);
  const client = new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 });
  for (let i = 0; i < 3; i++) await callOf(client, agent, 150);
  const busy = client.unary(request);
  await waitUntil('it runs', () => agent.calls[3]?.complete);
  expectRefused(t, await client.unary(request), /longer than inbound.queue.max_wait/);
  clock.advance(150);
  await busy;
});

t.test('no call waits longer than max_wait while streams hold the places', async (t) => {
  const clock = new TestClock();
  const agent = await startWaiting(t);
  const queue = { max_calls: 5, max_wait: '5s' };
  const inbound = { app: agent.address, max_concurrent_calls: 1, queue, health: { interval: '0s' } };
  const { sidecar, inboundPort } = await startDataPlane(t, { inbound }, {}, clock);
  const client = new RawClient(t, inboundPort, { 'grpc.enable_retries': 0 });
  const stream = client.serverStream(request, { path: rawPaths.serverStream });
  stream.on('error', () => {});
  await waitUntil('it has the place', () => agent.open.length === 1);
  const first = client.unary(request);
  await waitUntil('it waits', () => sidecar.inbound.stats.queuedCalls === 1);
  clock.advance(3_000);
  const second = client.unary(request);
  await waitUntil('both wait', () => sidecar.inbound.stats.queuedCalls === 2);
  clock.advance(2_010);
  expectRefused(t, await first, /its turn has not come within inbound.queue.max_wait \(5000 ms\)/);
  t.equal(sidecar.inbound.stats.queuedCalls, 1, 'the other has time');
  clock.advance(2_980);
  stream.cancel();
  await waitUntil('its turn has come', () => agent.calls.length === 2 && agent.open.length === 1);
  agent.answerNext();
  t.equal((await second).code, status.OK);
  clock.advance(60_000);
  t.equal(sidecar.inbound.stats.queuedCalls, 0);
});

t.test('a reload with a higher limit admits waiting calls', async (t) => {
  const { agent, client, plane, stats } = await startScene(t, {
    max_concurrent_calls: 1,
    queue: { max_calls: 5 },
  });
  const calls = [client.unary(request)];
  await waitUntil('the first is there', () => agent.open.length === 1);
  calls.push(client.unary(request), client.unary(request));
  await waitUntil('two wait', () => stats.queuedCalls === 2);
  await plane.apply({ inbound: { app: agent.address, max_concurrent_calls: 3, queue: { max_calls: 5 } } });
  await waitUntil('all are there', () => agent.open.length === 3);
  for (let i = 0; i < 3; i++) agent.answerNext();
  for (const { code } of await Promise.all(calls)) t.equal(code, status.OK);
});

t.test(
  'a thousand waiting calls that fail at once are admitted one after the other, without nesting',
  async (t) => {
    const { agent, client, stats } = await startScene(t, {
      max_concurrent_calls: 1,
      queue: { max_calls: 2_000 },
    });
    const first = client.unary(request);
    await waitUntil('the first is there', () => agent.open.length === 1);
    const rest = Array.from({ length: 1_000 }, () => client.unary(request));
    await waitUntil('they wait', () => stats.queuedCalls === 1_000);
    await agent.stop();
    t.not((await first).code, status.OK);
    const outcomes = await Promise.all(rest);
    t.ok(outcomes.every(({ code }) => code === status.UNAVAILABLE || code === status.RESOURCE_EXHAUSTED));
    t.equal(stats.activeCalls, 0);
    t.equal(stats.queuedCalls, 0);
  },
);

t.test('each caller has its own rate', async (t) => {
  const agent = await startReplica(t, ok);
  const inbound = { app: agent.address, rate_limit: { calls_per_second: 1, burst: 3 } };
  const plane = await startDataPlane(t, { inbound }, {}, clock);
  const client = new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 });
  for (let i = 0; i < 3; i++) t.equal((await client.unary(request)).code, status.OK);
  expectRefused(t, await client.unary(request), /1 calls a second \(inbound.rate_limit\)/, 'rate_limited');
  t.equal(agent.calls.length, 3);
  const other = new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 });
  expectRefused(t, await other.unary(request), /inbound.rate_limit/, 'rate_limited');
  const health = await client.unary(Buffer.alloc(0), { path: '/grpc.health.v1.Health/Check' });
  t.equal(health.code, status.OK, 'health checks come from other clients');
  t.equal(plane.sidecar.inbound.stats.rejected.get('rate_limited'), 2);
  clock.advance(1_000);
  t.equal((await client.unary(request)).code, status.OK, 'a second later there is room for one');
  expectRefused(t, await client.unary(request), /inbound.rate_limit/, 'rate_limited');
});

t.test("the adaptive limit follows the agent's capacity", async (t) => {
  // The agent does four calls at once; more of them make each slower.
  let running = 0;
  const agent = await startReplica(t, (stream, call) => {
    running++;
    const done = (): void => {
      running--;
      ok(stream, call);
    };
    clock.after(10 * Math.max(1, running / 4), done);
  });
  const inbound = { app: agent.address, max_concurrent_calls: 200, adaptive_concurrency: true };
  const plane = await startDataPlane(t, { inbound }, {}, clock);
  const { stats } = plane.sidecar.inbound;
  t.equal(stats.concurrencyLimit, 3, 'it begins low');
  const client = new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 });
  let refused = 0;
  let pausing = 0;
  let callers = 40;
  const caller = async (): Promise<void> => {
    for (let i = 0; i < 30; i++) {
      const { code } = await client.unary(request);
      if (code !== status.RESOURCE_EXHAUSTED) continue;
      refused++;
      pausing++;
      await new Promise<void>((resolve) => clock.after(5, resolve));
      pausing--;
    }
    callers--;
  };
  let highest = 0;
  const all = Promise.all(Array.from({ length: callers }, caller));
  while (callers > 0) {
    // Time passes once every caller waits for it.
    if (running + pausing === callers) clock.advance(clock.nextInMs);
    await new Promise((resolve) => setImmediate(resolve));
    highest = Math.max(highest, stats.concurrencyLimit);
  }
  await all;
  t.ok(highest > 3, `it rose to ${highest}`);
  t.ok(highest < 200 && refused > 0, 'not to all that is allowed');
  t.equal(stats.activeCalls, 0);
});

t.test('a call with less time than the fastest answers is not sent', async (t) => {
  const agent = await startReplica(t, later(60, ok, clock));
  const plane = await startDataPlane(t, { inbound: { app: agent.address } }, {}, clock);
  const client = new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 });
  const first = Array.from({ length: 40 }, () => client.unary(request));
  await waitUntil('all run', () => agent.calls.filter(({ complete }) => complete).length === 40);
  clock.advance(60);
  await Promise.all(first);
  const outcomes: UnaryOutcome[] = [];
  for (let i = 0; i < 8; i++) {
    const { length } = agent.calls;
    const call = client.unary(request, { metadata: within(20) }).then((outcome) => outcomes.push(outcome));
    await waitUntil('it was refused or sent', () => outcomes.length > i || agent.calls.length > length);
    if (agent.calls.length > length) clock.advance(30);
    await call;
  }
  const refusedEarly = outcomes.filter(({ details }) =>
    /even the quickest answers of .* take \d+ ms; it was not sent/.test(details),
  );
  t.equal(refusedEarly.length, 7);
  t.ok(outcomes.every(({ code }) => code === status.DEADLINE_EXCEEDED));
  t.equal(agent.calls.length, 41, 'one in eight was tried: the agent may have become quicker');
  agent.answer = trailersOnly(0);
});
