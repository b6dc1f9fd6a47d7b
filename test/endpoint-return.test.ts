// Agents that are killed and started again: calls flow as soon as they are back, whatever was shut meanwhile.
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { OutlierEvent } from '../sidecar/cluster/outlier/detector.ts';
import type { CircuitTransition } from '../sidecar/policy/circuit-state.ts';
import { ok, startReplica, trailersOnly } from './support/answers.ts';

t.setTimeout(290_000);

const patient = { limitMs: 60_000 };
const request = Buffer.from('x');

/** What is shut for so long must have been opened by something else than time. */
const FOREVER = '30m';
const strict = {
  balancer: 'round_robin',
  circuit_breaker: { recovery_timeout: FOREVER },
  outlier_detection: { base_ejection_time: FOREVER, max_ejection_time: FOREVER },
};

interface Agent {
  readonly address: string;
  start(): Promise<void>;
  kill(): Promise<void>;
  /** SIGSTOP: its host still takes bytes for it, and it neither reads nor says anything. */
  pause(): void;
  /** SIGCONT */
  goOn(): void;
}

/** A process that echoes, always on the same port. */
async function startAgent(t: Test): Promise<Agent> {
  const port = await freePort();
  const script = join(import.meta.dirname, 'support', 'agent-process.ts');
  let running: TestProcess;
  const agent: Agent = {
    address: `127.0.0.1:${port}`,
    start: async () => {
      running = startProcess(t, process.execPath, [script, `${port}`]);
      await waitUntil('the agent listened', () => running.logs().includes('listening'), patient);
    },
    kill: async () => {
      running.kill('SIGKILL');
      await running.ended;
    },
    pause: () => running.kill('SIGSTOP'),
    goOn: () => running.kill('SIGCONT'),
  };
  await agent.start();
  return agent;
}

interface Caller {
  readonly plane: DataPlane;
  readonly circuits: CircuitTransition[];
  readonly outliers: OutlierEvent[];
  /** One call; its status code. */
  call(): Promise<number>;
  /** One with a deadline in so many milliseconds. */
  callWithin(limitMs: number): Promise<number>;
  /** A call that its agent does not answer. */
  hold(): Promise<number>;
  /** Calls, some at a time, until this holds. */
  callUntil(what: string, holds: () => boolean): Promise<void>;
  /** Calls until so many in a row were well. */
  callUntilWell(): Promise<void>;
}

async function startCaller(
  t: Test,
  endpoints: readonly string[],
  settings: object = {},
  clock?: TestClock,
): Promise<Caller> {
  const circuits: CircuitTransition[] = [];
  const outliers: OutlierEvent[] = [];
  const plane = await startDataPlane(
    t,
    {
      outbound: {
        routes: [{ match: { path_prefix: '/' }, cluster: 'agents' }],
        clusters: { agents: { endpoints, ...strict, ...settings } },
      },
    },
    {
      onCircuit: (_cluster, _method, change) => void circuits.push(change),
      onOutlier: (_cluster, event) => void outliers.push(event),
    },
    clock,
  );
  const client = new RawClient(t, plane.outboundPort);
  const call = async () => (await client.unary(request, { path: rawPaths.unary })).code;
  const callWithin = async (limitMs: number) =>
    (await client.unary(request, { path: rawPaths.unary, deadline: Date.now() + limitMs })).code;
  const hold = async () => (await client.unary(request, { path: '/test.Raw/Hold' })).code;
  const callUntil = async (what: string, holds: () => boolean): Promise<void> => {
    await waitUntil(
      what,
      async () => {
        await Promise.all([call(), call(), call(), call()]);
        return holds();
      },
      { ...patient, everyMs: 10 },
    );
  };
  const callUntilWell = async () => {
    let inRow = 0;
    await waitUntil(
      'calls flow again',
      async () => {
        inRow = (await call()) === status.OK ? inRow + 1 : 0;
        return inRow >= 20;
      },
      { ...patient, everyMs: 10 },
    );
  };
  return { plane, circuits, outliers, call, callWithin, hold, callUntil, callUntilWell };
}

