// A configuration that changes under load: no call is lost, and what is wrong changes nothing.
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { canConnect } from '../scripts/harness/net.ts';
import { RawClient, type UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import {
  answerWith,
  grpcFrame,
  type SeenCall,
  startUpstream,
  taskRequest,
  type Upstream,
} from './support/upstream.ts';

t.setTimeout(290_000);

type Section = Record<string, unknown>;
interface Content {
  inbound?: Section;
  outbound: { listen?: string; routes?: Section[]; clusters: Record<string, Section> };
}

/** An upstream whose calls wait for `release`, and whose streams tick until `endStreams`; it gives its name. */
class Held {
  readonly name: string;
  upstream!: Upstream;
  holding = true;
  private readonly waiting: SeenCall[] = [];
  private readonly streams: SeenCall[] = [];
  private readonly ticks: NodeJS.Timeout[] = [];

  constructor(name: string) {
    this.name = name;
  }

  static async start(t: Test, name: string): Promise<Held> {
    const held = new Held(name);
    held.upstream = await startUpstream(t, { onCall: (call) => held.onCall(call) });
    t.teardown(() => held.ticks.forEach(clearInterval));
    return held;
  }

  get address(): string {
    return this.upstream.address;
  }

  get inFlight(): number {
    return this.waiting.length;
  }

  private onCall(call: SeenCall): void {
    if (call.headers[':path'] === '/stream') this.stream(call);
    else if (this.holding && call.headers[':path'] === '/hold') this.waiting.push(call);
    else answerWith(call.stream, this.name);
  }

  private stream(call: SeenCall): void {
    const { stream } = call;
    let count = 0;
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    this.streams.push(call);
    this.ticks.push(setInterval(() => stream.writable && stream.write(grpcFrame(`${count++}`)), 5));
  }

  release(): void {
    for (const { stream } of this.waiting.splice(0)) answerWith(stream, this.name);
  }

  endStreams(): void {
    this.ticks.splice(0).forEach(clearInterval);
    for (const { stream } of this.streams.splice(0)) stream.end();
  }
}

/** Writes the file and has it read; gives whether it was taken, and what was said if not. */
async function reload(sidecar: Sidecar, content: Content | string): Promise<{ code: number; body: string }> {
  if (typeof content === 'string') writeFileSync(sidecar.configFile, content);
  else {
    const present = JSON.parse(readFileSync(sidecar.configFile, 'utf8')) as Record<string, Section>;
    const next: Record<string, Section> = { ...present };
    for (const name of ['inbound', 'outbound'] as const)
      next[name] = { listen: present[name]!['listen'], ...content[name] };
    writeFileSync(sidecar.configFile, JSON.stringify(next));
  }
  const response = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
  return { code: response.status, body: await response.text() };
}

const toOne = (address: string, more: Section = {}): Content => ({
  outbound: {
    routes: [{ match: {}, cluster: 'one' }],
    clusters: { one: { endpoints: [address], ...more } },
  },
});

interface Flight {
  readonly calls: Promise<UnaryOutcome>[];
  readonly held: Held;
}

/** 200 calls, all of them at an upstream when this resolves. */
async function takeOff(client: RawClient, held: Held): Promise<Flight> {
  held.holding = true;
  const calls = Array.from({ length: 200 }, () => client.unary(Buffer.from('x'), { path: '/hold' }));
  await waitUntil('200 calls were in flight', () => held.inFlight === 200);
  return { calls, held };
}

async function land(t: Test, { calls, held }: Flight, what: string): Promise<void> {
  held.release();
  const outcomes = await Promise.all(calls);
  const lost = outcomes.filter(({ code, response }) => code !== status.OK || String(response) !== held.name);
  t.strictSame(
    lost.map(({ code, details }) => `${code} ${details}`),
    [],
    `no call is lost: ${what}`,
  );
}

const whoAnswers = async (client: RawClient): Promise<string> => {
  const { code, response } = await client.unary(Buffer.from('x'), { path: '/quick' });
  return code === status.OK ? String(response) : status[code];
};

t.test('200 calls and some streams survive every change of the outbound side', async (t) => {
  const a = await Held.start(t, 'a');
  const b = await Held.start(t, 'b');
  const sidecar = await startSidecar(t, toOne(a.address) as never, { until: 'live' });
  const client = new RawClient(t, sidecar.outboundPort);
  const streams = Array.from({ length: 5 }, () => {
    const read: string[] = [];
    const call = client.serverStream(Buffer.from('x'), { path: '/stream' });
    call.on('data', (bytes: Buffer) => read.push(String(bytes))).on('error', () => {});
    return { read, end: new Promise<status>((resolve) => call.on('status', ({ code }) => resolve(code))) };
  });
  await waitUntil('the streams flow', () => streams.every(({ read }) => read.length > 3));
  const change = async (what: string, content: Content): Promise<void> => {
    const result = await reload(sidecar, content);
    t.equal(result.code, 200, `${what} ${result.body}`);
  };

  let flight = await takeOff(client, a);
  const both = toOne(a.address, { endpoints: [a.address, b.address], balancer: 'round_robin' });
  await change('an endpoint comes', both);
  t.strictSame([await whoAnswers(client), await whoAnswers(client)].sort(), ['a', 'b']);
  await land(t, flight, 'an endpoint came, and another balancer');

  await change('one endpoint only', toOne(a.address));
  flight = await takeOff(client, a);
  await change('it goes', toOne(b.address));
  t.equal(await whoAnswers(client), 'b');
  await land(t, flight, 'their endpoint went');

  await change('back', toOne(a.address));
  flight = await takeOff(client, a);
  await change('another cluster', {
    outbound: { routes: [{ match: {}, cluster: 'two' }], clusters: { two: { endpoints: [b.address] } } },
  });
  t.equal(await whoAnswers(client), 'b');
  await land(t, flight, 'their route changed, and their cluster went');

  await change('back', toOne(a.address));
  flight = await takeOff(client, a);
  await change('lower', toOne(a.address, { limits: { max_concurrent_calls: 3 } }));
  t.equal(await whoAnswers(client), 'RESOURCE_EXHAUSTED', 'more are in than may be from now on');
  await change('shorter', toOne(a.address, { timeout: '50ms', max_timeout: '50ms' }));
  const late = await client.unary(Buffer.from('x'), { path: '/hold', deadline: Date.now() + 60_000 });
  t.equal(late.code, status.DEADLINE_EXCEEDED, 'the new limit holds for new calls');
  t.match(late.details, /max_timeout of 50 ms/);
  await land(t, flight, 'the time and the calls that are allowed became fewer than they');

  await change('back', toOne(a.address));
  flight = await takeOff(client, a);
  const port = await freePort();
  await change('moved', { outbound: { ...toOne(b.address).outbound, listen: `127.0.0.1:${port}` } });
  t.equal(await canConnect(sidecar.outboundPort), false, 'the old address is left');
  t.equal(await whoAnswers(new RawClient(t, port)), 'b', 'the new one serves');
  await land(t, flight, 'the listener moved');

  a.endStreams();
  for (const { read, end } of streams) {
    t.equal(await end, status.OK, 'a stream has lived through all of it');
    t.strictSame(
      read,
      read.map((_, index) => `${index}`),
      'without a gap',
    );
  }
  await waitUntil('the endpoint that went is let go', () => a.upstream.sessions.size === 0);
});

t.test('200 calls survive every change of the inbound side', async (t) => {
  const a = await Held.start(t, 'a');
  const b = await Held.start(t, 'b');
  const sidecar = await startSidecar(t, { inbound: { app: a.address } });
  const client = new RawClient(t, sidecar.inboundPort);
  const outbound = { clusters: {} };
  const change = async (what: string, inbound: Section): Promise<void> => {
    const result = await reload(sidecar, { inbound, outbound });
    t.equal(result.code, 200, `${what} ${result.body}`);
  };
  let flight = await takeOff(client, a);
  await change('another app', { app: b.address });
  t.equal(await whoAnswers(client), 'b');
  await land(t, flight, 'the app is another one');

  flight = await takeOff(client, b);
  await change('limits', {
    app: b.address,
    max_concurrent_calls: 100,
    timeout: '50ms',
    max_timeout: '50ms',
    idle_timeout: '50ms',
    max_message_bytes: 1,
  });
  t.equal(await whoAnswers(client), 'RESOURCE_EXHAUSTED', 'twice as many as may be are in');
  await land(t, flight, 'limits below what they are');

  await change('back', { app: b.address });
  flight = await takeOff(client, b);
  const port = await freePort();
  await change('moved', { app: b.address, listen: `127.0.0.1:${port}` });
  t.equal(await whoAnswers(new RawClient(t, port)), 'b');
  t.equal(await canConnect(sidecar.inboundPort), false);
  await land(t, flight, 'the listener moved');
});

t.test('an invalid file is refused, and the configuration stays', async (t) => {
  const a = await Held.start(t, 'a');
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const takenAddress = `127.0.0.1:${(taken.address() as { port: number }).port}`;
  const sidecar = await startSidecar(t, toOne(a.address) as never, { until: 'live' });
  const client = new RawClient(t, sidecar.outboundPort);
  const right = readFileSync(sidecar.configFile, 'utf8');
  const flight = await takeOff(client, a);
  const elsewhere = (more: object): string => {
    const parsed = JSON.parse(right) as Content;
    const outbound = { ...parsed.outbound, clusters: { one: { endpoints: ['127.0.0.1:1'] } } };
    return JSON.stringify({ ...parsed, outbound, log: { level: 'silent' }, ...more });
  };
  const configPage = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${sidecar.adminPort}/config`)).text();
  const configBefore = await configPage();
  const wrong: [what: string, text: string, said: RegExp][] = [
    ['a key that is unknown', elsewhere({ inbuond: {} }), /inbuond.*inbound/s],
    ['a value of a wrong type', elsewhere({ drain: { timeout: 5 } }), /drain\.timeout/],
    ['no YAML', `${right.slice(0, -4)}\n: [`, /line/],
    ['a route to nowhere', right.replace('"cluster": "one"', '"cluster": "tow"'), /tow/],
    [
      'an address that is taken',
      elsewhere({ inbound: { listen: takenAddress } }),
      new RegExp(`inbound\\.listen.*${takenAddress}.*in use`, 's'),
    ],
    [
      'the second address of two is taken',
      elsewhere({
        inbound: { listen: `127.0.0.1:${await freePort()}` },
        outbound: { listen: takenAddress, clusters: {} },
      }),
      new RegExp(`outbound\\.listen.*${takenAddress}.*in use`, 's'),
    ],
  ];
  for (const [what, text, said] of wrong) {
    // Twice: what was refused stays refused.
    for (let time = 0; time < 2; time++) {
      const { code, body } = await reload(sidecar, text);
      t.equal(code, 422, what);
      t.match(body, said, 'says what');
    }
    t.equal(await whoAnswers(client), 'a', 'the old configuration is in use');
    t.equal(await configPage(), configBefore, 'and is what the page shows');
    t.equal(await canConnect(sidecar.inboundPort), true);
  }
  const refused = sidecar.logs().split('the sidecar refuses the new configuration').length - 1;
  t.ok(refused >= 2 * wrong.length, 'the log of the new one is not used either');
  await land(t, flight, 'while six wrong files were refused');
  const { code } = await reload(sidecar, right);
  t.equal(code, 200, 'a right one is taken again');
});

t.test('the sidecar notices a changed file by itself, and SIGHUP reads it at once', async (t) => {
  const a = await Held.start(t, 'a');
  const b = await Held.start(t, 'b');
  const sidecar = await startSidecar(t, toOne(a.address) as never, { until: 'live' });
  const client = new RawClient(t, sidecar.outboundPort);
  const right = readFileSync(sidecar.configFile, 'utf8');
  const becomes = (name: string): Promise<boolean> =>
    waitUntil(`${name} answers`, async () => (await whoAnswers(client)) === name, { everyMs: 5 });
  t.equal(await whoAnswers(client), 'a');
  writeFileSync(sidecar.configFile, right.replace(a.address, b.address));
  sidecar.kill('SIGHUP');
  await becomes('b');
  writeFileSync(sidecar.configFile, right);
  await becomes('a');
  writeFileSync(sidecar.configFile, '{');
  await waitUntil('it was refused', () => sidecar.logs().includes('refuses'));
  t.equal(await whoAnswers(client), 'a');
  t.equal(sidecar.child.exitCode, null);
});

t.test('a task that began before the change follows the new routes after it', async (t) => {
  const a = await Held.start(t, 'a');
  const b = await Held.start(t, 'b');
  const routed = (name: string, address: string): Content => ({
    outbound: {
      routes: [{ match: { agent_type: 'code' }, cluster: name }],
      clusters: { [name]: { endpoints: [address] } },
    },
  });
  const sidecar = await startSidecar(t, routed('one', a.address) as never, { until: 'live' });
  const peer = (await H2Peer.connect(t, sidecar.outboundPort)).behave();
  const message = grpcFrame(taskRequest({ type: 'code' }));
  await peer.headers(1, grpcRequest('/agent.AgentService/ProcessTask'));
  await peer.data(1, message.subarray(0, 4));
  const stats = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).text();
  await waitUntil('it was seen', async () => /"active_calls": ?1/.test(await stats()));
  t.equal((await reload(sidecar, routed('two', b.address))).code, 200);
  await peer.data(1, message.subarray(4), true);
  await peer.until('it was answered', () => peer.ended.has(1));
  t.equal(peer.field(1, 'grpc-status'), '0');
  t.equal(b.upstream.calls.length, 1);
});

t.test('two simultaneous reloads are applied one after the other', async (t) => {
  const a = await Held.start(t, 'a');
  const sidecar = await startSidecar(t, toOne(a.address) as never, { until: 'live' });
  const port = await freePort();
  const moved = { ...toOne(a.address), inbound: { listen: `127.0.0.1:${port}` } };
  const results = await Promise.all([reload(sidecar, moved), reload(sidecar, moved), reload(sidecar, moved)]);
  t.same(
    results.map(({ code }) => code),
    [200, 200, 200],
  );
  t.equal(await canConnect(port), true);
  t.equal(await canConnect(sidecar.inboundPort), false);
});

t.test('a reload during a drain opens no address that nothing would close', async (t) => {
  const a = await Held.start(t, 'a');
  const sidecar = await startSidecar(t, { ...toOne(a.address), drain: { delay: '60s' } } as never, {
    until: 'live',
  });
  await fetch(`http://127.0.0.1:${sidecar.adminPort}/drain`, { method: 'POST' });
  const port = await freePort();
  const { code, body } = await reload(sidecar, {
    ...toOne(a.address),
    inbound: { listen: `127.0.0.1:${port}` },
  });
  t.equal(code, 422);
  t.match(body, /inbound\.listen.*the sidecar is draining/);
  const stays = { listen: `127.0.0.1:${sidecar.inboundPort}`, timeout: '5s' };
  const targets = [{ listen: `127.0.0.1:${port}`, address: a.address }];
  const { outbound } = toOne(a.address);
  const withTarget = { outbound: { ...outbound, targets }, inbound: stays };
  const refused = await reload(sidecar, withTarget as never);
  t.equal(refused.code, 422);
  t.match(refused.body, /outbound\.targets.*the sidecar is draining/);
  t.equal(await canConnect(port), false);
  t.equal(await canConnect(sidecar.inboundPort), true);
  t.equal((await reload(sidecar, { ...toOne(a.address), inbound: stays })).code, 200);
});

t.test('a defect in the middle of a reload leaves the old configuration in use', async (t) => {
  const [a, b] = [await Held.start(t, 'a'), await Held.start(t, 'b')];
  const plane = await startDataPlane(t, { ...toOne(a.address) });
  const { llm } = plane.sidecar;
  const apply = llm.apply.bind(llm);
  llm.apply = () => {
    llm.apply = apply;
    throw new Error('a defect');
  };
  const port = await freePort();
  const next = { ...toOne(b.address), inbound: { listen: `127.0.0.1:${port}` } };
  await t.rejects(plane.apply(next), { message: 'a defect' });
  t.equal(await whoAnswers(new RawClient(t, plane.outboundPort)), 'a');
  t.equal(await canConnect(port), false);
  await plane.apply(next);
  t.equal(await whoAnswers(new RawClient(t, plane.outboundPort)), 'b');
  t.equal(await canConnect(port), true);
});
