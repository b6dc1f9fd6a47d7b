// The health of services that the app itself registers (grpc.health.v1), as callers see it through the inbound listener.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import t, { type Test } from 'tap';
import { type DataPlane, startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);

const patient = { limitMs: 30_000 };
const python = join(import.meta.dirname, 'support', 'python');
/** Only a change that is noticed by itself is noticed in time. */
const rare = { interval: '1h', timeout: '5s' };

const loaded = loadSync(join(import.meta.dirname, '..', 'proto', 'health.proto'), {
  keepCase: true,
  enums: String,
  defaults: true,
});
const { Health } = (
  grpc.loadPackageDefinition(loaded) as never as {
    grpc: { health: { v1: { Health: grpc.ServiceClientConstructor } } };
  }
).grpc.health.v1;

const checkPath = '/grpc.health.v1.Health/Check';
const watchPath = '/grpc.health.v1.Health/Watch';

interface Status {
  status: string;
}

/** A caller's stub; answers are the response, or the name of the status with the details. */
class Stub {
  readonly client: grpc.Client;

  constructor(t: Test, port: number) {
    const options = { 'grpc.use_local_subchannel_pool': 1 };
    this.client = new Health!(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options);
    t.teardown(() => this.client.close());
  }

  private ask<Response>(
    method: string,
    request: object,
    metadata: grpc.Metadata,
  ): Promise<Response | string> {
    const call = (this.client as never as Record<string, (...args: unknown[]) => unknown>)[method]!;
    return new Promise((resolve) =>
      call.call(this.client, request, metadata, (error: grpc.ServiceError | null, response: Response) =>
        resolve(error === null ? response : `${grpc.status[error.code]}: ${error.details}`),
      ),
    );
  }

  async check(service: string, metadata = new grpc.Metadata()): Promise<string> {
    const answer = await this.ask<Status>('Check', { service }, metadata);
    return typeof answer === 'string' ? answer : answer.status;
  }

  async list(): Promise<Record<string, string> | string> {
    const answer = await this.ask<{ statuses: Record<string, Status> }>('List', {}, new grpc.Metadata());
    if (typeof answer === 'string') return answer;
    return Object.fromEntries(Object.entries(answer.statuses).map(([name, { status }]) => [name, status]));
  }

  watch(service: string, metadata = new grpc.Metadata()) {
    const seen: string[] = [];
    const method = (this.client as never as Record<string, (...args: unknown[]) => never>)['Watch']!;
    const stream: grpc.ClientReadableStream<Status> = method.call(
      this.client,
      { service },
      metadata,
    ) as grpc.ClientReadableStream<Status>;
    stream.on('data', ({ status }: Status) => seen.push(status));
    stream.on('error', () => {});
    stream.on('status', ({ code }) => seen.push(grpc.status[code]));
    const sees = (...states: string[]): Promise<boolean> =>
      waitUntil(`${states} are seen, not ${seen}`, () => seen.join() === states.join(), patient);
    return { seen, stream, sees };
  }
}

// --- A Python agent, and a Python caller whose channel goes by its health ------------------------------------------

class Agent {
  private readonly t: Test;
  readonly port: number;
  private readonly args: readonly string[];
  private process!: TestProcess;

  private constructor(t: Test, port: number, args: readonly string[]) {
    this.t = t;
    this.port = port;
    this.args = args;
  }

  static async start(t: Test, ...args: string[]): Promise<Agent> {
    const agent = new Agent(t, await freePort(), args);
    await agent.start();
    return agent;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const args = [join(python, 'health_agent.py'), `${this.port}`, ...this.args];
    this.process = startProcess(this.t, requireTool('python'), args, { stdin: true });
    await waitUntil('the agent listens', () => this.process.logs().includes('listening'), patient);
  }

  say(line: string): void {
    this.process.child.stdin!.write(`${line}\n`);
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.process.ended;
  }

  async stop(): Promise<void> {
    this.say('stop');
    await this.process.ended;
  }
}

function startCaller(t: Test, port: number, service: string) {
  const args = [join(python, 'health_client.py'), `127.0.0.1:${port}`, service];
  const caller = startProcess(t, requireTool('python'), args, { stdin: true });
  const linesOf = (what: string): string[] =>
    caller
      .logs()
      .split('\n')
      .filter((line) => line.startsWith(`${what} `))
      .map((line) => line.slice(what.length + 1));
  const becomes = (state: string): Promise<boolean> =>
    waitUntil(`its channel is ${state}`, () => linesOf('state').at(-1) === state, patient);
  const call = async (): Promise<string> => {
    const before = linesOf('call').length;
    caller.child.stdin!.write('call\n');
    await waitUntil('its call ends', () => linesOf('call').length > before, patient);
    return linesOf('call').at(-1)!;
  };
  return { becomes, call, states: () => linesOf('state') };
}