const lastOf = (circuits: readonly CircuitTransition[]): string | undefined => circuits.at(-1)?.to;

t.test('the circuit of a lone absent agent opens, and closes after its return', async (t) => {
  const agent = await startAgent(t);
  const caller = await startCaller(t, [agent.address]);
  await caller.callUntilWell();
  // Twice: the second outage is ended like the first.
  for (let outage = 0; outage < 2; outage++) {
    await agent.kill();
    await caller.callUntil('the circuit opens', () => lastOf(caller.circuits) === 'open');
    t.match(caller.circuits.at(-1), { unreachable: true });
    await agent.start();
    await caller.callUntilWell();
    t.match(caller.circuits.slice(-2), [{ to: 'half_open', unreachable: true }, { to: 'closed' }]);
  }
});

t.test('the first call after the return of an uncalled absent agent succeeds', async (t) => {
  const agent = await startAgent(t);
  const caller = await startCaller(t, [agent.address]);
  await caller.callUntilWell();
  await agent.kill();
  await caller.callUntil('the circuit opens', () => lastOf(caller.circuits) === 'open');
  await agent.start();
  await waitUntil('it is found again', () => lastOf(caller.circuits) === 'half_open', patient);
  t.equal(await caller.call(), status.OK);
});

t.test('both of two agents are absent, and one returns', async (t) => {
  const agents = [await startAgent(t), await startAgent(t)];
  const caller = await startCaller(
    t,
    agents.map(({ address }) => address),
  );
  await caller.callUntilWell();
  await Promise.all(agents.map((agent) => agent.kill()));
  await caller.callUntil('the circuit opens', () => lastOf(caller.circuits) === 'open');
  await agents[0]!.start();
  await caller.callUntilWell();
  await agents[1]!.start();
  const { endpoints } = caller.plane.sidecar.outbound.clusters.clusters.get('agents')!;
  const callsOf = (index: number): number => endpoints[index]!.attemptsByStatus[status.OK]!;
  const before = callsOf(1);
  await caller.callUntil('the other one has its share again', () => callsOf(1) > before + 10);
});

t.test('an agent that was ejected for absence returns when it is reachable', async (t) => {
  const agents = [await startAgent(t), await startAgent(t)];
  const addresses = agents.map(({ address }) => address);
  const caller = await startCaller(t, addresses);
  await caller.callUntilWell();
  const [, away] = caller.plane.sidecar.outbound.clusters.clusters.get('agents')!.endpoints;
  const held = Array.from({ length: 8 }, () => caller.hold());
  await waitUntil('half of them are there', () => away!.activeCalls === 4, patient);
  await agents[1]!.kill();
  await waitUntil('it is ejected', () => caller.outliers.length > 0, patient);
  t.match(caller.outliers, [{ kind: 'ejected', endpoint: away!.watched, reason: 'consecutive_failures' }]);
  await caller.callUntilWell();
  t.equal(away!.watched.state, 'ejected', 'while it is away it stays out');
  await agents[1]!.start();
  await caller.callUntil(
    'it has completed its probation',
    () => caller.outliers.at(-1)!.kind === 'recovered',
  );
  t.match(caller.outliers[1], { kind: 'returned', message: /it can be reached again/ });
  await agents[0]!.kill();
  await Promise.all(held);
});

for (const what of ['only its app', 'the whole pod'] as const) {
  t.test(`an agent behind its own sidecar is absent: ${what}`, async (t) => {
    const agent = await startAgent(t);
    const listen = `127.0.0.1:${await freePort()}`;
    const inbound = { listen, app: agent.address, health: { interval: '1h', timeout: '1s' } };
    let pod = await startDataPlane(t, { inbound });
    await waitUntil('it is ready', () => pod.sidecar.notReadyBecause === undefined, patient);
    const caller = await startCaller(t, [listen]);
    await caller.callUntilWell();
    for (let outage = 0; outage < 2; outage++) {
      await agent.kill();
      if (what === 'the whole pod') pod.sidecar.close();
      await caller.callUntil('the circuit opens', () => lastOf(caller.circuits) === 'open');
      if (what === 'the whole pod') {
        pod = await startDataPlane(t, { inbound });
        await waitUntil(
          'the sidecar is reached',
          () => pod.sidecar.inbound.listener.connectionCount > 0,
          patient,
        );
        await caller.call();
        t.equal(lastOf(caller.circuits), 'open', 'a sidecar without its app is not back');
      }
      await agent.start();
      await caller.callUntilWell();
      t.match(caller.circuits.slice(-2), [{ to: 'half_open', unreachable: true }, { to: 'closed' }]);
    }
  });
}

