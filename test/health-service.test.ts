// What the sidecar says of its agent's health: asked, watched, and as the agent dies, hangs and returns.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import t, { type Test } from 'tap';
import { type DataPlane, startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { outboundTo, startSidecar } from '../scripts/harness/sidecar.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream } from './support/upstream.ts';

const proto = (name: string): grpc.GrpcObject =>
  grpc.loadPackageDefinition(
    loadSync(join(import.meta.dirname, '..', 'proto', name), {
      keepCase: true,
      enums: String,
      defaults: true,
    }),
  );
const { Health } = (proto('health.proto') as never as { grpc: { health: { v1: Services } } }).grpc.health.v1;
const { AgentService } = (proto('agent_service.proto') as never as { agent: Services }).agent;
type Services = Record<string, grpc.ServiceClientConstructor>;

const checkPath = '/grpc.health.v1.Health/Check';
/** However long a busy machine takes to answer. */
const fast = { interval: '100ms', timeout: '60s' };
/** Who is silent for so long is doubted. */
const doubting = { interval: '100ms', timeout: '1s' };
/** Only a change that is noticed by itself is noticed in time. */
const rare = { interval: '1h', timeout: '60s' };

function clientOf(t: Test, service: grpc.ServiceClientConstructor, plane: DataPlane): grpc.Client {
  const options = { 'grpc.use_local_subchannel_pool': 1 };
  const client = new service(`127.0.0.1:${plane.inboundPort}`, grpc.credentials.createInsecure(), options);
  t.teardown(() => client.close());
  return client;
}

type Unary<Response> = (
  request: object,
  callback: (error: grpc.ServiceError | null, response: Response) => void,
) => grpc.ClientUnaryCall;

/** The response, or the name of the status. */
function ask<Response>(client: grpc.Client, method: string, request: object): Promise<Response | string> {
  const call = (client as never as Record<string, Unary<Response>>)[method]!.bind(client);
  return new Promise((resolve) =>
    call(request, (error, response) => resolve(error === null ? response : grpc.status[error.code])),
  );
}

const check = async (client: grpc.Client, service = ''): Promise<string> => {
  const answer = await ask<{ status: string }>(client, 'Check', { service });
  return typeof answer === 'string' ? answer : answer.status;
};

interface Watch {
  readonly seen: string[];
  readonly stream: grpc.ClientReadableStream<{ status: string }>;
  ended: grpc.StatusObject | undefined;
}

function watch(client: grpc.Client, service = ''): Watch {
  const method = (client as never as { Watch(request: object): Watch['stream'] }).Watch.bind(client);
  const started: Watch = { seen: [], stream: method({ service }), ended: undefined };
  started.stream.on('data', ({ status }) => started.seen.push(status));
  started.stream.on('error', () => {});
  started.stream.on('status', (status) => {
    started.ended = status;
  });
  return started;
}

const stateIs = (plane: DataPlane, state: string): Promise<boolean> =>
  waitUntil(`the app was ${state}`, () => plane.sidecar.inbound.appHealth.state === state);

t.test('Check answers for the agent under each of its names', async (t) => {
  const app = await startRawServer(t);
  const plane = await startDataPlane(t, {
    name: 'research-agent',
    inbound: { app: app.address, health: fast },
  });
  await stateIs(plane, 'no_health_service');
  t.equal(
    plane.sidecar.notReadyBecause,
    undefined,
    'an agent without a health service of its own is healthy',
  );
  const client = clientOf(t, Health!, plane);
  for (const service of ['', 'agent.AgentService', 'research-agent'])
    t.equal(await check(client, service), 'SERVING', JSON.stringify(service));
  t.equal(await check(client, 'agent.Other'), 'NOT_FOUND');
  t.equal(await check(client, 'x'.repeat(5_000)), 'RESOURCE_EXHAUSTED', 'a request that is no name');
  t.equal(plane.sidecar.inbound.stats.totalCalls, 0, 'none of these is counted as a call');
});

t.test('a sidecar that starts before its app serves as soon as the app does', async (t) => {
  const clock = new TestClock();
  const port = await freePort();
  const content = { inbound: { app: `127.0.0.1:${port}`, health: rare } };
  const plane = await startDataPlane(t, content, {}, clock);
  const { appHealth, app } = plane.sidecar.inbound;
  const calls = new RawClient(t, plane.inboundPort);
  /** The virtual time until it is so: the machine may be slow, the sidecar may not. */
  const until = async (what: string, check: () => boolean, stepMs: number): Promise<number> => {
    const from = clock.nowMs;
    await waitUntil(what, () => {
      clock.advance(stepMs);
      return check();
    });
    return clock.nowMs - from;
  };
  await until('it is missed', () => appHealth.state === 'unreachable', 10);
  const failures = () => [...app.connectFailures.values()].reduce((sum, count) => sum + count, 0);
  // Each advance lets the refusals arrive: no more tries than one in 100 ms, and those of the calls.
  const triesIn = async (ms: number): Promise<number> => {
    const before = failures();
    for (let passedMs = 0; passedMs < ms; passedMs += 10) {
      clock.advance(10);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return failures() - before;
  };
  const first = await triesIn(200);
  t.ok(first <= 3, `${first} tries in 200 ms are no storm`);
  clock.advance(60_000);
  const later = await triesIn(1_000);
  t.ok(later <= 4, `${later} tries in a second, after a minute without an app`);
  t.match(await calls.unary(Buffer.from('x')), { code: grpc.status.UNAVAILABLE, details: /takes no calls/ });

  let serves = false;
  const answer = (call: SeenCall) => {
    const isHealth = call.headers[':path'] === checkPath;
    answerWith(call.stream, isHealth ? Buffer.from([8, serves ? 1 : 2]) : 'here');
  };
  await startUpstream(t, { port, health: true, onCall: answer });
  await until('it is there', () => appHealth.state === 'not_serving', 510);
  serves = true;
  await until('it serves', () => appHealth.state === 'serving', 1_010);
  t.equal((await calls.unary(Buffer.from('x'))).code, grpc.status.OK);
  t.equal(plane.sidecar.notReadyBecause, undefined);
  t.ok(clock.nowMs < 1_000_000 + 3_600_000, 'long before the next check of a healthy app');
});

t.test('an unreadable health request is INVALID_ARGUMENT', async (t) => {
  const plane = await startDataPlane(t, {
    inbound: { app: (await startRawServer(t)).address, health: fast },
  });
  const peer = (await H2Peer.connect(t, plane.inboundPort)).behave();
  for (const [index, body] of [
    [],
    [0, 0, 0],
    [1, 0, 0, 0, 0],
    [0, 0, 0, 0, 9, 1],
    [0, 0, 0, 0, 0, 0],
  ].entries()) {
    const id = index * 2 + 1;
    await peer.headers(id, grpcRequest(checkPath));
    await peer.data(id, Buffer.from(body), true);
    await peer.until('it was answered', () => peer.ended.has(id));
    t.equal(peer.field(id, 'grpc-status'), '3', JSON.stringify(body));
  }
});

t.test("health requests and the app's answers may be compressed", async (t) => {
  let answer = Buffer.from([8, 1]);
  const app = await startUpstream(t, {
    health: true,
    onCall: ({ stream }) => {
      const head = { ':status': 200, 'content-type': 'application/grpc', 'grpc-encoding': 'gzip' };
      stream.respond(head, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      const message = grpcFrame(gzipSync(answer));
      message[0] = 1;
      stream.end(message);
    },
  });
  const plane = await startDataPlane(t, { name: 'agent', inbound: { app: app.address, health: fast } });
  await stateIs(plane, 'serving');
  for (const algorithm of [1, 2]) {
    const client = new Health!(`127.0.0.1:${plane.inboundPort}`, grpc.credentials.createInsecure(), {
      'grpc.default_compression_algorithm': algorithm,
      'grpc.use_local_subchannel_pool': 1,
    });
    t.teardown(() => client.close());
    for (const service of ['', 'agent.AgentService'])
      t.equal(await check(client, service), 'SERVING', service);
    t.equal(await check(client, 'agent.Other'), 'NOT_FOUND');
    const watched = watch(client, 'agent');
    await waitUntil('it was notified', () => watched.seen.length > 0);
    t.strictSame(watched.seen, ['SERVING']);
    watched.stream.cancel();
  }
  answer = Buffer.from([8, 2]);
  await stateIs(plane, 'not_serving');
  const peer = (await H2Peer.connect(t, plane.inboundPort)).behave();
  await peer.headers(1, grpcRequest(checkPath, ['grpc-encoding', 'snappy']));
  await peer.data(1, Buffer.from([1, 0, 0, 0, 1, 0]), true);
  await peer.until('it was answered', () => peer.ended.has(1));
  t.equal(peer.field(1, 'grpc-status'), '12');
});

t.test('HealthCheck has name, version, state and counts', async (t) => {
  const app = await startUpstream(t, {
    onCall: ({ stream, headers }) => {
      if (headers[':path'] !== '/fails') answerWith(stream, 'ok');
      else stream.respond({ ':status': 200, 'grpc-status': '13' }, { endStream: true });
    },
  });
  const plane = await startDataPlane(t, {
    name: 'research-agent',
    version: '2.3.4',
    inbound: { app: app.address, health: fast },
  });
  const client = clientOf(t, AgentService!, plane);
  const calls = new RawClient(t, plane.inboundPort);
  const health = () =>
    ask<{ healthy: boolean; checks: Record<string, string> }>(client, 'HealthCheck', { service: '' });
  await waitUntil('the app was healthy', () => plane.sidecar.inbound.appHealth.healthy);
  t.match(await health(), {
    healthy: true,
    agent_name: 'research-agent',
    version: '2.3.4',
    checks: { total_requests: '0', total_errors: '0', error_rate: '0.0000', draining: 'false' },
  });
  for (const path of ['/works', '/fails', '/works', '/works']) await calls.unary(Buffer.alloc(0), { path });
  t.match(await health(), {
    healthy: true,
    checks: { total_requests: '4', total_errors: '1', error_rate: '0.2500' },
  });
  await app.stop();
  await waitUntil('it was not', () => !plane.sidecar.inbound.appHealth.healthy);
  t.match(await health(), { healthy: false, checks: { app: 'unreachable' } });
});

t.test('Watch reports each change when it happens', async (t) => {
  const port = await freePort();
  const first = await startUpstream(t, { port });
  const plane = await startDataPlane(t, { inbound: { app: first.address, health: rare } });
  await waitUntil('the app was healthy', () => plane.sidecar.inbound.appHealth.healthy);
  const client = clientOf(t, Health!, plane);
  const watched = watch(client, 'agent.AgentService');
  const unknown = watch(client, 'agent.Other');
  const sees = (...states: string[]): Promise<boolean> =>
    waitUntil(`${states} were seen`, () => watched.seen.join() === states.join());
  await sees('SERVING');
  await first.stop();
  await sees('SERVING', 'NOT_SERVING');
  t.equal(await check(client), 'NOT_SERVING');
  t.match(plane.sidecar.notReadyBecause, `the app at ${first.address} is unreachable`);
  await startUpstream(t, { port });
  await sees('SERVING', 'NOT_SERVING', 'SERVING');
  t.equal(plane.sidecar.notReadyBecause, undefined);
  plane.sidecar.inbound.health.drain();
  await sees('SERVING', 'NOT_SERVING', 'SERVING', 'NOT_SERVING');
  t.strictSame(unknown.seen, ['SERVICE_UNKNOWN'], 'a service that may come is waited for');
  t.equal(unknown.ended, undefined);
  watched.stream.cancel();
  unknown.stream.cancel();
});

t.test('each channel that may connect may watch', async (t) => {
  const plane = await startDataPlane(t, { inbound: { app: (await startUpstream(t)).address } });
  const clients = [clientOf(t, Health!, plane), clientOf(t, Health!, plane)];
  // A caller alone has all but an eighth.
  const watchers = Array.from({ length: 896 }, (_, i) => watch(clients[i % 2]!));
  await waitUntil('all watch', () => watchers.every(({ seen }) => seen.length > 0));
  for (const { stream } of watchers) stream.cancel();
});

t.test('the number of watchers is bounded, and a cancelled one makes room', async (t) => {
  const { address } = await startUpstream(t);
  const plane = await startDataPlane(t, { inbound: { app: address, limits: { max_connections: 2 } } });
  const client = clientOf(t, Health!, plane);
  const watchers = Array.from({ length: 224 }, () => watch(client));
  await waitUntil('all watch', () => watchers.every(({ seen }) => seen.length > 0));
  const refused = watch(client);
  await waitUntil('it was refused', () => refused.ended !== undefined);
  t.equal(refused.ended!.code, grpc.status.RESOURCE_EXHAUSTED);
  watchers[0]!.stream.cancel();
  const welcome = await waitUntil('there was room', async () => {
    const next = watch(client);
    await waitUntil('an answer', () => next.seen.length > 0 || next.ended !== undefined);
    return next.ended === undefined && next;
  });
  for (const { stream } of [...watchers, welcome]) stream.cancel();
});

t.test("the sidecar follows the agent's own health service", async (t) => {
  let answer = (call: SeenCall): void => answerWith(call.stream, Buffer.from([8, 1]));
  const app = await startUpstream(t, { health: true, onCall: (call) => answer(call) });
  const plane = await startDataPlane(t, { inbound: { app: app.address, health: fast } });
  await stateIs(plane, 'serving');
  const status = (code: number) => (call: SeenCall) =>
    call.stream.respond({ ':status': 200, 'grpc-status': `${code}` }, { endStream: true });
  const states: [how: string, answer: (call: SeenCall) => void, state: string, ready: boolean][] = [
    ['NOT_SERVING', (call) => answerWith(call.stream, Buffer.from([8, 2])), 'not_serving', false],
    ['SERVING again', (call) => answerWith(call.stream, Buffer.from([8, 1])), 'serving', true],
    ['an empty message: UNKNOWN', (call) => answerWith(call.stream, ''), 'not_serving', false],
    ['UNIMPLEMENTED', status(12), 'no_health_service', true],
    ['UNAVAILABLE', status(14), 'not_serving', false],
    ['NOT_FOUND', status(5), 'no_health_service', true],
    [
      'a web page',
      (call) => call.stream.respond({ ':status': 404 }, { endStream: true }),
      'no_health_service',
      true,
    ],
  ];
  for (const [how, next, state, ready] of states) {
    answer = next;
    await stateIs(plane, state);
    t.equal(plane.sidecar.notReadyBecause === undefined, ready, how);
  }
  await waitUntil('all probes ended', () =>
    app.calls.slice(0, -1).every(({ closedWith }) => closedWith !== undefined),
  );
  t.ok(
    app.calls.slice(0, -1).every(({ closedWith }) => closedWith === 0),
    'in order, without a reset',
  );
  t.equal(app.sessions.size, 1, 'and one connection carried them');
});

t.test('a busy agent without free workers stays healthy', async (t) => {
  let busy = false;
  const app = await startUpstream(t, {
    health: true,
    onCall: ({ stream }) => {
      if (!busy) answerWith(stream, Buffer.from([8, 1]));
    },
  });
  const clock = new TestClock();
  const plane = await startDataPlane(t, { inbound: { app: app.address, health: doubting } }, {}, clock);
  const { appHealth } = plane.sidecar.inbound;
  await stateIs(plane, 'serving');
  busy = true;
  const client = new RawClient(t, plane.inboundPort);
  const work = client.unary(Buffer.from('x'), { path: '/works' });
  await waitUntil('it works', () => app.calls.some(({ headers }) => headers[':path'] === '/works'));
  for (const time of ['first', 'second', 'third']) {
    const probes = app.calls.length;
    clock.advance(110);
    await waitUntil('it was asked again', () => app.calls.length > probes);
    clock.advance(1_010);
    await waitUntil('it gave a sign', () => appHealth['probe'] === undefined);
    t.equal(appHealth.state, 'busy', `the ${time} time`);
    t.equal(plane.sidecar.notReadyBecause, undefined);
  }
  answerWith(app.calls.find(({ headers }) => headers[':path'] === '/works')!.stream, 'done');
  t.equal((await work).code, grpc.status.OK, 'and the work it was busy with is not disturbed');
  t.equal(app.sessions.size, 1);
});

async function startAgent(t: Test, port: number, ...more: string[]): Promise<TestProcess> {
  const script = join(import.meta.dirname, 'support', 'agent-process.ts');
  const agent = startProcess(t, process.execPath, [script, `${port}`, ...more]);
  await waitUntil('the agent listened', () => agent.logs().includes('listening'));
  return agent;
}

for (const kind of ['with', 'without'] as const) {
  t.test(`a hanging agent is not ready until it resumes: ${kind} a health service`, async (t) => {
    const port = await freePort();
    const agent = await startAgent(t, port, ...(kind === 'with' ? ['health'] : []));
    const plane = await startDataPlane(t, { inbound: { app: `127.0.0.1:${port}`, health: doubting } });
    const healthy = kind === 'with' ? 'serving' : 'no_health_service';
    await stateIs(plane, healthy);
    agent.kill('SIGSTOP');
    await stateIs(plane, 'unreachable');
    t.match(plane.sidecar.notReadyBecause, /unreachable/);
    // Nothing piles up for it while it hangs.
    const [connection] = plane.sidecar.inbound.app.endpoints[0]!.pool.connections;
    const { bytesWritten } = connection!.socket;
    await new Promise((resolve) => setTimeout(resolve, 700));
    t.equal(connection!.socket.bytesWritten, bytesWritten);
    agent.kill('SIGCONT');
    await stateIs(plane, healthy);
    t.equal(
      plane.sidecar.inbound.app.endpoints[0]!.pool.connections[0],
      connection,
      'on the same connection',
    );
  });
}

t.test('a killed and restarted agent is soon ready again, and gets calls', async (t) => {
  const port = await freePort();
  const agent = await startAgent(t, port);
  const plane = await startDataPlane(t, { inbound: { app: `127.0.0.1:${port}`, health: rare } });
  await stateIs(plane, 'no_health_service');
  const client = new RawClient(t, plane.inboundPort);
  for (let round = 0; round < 2; round++) {
    agent.kill('SIGKILL');
    await stateIs(plane, 'unreachable');
    const refused = await client.unary(Buffer.from('x'), { path: rawPaths.unary });
    t.equal(refused.code, grpc.status.UNAVAILABLE);
    t.match(
      refused.details,
      new RegExp(
        `^the app of agent at 127\\.0\\.0\\.1:${port} takes no calls \\(.*\\); start it, or correct inbound.app$`,
      ),
    );
    const next = await startAgent(t, port);
    await stateIs(plane, 'no_health_service');
    const answered = await client.unary(Buffer.from('x'), { path: rawPaths.unary });
    t.equal(answered.code, grpc.status.OK, 'the first call after it is ready');
    if (round === 0) {
      next.kill('SIGKILL');
      await next.ended;
    }
  }
});

t.test('the sidecar finds an agent that starts later, and another one after a reload', async (t) => {
  const port = await freePort();
  const plane = await startDataPlane(t, { inbound: { app: `127.0.0.1:${port}`, health: rare } });
  await stateIs(plane, 'unreachable');
  await startUpstream(t, { port });
  await waitUntil('it was found', () => plane.sidecar.inbound.appHealth.healthy);
  await plane.apply({ inbound: { app: `127.0.0.1:${await freePort()}`, health: rare } });
  await stateIs(plane, 'unreachable');
  await plane.apply({ inbound: { app: `127.0.0.1:${port}`, health: rare } });
  await waitUntil('it was found again', () => plane.sidecar.inbound.appHealth.healthy);
});

t.test('a pod that only makes calls is ready without an app, and refuses calls with a reason', async (t) => {
  const upstream = await startUpstream(t, { name: 'called' });
  const sidecar = await startSidecar(t, {
    name: 'gateway',
    ...outboundTo(upstream.address),
    inbound: { app: 'none' },
  });
  const get = async (port: number, path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, text: await response.text() };
  };
  const ready = async () =>
    (await get(sidecar.metricsPort, '/metrics')).text.match(/^outrigger_ready (\d)/m)?.[1];
  t.equal(await ready(), '1');
  t.match(await get(sidecar.healthPort, '/healthz/app'), { status: 503, text: /inbound\.app is none/ });
  t.match(
    (await get(sidecar.adminPort, '/stats')).text,
    /"app":\s*\{\s*"address":\s*"none",\s*"state":\s*"none"/,
  );
  const out = await new RawClient(t, sidecar.outboundPort).unary(Buffer.from('x'));
  t.equal(out.code, grpc.status.OK);
  const inbound = new RawClient(t, sidecar.inboundPort);
  const refused = await inbound.unary(Buffer.from('x'));
  t.equal(refused.code, grpc.status.UNAVAILABLE);
  t.match(refused.details, /^gateway only calls: .*inbound\.app/);
  t.strictSame(refused.trailers.get('outrigger-reason'), ['no_endpoint']);
  const health = new Health!(`127.0.0.1:${sidecar.inboundPort}`, grpc.credentials.createInsecure());
  t.teardown(() => health.close());
  t.equal(await check(health), 'NOT_SERVING', 'there is nothing to call');
  t.equal(await check(health, 'an.apps.own'), 'UNAVAILABLE');

  const config = JSON.parse(readFileSync(sidecar.configFile, 'utf8'));
  for (const app of [upstream.address, 'none']) {
    writeFileSync(sidecar.configFile, JSON.stringify({ ...config, inbound: { ...config.inbound, app } }));
    const state = app === 'none' ? 'none' : 'no_health_service';
    await waitUntil(
      `the app is ${state}`,
      async () =>
        (await get(sidecar.adminPort, '/stats')).text.includes(`"state": "${state}"`) ||
        (await get(sidecar.adminPort, '/stats')).text.includes(`"state":"${state}"`),
    );
    t.equal(await ready(), '1');
    const { code } = await inbound.unary(Buffer.from('x'));
    t.equal(code, app === 'none' ? grpc.status.UNAVAILABLE : grpc.status.OK);
  }
});