const skip = skipWithout('python');

for (const way of ['directly', 'through the inbound listener'] as const) {
  t.test(`a channel follows the health of the app's own service: ${way}`, { skip }, async (t) => {
    const agent = await Agent.start(t);
    let port = agent.port;
    let plane: DataPlane | undefined;
    if (way !== 'directly') {
      plane = await startDataPlane(t, { name: 'tools', inbound: { app: agent.address, health: rare } });
      port = plane.inboundPort;
    }
    const caller = startCaller(t, port, 'my.Tools');
    await caller.becomes('READY');
    t.equal(await caller.call(), 'OK');
    agent.say('my.Tools NOT_SERVING');
    await caller.becomes('TRANSIENT_FAILURE');
    t.match(await caller.call(), /^UNAVAILABLE /);
    agent.say('my.Tools SERVING');
    await caller.becomes('READY');
    t.equal(await caller.call(), 'OK');
    await agent.kill();
    await caller.becomes('TRANSIENT_FAILURE');
    await agent.start();
    await caller.becomes('READY');
    t.equal(await caller.call(), 'OK', 'and after a restart');
    await agent.stop();
    await caller.becomes('TRANSIENT_FAILURE');
    await agent.start();
    await caller.becomes('READY');
    t.equal(await caller.call(), 'OK', 'and after one in order');
    if (plane === undefined) return;
    plane.sidecar.inbound.health.drain();
    await caller.becomes('TRANSIENT_FAILURE');
  });
}

t.test('Check, Watch and List work for an app with its own services', { skip }, async (t) => {
  const agent = await Agent.start(t);
  const plane = await startDataPlane(t, { name: 'tools', inbound: { app: agent.address, health: rare } });
  await waitUntil('the app is known', () => plane.sidecar.inbound.appHealth.state === 'serving', patient);
  const direct = new Stub(t, agent.port);
  const stub = new Stub(t, plane.inboundPort);
  t.equal(await stub.check('my.Tools'), 'SERVING');
  t.equal(await stub.check('my.Other'), await direct.check('my.Other'), 'unknown to it: in its own words');
  for (const own of ['', 'agent.AgentService', 'tools']) t.equal(await stub.check(own), 'SERVING', own);
  const list = await direct.list();
  t.same(list, { '': 'SERVING', 'my.Tools': 'SERVING' });
  t.same(await stub.list(), { ...(list as object), 'agent.AgentService': 'SERVING', tools: 'SERVING' });
  const [known, unknown] = [stub.watch('my.Tools'), stub.watch('my.Other')];
  await known.sees('SERVING');
  await unknown.sees('SERVICE_UNKNOWN');
  agent.say('my.Tools NOT_SERVING');
  await known.sees('SERVING', 'NOT_SERVING');
  t.equal(await stub.check('my.Tools'), 'NOT_SERVING');
  agent.say('my.Other SERVING');
  await unknown.sees('SERVICE_UNKNOWN', 'SERVING');
  await agent.kill();
  await waitUntil('it has ended', () => plane.sidecar.inbound.appHealth.state === 'unreachable', patient);
  t.match(await stub.check('my.Tools'), /^UNAVAILABLE: the app of tools can't be asked/);
  t.match(await stub.list(), /^UNAVAILABLE: the app of tools can't be asked/);
  await unknown.sees('SERVICE_UNKNOWN', 'SERVING', 'NOT_SERVING');
  await agent.start();
  await known.sees('SERVING', 'NOT_SERVING', 'SERVING');
  await unknown.sees('SERVICE_UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN');
  plane.sidecar.inbound.health.drain();
  await known.sees('SERVING', 'NOT_SERVING', 'SERVING', 'NOT_SERVING');
  t.equal(await stub.check('my.Tools'), 'NOT_SERVING', 'callers shall leave a sidecar that goes');
  plane.sidecar.inbound.health.endWatches();
  await known.sees('SERVING', 'NOT_SERVING', 'SERVING', 'NOT_SERVING', 'UNAVAILABLE');
});

t.test('an app without the health service is healthy', { skip }, async (t) => {
  const agent = await Agent.start(t, 'without');
  const plane = await startDataPlane(t, { name: 'tools', inbound: { app: agent.address, health: rare } });
  await waitUntil('the app is known', () => plane.sidecar.inbound.appHealth.healthy, patient);
  const stub = new Stub(t, plane.inboundPort);
  t.match(await stub.check('my.Tools'), /^NOT_FOUND: no such service; ask for "" or "agent\.AgentService"/);
  t.match(await stub.list(), /^UNIMPLEMENTED/);
  const watch = stub.watch('my.Tools');
  await watch.sees('SERVICE_UNKNOWN');
  t.equal(await stub.check(''), 'SERVING');
});

// --- An app that answers as a test wants ---------------------------------------------------------------------------

const serving = Buffer.from([8, 1]);

/** A watch that goes on: its head and SERVING. */
function watched({ stream }: SeenCall): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
  stream.write(grpcFrame(serving));
}

async function startApp(t: Test, onCall: (call: SeenCall) => void, limits: object = {}) {
  // What asks for the app as a whole is the sidecar.
  const app = await startUpstream(t, {
    health: true,
    onCall: (call) => {
      const { stream, headers } = call;
      if (headers['x-caller'] !== undefined) onCall(call);
      else stream.on('end', () => answerWith(stream, serving));
    },
  });
  const inbound = { app: app.address, health: rare, limits };
  const plane = await startDataPlane(t, { name: 'tools', inbound });
  await waitUntil('the app is known', () => plane.sidecar.inbound.appHealth.state === 'serving', patient);
  const calls = () => app.calls.filter(({ headers }) => headers['x-caller'] !== undefined);
  return { app, plane, stub: new Stub(t, plane.inboundPort), calls };
}

function from(caller: string): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-caller', caller);
  metadata.set('authorization', `Bearer ${caller}`);
  return metadata;
}