for (const what of ['an agent', 'an agent behind its own sidecar'] as const) {
  t.test(`${what} is stopped for a while: its circuit opens, and closes when it resumes`, async (t) => {
    const agent = await startAgent(t);
    let { address } = agent;
    if (what !== 'an agent') {
      const health = { interval: '1h', timeout: '1s' };
      const pod = await startDataPlane(t, { inbound: { app: agent.address, health } });
      await waitUntil('it is ready', () => pod.sidecar.notReadyBecause === undefined, patient);
      address = `127.0.0.1:${pod.inboundPort}`;
    }
    const caller = await startCaller(t, [address]);
    await caller.callUntilWell();
    const { silence } = caller.plane.sidecar.outbound.clusters.clusters.get('agents')!;
    const [endpoint] = caller.plane.sidecar.outbound.clusters.clusters.get('agents')!.endpoints;
    for (let outage = 0; outage < 2; outage++) {
      agent.pause();
      // Eight at a time, as callers do whose agent does not answer.
      await waitUntil(
        'the circuit opens',
        async () => {
          await Promise.all(Array.from({ length: 8 }, () => caller.callWithin(300)));
          return lastOf(caller.circuits) === 'open';
        },
        patient,
      );
      await waitUntil('it is found to be absent', () => silence.isAbsent(endpoint!), patient);
      for (let count = 0; count < 20; count++) t.equal(await caller.callWithin(300), status.UNAVAILABLE);
      t.equal(lastOf(caller.circuits), 'open', 'nothing is tried while it is absent');
      agent.goOn();
      await caller.callUntilWell();
      t.match(caller.circuits.slice(-2), [{ to: 'half_open', unreachable: true }, { to: 'closed' }]);
    }
  });
}

for (const [limitMs, what] of [
  [300, 'for the deadlines it lets pass'],
  [120_000, 'for its latency, before any has passed'],
] as const) {
  t.test(`one of two agents is stopped for a while and ejected ${what}, until it resumes`, async (t) => {
    const agents = [await startAgent(t), await startAgent(t)];
    const caller = await startCaller(
      t,
      agents.map(({ address }) => address),
    );
    for (let round = 0; round < 4; round++) await caller.callUntilWell();
    const { endpoints } = caller.plane.sidecar.outbound.clusters.clusters.get('agents')!;
    const stopped = endpoints[1]!.watched;
    agents[1]!.pause();
    const calls: Promise<number>[] = [];
    await waitUntil(
      'it is ejected',
      () => {
        // Of those that wait for it none ends before it is ejected, where their deadlines are long.
        if (calls.length < 300) calls.push(caller.callWithin(limitMs));
        return stopped.ejected;
      },
      patient,
    );
    if (limitMs > 10_000) t.equal(stopped.reason, 'latency');
    await waitUntil('it is found to be absent', () => stopped.unreachable, patient);
    t.equal(stopped.state, 'ejected');
    agents[1]!.goOn();
    await caller.callUntil('it is back', () => !stopped.ejected);
    t.match(caller.outliers[1], { kind: 'returned', message: /it can be reached again/ });
    await Promise.all(calls);
  });
}