t.test("the sidecar checks the app with the caller's metadata, and for a readable answer", async (t) => {
  const { stub, calls } = await startApp(t, (call) => {
    call.stream.on('end', () => answerWith(call.stream, serving));
  });
  t.equal(await stub.check('my.Tools', from('ann')), 'SERVING');
  const [seen] = calls();
  t.match(seen!.headers, { authorization: 'Bearer ann', te: 'trailers', ':path': checkPath });
  t.equal(seen!.headers['grpc-accept-encoding'], undefined);
  t.same(seen!.body, grpcFrame(Buffer.from('\n\bmy.Tools')));
});

t.test("errors of the app's health service become states", async (t) => {
  let answer: (call: SeenCall) => void = () => {};
  const { stub, calls } = await startApp(t, (call) => call.stream.on('end', () => answer(call)));
  const status = (code: number, message: string) => (call: SeenCall) =>
    call.stream.respond(
      {
        ':status': 200,
        'content-type': 'application/grpc',
        'grpc-status': `${code}`,
        'grpc-message': message,
      },
      { endStream: true },
    );
  for (const [what, how, checked, watchEnd] of [
    [
      'a caller without a right',
      status(16, 'who are you'),
      /^UNAUTHENTICATED: who are you/,
      'UNAUTHENTICATED',
    ],
    ['an error', status(13, 'broken'), /^INTERNAL: broken/, 'INTERNAL'],
    ['no such method', status(12, ''), /^NOT_FOUND/, 'SERVICE_UNKNOWN'],
    [
      'a web page',
      (call: SeenCall) => call.stream.respond({ ':status': 404 }, { endStream: true }),
      /^NOT_FOUND/,
      'SERVICE_UNKNOWN',
    ],
    [
      'no status',
      ({ stream }: SeenCall) => {
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
        stream.end();
      },
      /^NOT_FOUND/,
      'SERVICE_UNKNOWN',
    ],
    [
      'a reset',
      (call: SeenCall) => call.stream.close(2),
      /^UNAVAILABLE: the app of tools can't be asked/,
      'NOT_SERVING',
    ],
  ] as const) {
    answer = how;
    t.match(await stub.check('my.Tools', from('ann')), checked, what);
    const watch = stub.watch('my.Tools', from('ann'));
    await watch.sees(watchEnd);
    watch.stream.cancel();
  }
  answer = status(12, '');
  const asked = calls().length;
  const unknown = stub.watch('my.Tools', from('ann'));
  await unknown.sees('SERVICE_UNKNOWN');
  await sleep(300);
  t.equal(calls().length, asked + 1, 'an app without the health service is not checked repeatedly');
});

t.test("a watch ends with its caller, and the app's watch ends, too", async (t) => {
  const { stub, calls } = await startApp(t, watched);
  const watch = stub.watch('my.Tools', from('ann'));
  await watch.sees('SERVING');
  watch.stream.cancel();
  await waitUntil('the app learns of it', () => calls()[0]!.closedWith === 8, patient);
});