t.test('a hanging agent with a healthy HTTP/2 server keeps its circuit open', async (t) => {
  for (const sidecar of [false, true]) {
    // By it nothing is late with a sign of life.
    const clock = new TestClock();
    const agent = await startAgent(t);
    let { address } = agent;
    if (sidecar) {
      const pod = await startDataPlane(t, { inbound: { app: agent.address } }, {}, clock);
      await waitUntil('it is ready', () => pod.sidecar.notReadyBecause === undefined, patient);
      address = `127.0.0.1:${pod.inboundPort}`;
    }
    const retry = { max_attempts: 1, per_try_timeout: '1s' };
    const caller = await startCaller(t, [address], { retry }, clock);
    await caller.callUntilWell();
    const { endpoints, silence } = caller.plane.sidecar.outbound.clusters.clusters.get('agents')!;
    const held = Array.from({ length: 5 }, () => caller.hold());
    await waitUntil('they are there', () => endpoints[0]!.activeCalls === 5, patient);
    clock.advance(1_010);
    t.same(await Promise.all(held), Array(5).fill(status.DEADLINE_EXCEEDED));
    t.match(caller.circuits, [{ to: 'open', unreachable: false }]);
    await waitUntil('its sign has come', () => !silence.isPending, patient);
    for (let count = 0; count < 20; count++) {
      t.equal(await caller.hold(), status.UNAVAILABLE);
      clock.advance(1_010);
    }
    t.equal(caller.circuits.length, 1, 'it gets no probe');
    t.equal(await caller.call(), status.OK, 'of its other methods nothing is known');
  }
});

t.test('an app is absent behind its inbound listener', async (t) => {
  const agent = await startAgent(t);
  const plane = await startDataPlane(t, {
    inbound: { app: agent.address, health: { interval: '1h', timeout: '1s' } },
  });
  const client = new RawClient(t, plane.inboundPort);
  const call = () => client.unary(request, { path: rawPaths.unary });
  await waitUntil('it serves', async () => (await call()).code === status.OK, patient);
  await agent.kill();
  await waitUntil('it does not', async () => (await call()).code === status.UNAVAILABLE, patient);
  // Long enough for a back-off that doubles to have become long.
  for (let count = 0; count < 100; count++) await call();
  await agent.start();
  await waitUntil('it serves again', async () => (await call()).code === status.OK, patient);
});

t.test('an agent that answers errors keeps its circuit open, whatever its connections do', async (t) => {
  const replica = await startReplica(t, trailersOnly(14));
  const caller = await startCaller(t, [replica.address], { retry: { max_attempts: 1 } });
  await caller.callUntil('the circuit opens', () => lastOf(caller.circuits) === 'open');
  t.match(caller.circuits, [{ to: 'open', unreachable: false }]);
  const calls = replica.calls.length;
  replica.answer = ok;
  for (const session of replica.sessions) session.destroy();
  const [endpoint] = caller.plane.sidecar.outbound.clusters.clusters.get('agents')!.endpoints;
  await waitUntil('the connection has closed', () => endpoint!.pool.connectionCount === 0, patient);
  endpoint!.pool.warm();
  await waitUntil('there is another', () => endpoint!.pool.connectionCount === 1, patient);
  for (let count = 0; count < 20; count++) t.equal(await caller.call(), status.UNAVAILABLE);
  t.equal(replica.calls.length, calls);
});

t.test('failures of replaced endpoints do not count', async (t) => {
  const [erring, fine] = [await startReplica(t, trailersOnly(14)), await startReplica(t, ok)];
  const nobody = `127.0.0.1:${await freePort()}`;
  for (const [what, before] of [
    ['they answered errors', erring.address],
    ['nobody was there', nobody],
  ] as const) {
    const caller = await startCaller(t, [before], { retry: { max_attempts: 1 } });
    await caller.callUntil('the circuit opens', () => lastOf(caller.circuits) === 'open');
    await caller.plane.apply({
      outbound: {
        routes: [{ match: { path_prefix: '/' }, cluster: 'agents' }],
        clusters: { agents: { endpoints: [fine.address], ...strict } },
      },
    });
    await caller.callUntilWell();
    t.equal(lastOf(caller.circuits), 'closed', what);
  }
});