t.test('the number of unanswered checks is bounded', async (t) => {
  const { stub, calls } = await startApp(t, () => {}, { max_connections: 2 });
  const client = stub.client as never as Record<
    string,
    (request: object, metadata: grpc.Metadata, done: () => void) => grpc.ClientUnaryCall
  >;
  const asked = Array.from({ length: 224 }, () =>
    client['Check']!({ service: 'my.Tools' }, from('ann'), () => {}),
  );
  await waitUntil('all are there', () => calls().length === 224, patient);
  t.match(
    await stub.check('my.Tools', from('ann')),
    /^RESOURCE_EXHAUSTED: 224 of 256 \(this caller's share\) questions wait for the app/,
  );
  for (const call of asked) call.cancel();
  await waitUntil(
    'the app learns that they disconnected',
    () => calls().every(({ closedWith }) => closedWith === 8),
    patient,
  );
  const last = stub.check('my.Tools', from('ann'));
  await waitUntil('there is room again', () => calls().length === 225, patient);
  answerWith(calls()[224]!.stream, serving);
  t.equal(await last, 'SERVING');
});

t.test('the close of an old connection changes no state', async (t) => {
  const { app, stub, calls } = await startApp(t, watched);
  const watch = stub.watch('my.Tools', from('ann'));
  await watch.sees('SERVING');
  // As servers do it with a maximum age: GOAWAY, and the end when the grace is over.
  await sleep(1_100);
  const [old] = app.sessions;
  old!.goaway(0);
  old!.destroy();
  await waitUntil('the app is watched again', () => calls().length === 2, patient);
  await watch.sees('SERVING');
  calls()[1]!.stream.write(grpcFrame(Buffer.from([8, 2])));
  await watch.sees('SERVING', 'NOT_SERVING');
});

t.test('an app that ends each watch at once is watched less and less often', async (t) => {
  const { stub, calls } = await startApp(t, ({ stream }) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(grpcFrame(serving));
  });
  const watch = stub.watch('my.Tools', from('ann'));
  await watch.sees('SERVING');
  await sleep(1_500);
  t.ok(calls().length > 1 && calls().length < 8, `${calls().length} times`);
  await watch.sees('SERVING');
});

t.test('after a reload the watch is of the new app', async (t) => {
  const { plane, stub } = await startApp(t, watched);
  const watch = stub.watch('my.Tools', from('ann'));
  await watch.sees('SERVING');
  const other = await startUpstream(t, {
    health: true,
    onCall: ({ stream, headers }) => {
      if (headers[':path'] !== watchPath) stream.on('end', () => answerWith(stream, serving));
      else {
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
        stream.write(grpcFrame(Buffer.from([8, 2])));
      }
    },
  });
  await plane.apply({ name: 'tools', inbound: { app: other.address, health: rare } });
  await watch.sees('SERVING', 'NOT_SERVING');
});

t.test('health requests may use gzip, and other protocols than gRPC', async (t) => {
  const { plane, app } = await startApp(t, ({ stream, headers }) => {
    if (headers['content-type'] === 'application/json')
      stream.respond({ ':status': 200 }, { endStream: true });
    else stream.on('end', () => answerWith(stream, serving));
  });
  const peer = (await H2Peer.connect(t, plane.inboundPort)).behave();
  const compressed = (text: string): Buffer => {
    const body = grpcFrame(gzipSync(text));
    body[0] = 1;
    return body;
  };
  const gzip: [string, string][] = [
    ['grpc-encoding', 'gzip'],
    ['x-caller', 'ann'],
  ];
  for (const [id, body, status] of [
    [1, compressed('\n\u0012agent.AgentService'), '0'],
    [3, compressed('\n\bmy.Tools'), '0'],
    // A mebibyte of zeros in a kilobyte.
    [5, compressed('\0'.repeat(1 << 20)), '3'],
  ] as const) {
    await peer.headers(id, [...grpcRequest(checkPath), ...gzip]);
    await peer.data(id, body, true);
    await peer.until('it was answered', () => peer.ended.has(id));
    t.equal(peer.field(id, 'grpc-status'), status);
  }
  const json = grpcRequest(checkPath).map(([name, value]): [string, string] => [
    name,
    name === 'content-type' ? 'application/json' : value,
  ]);
  await peer.headers(7, [...json, ['x-caller', 'ann']]);
  await peer.data(7, Buffer.from('{}'), true);
  await peer.until('it was answered', () => peer.ended.has(7));
  t.equal(app.calls.at(-1)!.headers['content-type'], 'application/json', 'the app answers it');
});
