// node:http2 on both sides of the relay: what arrives is what was sent, however it is cut, delayed or broken off.
import * as http2 from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  flag,
  frameType,
  grpcRequest,
  H2Peer,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { outboundTo } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { statusFromHttp2Error } from '../sidecar/grpc/status.ts';
import { queuedMemory } from '../sidecar/http2/queued-memory.ts';
import { type Relay, startRelay } from './support/relay.ts';
import { seededRandom } from './support/seeded-random.ts';

t.setTimeout(290_000);

type Fields = [name: string, value: string][];

interface Message {
  fields: Fields;
  /** Names of fields that travel as never-indexed literals. */
  secret: string[];
  body: Buffer;
  /** Where the body is cut into writes. */
  cuts: number[];
  trailers: Fields | undefined;
  /** Waits this long in front of one write in eight. */
  delayMs: number;
}

interface Plan {
  id: string;
  grpc: boolean;
  method: string;
  request: Message;
  response: Message & { status: number };
  /** The response begins only when the request has come to its end. */
  inTurn: boolean;
  /** The client resets when so many response bytes are there; the server when so many request bytes are. */
  clientResetsAt: number | undefined;
  serverResets: { at: number; code: number } | undefined;
}

/** What one end saw of a call. */
interface Seen {
  fields: Fields;
  secret: string[];
  body: Buffer[];
  trailers: Fields | undefined;
  code: number;
  ended: boolean;
}

// --- Random plans -----------------------------------------------------------------------------------------

type Random = () => number;
const below = (random: Random, limit: number): number => Math.floor(random() * limit);
const oneOf = <T>(random: Random, values: readonly T[]): T => values[below(random, values.length)]!;

const material = Buffer.from(Array.from({ length: 1_300_000 }, seededByte(7)));

function seededByte(seed: number): () => number {
  const random = seededRandom(seed);
  return () => below(random, 256);
}

const names = ['x-a', 'x-tenant', 'authorization', 'user-agent', 'x-long', 'x-empty', 'cookie', 'x-more'];

function randomValue(random: Random): string {
  const kind = random();
  if (kind < 0.15) return '';
  if (kind < 0.25) return 'v'.repeat(1 + below(random, 9_000));
  if (kind < 0.35) return 'latin1: é ÿ';
  return `value ${below(random, 1_000_000)}`;
}

function randomFields(random: Random, used = new Set<string>()): { fields: Fields; secret: string[] } {
  const fields: Fields = [];
  const secret: string[] = [];
  const count = random() < 0.05 ? 60 : below(random, 8);
  for (let i = 0; i < count; i++) {
    const name = random() < 0.3 ? `x-name-${below(random, 10_000)}` : oneOf(random, names);
    if (used.has(name)) continue;
    used.add(name);
    if (random() < 0.3) {
      const bytes = material.subarray(0, below(random, 40));
      fields.push([`${name}-bin`, bytes.toString('base64')]);
      continue;
    }
    if (random() < 0.2) secret.push(name);
    const times =
      name !== 'authorization' && name !== 'user-agent' && random() < 0.3 ? 1 + below(random, 4) : 1;
    for (let time = 0; time < times; time++) fields.push([name, randomValue(random)]);
  }
  return { fields, secret };
}

function randomSize(random: Random, most: number): number {
  const kind = random();
  if (kind < 0.15) return 0;
  if (kind < 0.6) return Math.min(most, below(random, 300));
  if (kind < 0.9) return Math.min(most, below(random, 40_000));
  return Math.min(most, below(random, 1_048_577));
}

function randomBody(random: Random, grpc: boolean, most: number): Buffer {
  const bytes = randomSize(random, most);
  const from = below(random, 200_000);
  if (!grpc) return material.subarray(from, from + bytes);
  const messages: Buffer[] = [];
  for (let left = bytes; left >= 0; ) {
    const length = random() < 0.5 ? left : below(random, left + 1);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(length, 1);
    messages.push(prefix, material.subarray(from, from + length));
    left -= length + 1;
    if (messages.length > 20) break;
  }
  return Buffer.concat(messages);
}

function randomMessage(random: Random, grpc: boolean, most: number): Message {
  const body = randomBody(random, grpc, most);
  const cuts = Array.from({ length: below(random, 8) }, () => below(random, body.length + 1));
  return {
    ...randomFields(random),
    body,
    cuts: cuts.sort((a, b) => a - b),
    trailers: undefined,
    delayMs: random() < 0.3 ? below(random, 6) : 0,
  };
}

function randomPlan(random: Random, id: string, most: number): Plan {
  const grpc = random() < 0.6;
  const method = grpc ? 'POST' : oneOf(random, ['GET', 'HEAD', 'POST', 'PUT', 'DELETE']);
  const request = randomMessage(random, grpc, most);
  if (method === 'GET' || method === 'HEAD') request.body = Buffer.alloc(0);
  if (grpc) request.fields.push(['content-type', 'application/grpc+proto'], ['te', 'trailers']);
  else if (request.body.length > 0 && random() < 0.2) {
    const { fields } = randomFields(random);
    request.trailers = fields.length > 0 ? fields : undefined;
  }
  const response = { ...randomMessage(random, grpc, most), status: 200 };
  if (grpc) {
    // In a Trailers-Only response they stand beside those of the head.
    const used = new Set(response.fields.map(([name]) => name.replace(/-bin$/, '')));
    const trailers: Fields = [
      ...randomFields(random, used).fields,
      ['grpc-status', String(below(random, 17))],
    ];
    if (random() < 0.5) trailers.push(['grpc-message', 'caf%C3%A9']);
    if (random() < 0.15) {
      // Trailers-Only
      response.body = Buffer.alloc(0);
      response.fields.push(['content-type', 'application/grpc'], ...trailers);
    } else {
      response.fields.push(['content-type', 'application/grpc']);
      response.trailers = trailers;
    }
  } else {
    response.status = oneOf(random, [200, 201, 204, 304, 404, 500]);
    if (method === 'HEAD' || response.status === 204 || response.status === 304) {
      response.body = Buffer.alloc(0);
      if (method === 'HEAD' && response.status !== 204)
        response.fields.push(['content-length', String(below(random, 5_000))]);
    } else {
      const kind = random();
      if (kind < 0.3) response.trailers = [['x-checksum', 'abc']];
      else if (kind < 0.5) response.fields.push(['content-length', String(response.body.length)]);
    }
  }
  const inTurn = random() < 0.7;
  return {
    id,
    grpc,
    method,
    request,
    response,
    inTurn,
    clientResetsAt: random() < 0.12 ? below(random, response.body.length + 1) : undefined,
    serverResets:
      random() < 0.12
        ? { at: below(random, request.body.length + 1), code: oneOf(random, [1, 2, 8, 11]) }
        : undefined,
  };
}

// --- The two ends -----------------------------------------------------------------------------------------

/** Fields as node wants them: duplicates beside each other, as an array. */
function toObject(fields: Fields, secret: string[]): http2.OutgoingHttpHeaders {
  const object: Record<string, string | string[]> = {};
  for (const [name, value] of fields) {
    const there = object[name];
    if (there === undefined) object[name] = value;
    else object[name] = Array.isArray(there) ? [...there, value] : [there, value];
  }
  return { ...object, [http2.sensitiveHeaders]: secret } as http2.OutgoingHttpHeaders;
}

function toFields(raw: readonly string[]): Fields {
  const fields: Fields = [];
  for (let i = 0; i < raw.length; i += 2) fields.push([raw[i]!, raw[i + 1]!]);
  return fields;
}

function seen(): Seen {
  return { fields: [], secret: [], body: [], trailers: undefined, code: 0, ended: false };
}

function secretsOf(headers: http2.IncomingHttpHeaders): string[] {
  return (headers as Record<symbol, string[]>)[http2.sensitiveHeaders] ?? [];
}

/**
 * Breaks a stream off, but never while a write is on its way: node forgets such a stream while nghttp2 still asks
 * it for data, and then writes empty frames for ever.
 */
class Breaker {
  private code: number | undefined = undefined;
  private writing = false;
  private readonly stream: http2.Http2Stream;

  constructor(stream: http2.Http2Stream) {
    this.stream = stream;
  }

  get tripped(): boolean {
    return this.code !== undefined;
  }

  trip(code: number): void {
    if (this.tripped) return;
    this.code = code;
    this.close();
  }

  private close(): void {
    if (this.code !== undefined && !this.writing && !this.stream.closed) this.stream.close(this.code);
  }

  /** Resolves once the piece, or the end, has gone out, or never will. */
  async write(piece: Buffer | undefined): Promise<void> {
    this.writing = true;
    await new Promise<void>((resolve) => {
      this.stream.once('close', resolve);
      const done = (): void => {
        this.stream.off('close', resolve);
        resolve();
      };
      if (piece === undefined) this.stream.end(done);
      else this.stream.write(piece, done);
    });
    this.writing = false;
    this.close();
  }
}

/** Writes the body in the pieces and at the pace of the plan, as far as the stream lives. */
async function writeBody(
  stream: http2.Http2Stream,
  message: Message,
  random: Random,
  breaker: Breaker,
): Promise<void> {
  let from = 0;
  for (const cut of [...message.cuts, message.body.length]) {
    if (stream.destroyed || stream.closed || breaker.tripped) return;
    if (cut > from) await breaker.write(message.body.subarray(from, cut));
    from = cut;
    if (message.delayMs > 0 && random() < 0.125) await sleep(message.delayMs);
  }
  if (!stream.destroyed && !breaker.tripped) stream.end();
}

/** Whoever reads slowly reads, pauses, and reads on. */
function collect(
  stream: http2.Http2Stream,
  into: Seen,
  random: Random,
  onBytes: (total: number) => void,
): void {
  const slow = random() < 0.2;
  let total = 0;
  stream.on('data', (chunk: Buffer) => {
    into.body.push(chunk);
    total += chunk.length;
    onBytes(total);
    if (slow && random() < 0.3) {
      stream.pause();
      setTimeout(() => stream.resume(), below(random, 8));
    }
  });
  stream.on('trailers', (_headers, _flags, raw: string[]) => {
    into.trailers = toFields(raw);
  });
  stream.on('error', () => {});
  stream.on('close', () => {
    into.code = stream.rstCode;
    into.ended = true;
  });
}

interface Upstream {
  readonly port: number;
  readonly plans: Map<string, Plan>;
  /** By call, what each of its attempts brought. */
  readonly seen: Map<string, Seen[]>;
  readonly streams: Set<http2.ServerHttp2Stream>;
}

async function startUpstream(t: Test, settings: http2.Settings, random: Random): Promise<Upstream> {
  const upstream = { port: 0, plans: new Map(), seen: new Map(), streams: new Set() } as {
    -readonly [K in keyof Upstream]: Upstream[K];
  };
  const server = http2.createServer({ settings, maxHeaderListPairs: 2_000, maxSessionMemory: 1_000 });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream, headers, _flags, raw: string[]) => {
    const id = String(headers[':path']).slice(1);
    const plan = upstream.plans.get(id);
    if (plan === undefined) {
      // The inbound side asks for the app's health.
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': 12 },
        { endStream: true },
      );
      return;
    }
    const record = seen();
    record.fields = toFields(raw);
    record.secret = secretsOf(headers);
    upstream.seen.set(id, [...(upstream.seen.get(id) ?? []), record]);
    upstream.streams.add(stream);
    stream.on('close', () => upstream.streams.delete(stream));
    const breaker = new Breaker(stream);
    const resetAt = (bytes: number): void => {
      const { serverResets } = plan;
      if (serverResets !== undefined && bytes >= serverResets.at) breaker.trip(serverResets.code);
    };
    const answer = async (): Promise<void> => {
      if (stream.destroyed || stream.closed || breaker.tripped) return;
      const { response } = plan;
      const { fields, secret, trailers, body, status } = response;
      const head = { ':status': status, ...toObject(fields, secret) };
      if (body.length === 0 && trailers === undefined) {
        stream.respond(head, { endStream: true });
        return;
      }
      stream.on('wantTrailers', () => stream.sendTrailers(toObject(trailers ?? [], [])));
      stream.respond(head, { waitForTrailers: trailers !== undefined });
      await writeBody(stream, response, random, breaker);
    };
    collect(stream, record, random, resetAt);
    resetAt(0);
    if (plan.inTurn) stream.on('end', () => void answer());
    else void answer();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  upstream.port = (server.address() as { port: number }).port;
  return upstream;
}

async function connectClient(
  t: Test,
  port: number,
  settings: http2.Settings,
): Promise<http2.ClientHttp2Session> {
  const session = http2.connect(`http://127.0.0.1:${port}`, {
    settings,
    maxHeaderListPairs: 2_000,
    maxSessionMemory: 1_000,
  });
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  await new Promise((resolve) => session.once('remoteSettings', resolve));
  return session;
}

/** Makes the call and resolves when its stream has closed. */
function play(session: http2.ClientHttp2Session, plan: Plan, random: Random): Promise<Seen> {
  return new Promise((resolve) => {
    const { request, method, id } = plan;
    const record = seen();
    const endStream = request.body.length === 0 && request.trailers === undefined;
    const stream = session.request(
      { ':method': method, ':path': `/${id}`, ...toObject(request.fields, request.secret) },
      { endStream, waitForTrailers: request.trailers !== undefined },
    );
    stream.on('wantTrailers', () => stream.sendTrailers(toObject(request.trailers!, [])));
    const breaker = new Breaker(stream);
    const resetAt = (bytes: number): void => {
      if (plan.clientResetsAt !== undefined && bytes >= plan.clientResetsAt)
        breaker.trip(http2.constants.NGHTTP2_CANCEL);
    };
    stream.on('response', (headers, _flags, raw: string[]) => {
      record.fields = toFields(raw);
      record.secret = secretsOf(headers);
      resetAt(0);
    });
    collect(stream, record, random, resetAt);
    stream.on('close', () => resolve(record));
    stream.on('end', () => {
      // node forgets to destroy a stream that ends with RST_STREAM NO_ERROR under a write of its own.
      const timer = setInterval(() => {
        if (stream.closed || stream.destroyed) clearInterval(timer);
        if (stream.closed) stream.destroy();
      }, 10);
    });
    if (!endStream) void writeBody(stream, request, random, breaker);
  });
}

// --- What must have arrived -------------------------------------------------------------------------------

const ours = new Set([
  'baggage',
  'grpc-timeout',
  'grpc-retry-pushback-ms',
  'date',
  ':authority',
  ':scheme',
  ':method',
  ':path',
  ':status',
]);
const regular = (fields: Fields): Fields => fields.filter(([name]) => !ours.has(name));
const field = (fields: Fields, name: string) => fields.find(([candidate]) => candidate === name)?.[1];

/** How an end's view differs from what the other end sent; undefined when it does not. */
function difference(what: string, sent: Message, got: Seen, bodyWhole: boolean): string | undefined {
  const wanted = JSON.stringify(regular(sent.fields));
  const fields = JSON.stringify(regular(got.fields));
  if (wanted !== fields) return `${what}: fields ${fields.slice(0, 400)} for ${wanted.slice(0, 400)}`;
  for (const name of sent.secret)
    if (!got.secret.includes(name)) return `${what}: ${name} lost its never-indexed form`;
  const body = Buffer.concat(got.body);
  if (bodyWhole ? !body.equals(sent.body) : !body.equals(sent.body.subarray(0, body.length)))
    return `${what}: a body of ${body.length} bytes for ${sent.body.length}`;
  if (!bodyWhole) return undefined;
  const trailers = JSON.stringify(got.trailers ?? []);
  const wantedTrailers = JSON.stringify(sent.trailers ?? []);
  return trailers === wantedTrailers ? undefined : `${what}: trailers ${trailers} for ${wantedTrailers}`;
}

function judge(plan: Plan, client: Seen, attempts: Seen[]): string | undefined {
  const undisturbed = plan.clientResetsAt === undefined && plan.serverResets === undefined;
  if (undisturbed) {
    if (attempts.length !== 1) return `${attempts.length} attempts`;
    const [server] = attempts;
    // An answer that does not wait for the request's end may cut the request short.
    const inTurn = plan.inTurn || plan.request.body.length === 0;
    return (
      difference('request', plan.request, server!, inTurn) ??
      (field(client.fields, ':status') === String(plan.response.status) ? undefined : 'another status') ??
      difference('response', plan.response, client, true) ??
      (client.code === 0 ? undefined : `the client saw code ${client.code}`)
    );
  }
  for (const server of attempts) {
    const fault = difference('request of a broken call', plan.request, server, false);
    if (fault !== undefined) return fault;
    if (!server.ended) return 'the server stream goes on';
  }
  const { serverResets } = plan;
  if (serverResets === undefined || plan.clientResetsAt !== undefined) return undefined;
  // The server may have said all it had to say before it broke off.
  const missing = difference('response', plan.response, client, true);
  if (missing === undefined) return undefined;
  // Broken off by the server: the caller must not take it for a whole answer.
  if (plan.grpc) {
    const status = field(client.trailers ?? client.fields, 'grpc-status');
    const wanted = String(statusFromHttp2Error(serverResets.code));
    // node may end the stream in order and reset it then; what is there has no grpc-status.
    const cut = field(client.trailers ?? client.fields, 'outrigger-reason') === 'upstream_protocol';
    return status === wanted || cut ? undefined : `grpc-status ${status} for code ${serverResets.code}`;
  }
  // node may end a body in order where it breaks off, so what has come can only be held against what was sent.
  if (field(client.fields, ':status') === '502') return undefined;
  return client.fields.length === 0
    ? undefined
    : difference('response of a broken call', plan.response, client, false);
}

/** Nothing of the calls is left in the sidecar. */
async function expectNothingLeft(t: Test, relay: Relay): Promise<void> {
  const { inbound, outbound } = relay.sidecar;
  const clusters = [...outbound.clusters.clusters.values(), inbound.app];
  const left = (): string => {
    const counts = [`calls ${outbound.stats.activeCalls} ${inbound.stats.activeCalls}`];
    for (const cluster of clusters) {
      counts.push(`${cluster.name} ${cluster.activeCalls}`);
      for (const endpoint of cluster.endpoints) {
        counts.push(`attempts ${endpoint.activeCalls} pending ${endpoint.pool.pendingCount}`);
        for (const { streams, waiting, receiver } of endpoint.pool.connections) {
          const { bufferedBytes } = receiver.window;
          counts.push(`streams ${streams.size} waiting ${waiting.size} buffered ${bufferedBytes}`);
        }
      }
    }
    return counts.join(', ');
  };
  // What waited for a reader that has gone is given back when its connection closes, a moment after its calls end.
  const nothing = (): boolean => queuedMemory.bytes === 0 && !/[1-9]/.test(left().replace(/upstream/g, ''));
  await waitUntil('nothing was left', nothing).catch(() => {});
  t.notMatch(left().replace(/upstream/g, ''), /[1-9]/, left());
  t.equal(queuedMemory.bytes, 0, 'no memory is counted');
  t.strictSame(relay.connectionErrors, [], 'no connection ended in error');
}

// --- The test ---------------------------------------------------------------------------------------------

const windows = [1, 100, 5_000, 65_535, 1_000_000];

t.test('received messages equal sent messages', async (t) => {
  for (let seed = 1; seed <= 25; seed++) {
    const random = seededRandom(seed);
    const settings = (): http2.Settings => ({
      initialWindowSize: oneOf(random, windows),
      maxFrameSize: oneOf(random, [16_384, 100_000, 16_777_215]),
      headerTableSize: oneOf(random, [0, 200, 4_096, 65_536]),
    });
    const serverSettings = settings();
    const clientSettings = [settings(), settings()];
    const smallest = Math.min(
      ...[serverSettings, ...clientSettings].map(({ initialWindowSize }) => initialWindowSize!),
    );
    const upstream = await startUpstream(t, serverSettings, random);
    const twoHops = seed % 2 === 0;
    const relay = await startRelay(t, {
      inbound: {
        app: `127.0.0.1:${upstream.port}`,
        limits: { max_concurrent_streams: oneOf(random, [2, 20, 200]) },
      },
    });
    const next = twoHops ? relay.inboundPort : upstream.port;
    const front = await startRelay(t, {
      ...outboundTo(`127.0.0.1:${next}`),
      // This front's own inbound side has no app.
      inbound: { app: '127.0.0.1:1' },
    });
    const clients = await Promise.all(
      clientSettings.map((settings) => connectClient(t, front.outboundPort, settings)),
    );
    // A window of one byte costs a turn a byte.
    const most = smallest < 1_000 ? 60 * smallest : 1_048_576;
    const plans = Array.from({ length: 60 }, (_, n) => randomPlan(random, `${seed}-${n}`, most));
    for (const plan of plans) upstream.plans.set(plan.id, plan);
    const views = await Promise.all(
      plans.map(async (plan, n) => {
        await sleep(below(random, 40));
        return play(clients[n % 2]!, plan, random);
      }),
    );
    await waitUntil('the server had no stream left', () => upstream.streams.size === 0);
    plans.forEach((plan, n) => {
      const fault = judge(plan, views[n]!, upstream.seen.get(plan.id) ?? []);
      if (fault !== undefined) t.fail(`seed ${seed}, ${plan.method} ${plan.id}: ${fault}`);
    });
    t.equal(upstream.seen.size > 50, true, `seed ${seed}: ${upstream.seen.size} calls reached the server`);
    for (const client of clients) client.destroy();
    await expectNothingLeft(t, front);
    if (twoHops) await expectNothingLeft(t, relay);
  }
});

/** An upstream that answers `/N` with N bytes; through the relay, and what was received by path. */
async function startBytes(t: Test): Promise<{ relay: Relay; client: http2.ClientHttp2Session }> {
  const server = http2.createServer({ maxSessionMemory: 1_000 });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    // Else Node resets the stream with NO_ERROR at its end, which may go out before its last, empty DATA frame does.
    stream.resume();
    stream.respond({ ':status': 200 });
    let left = Number(String(headers[':path']).slice(1));
    const write = (): void => {
      while (left > 0) {
        const piece = material.subarray(0, Math.min(left, 65_536));
        left -= piece.length;
        if (!stream.write(piece)) {
          stream.once('drain', write);
          return;
        }
      }
      stream.end();
    };
    write();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const relay = await startRelay(t, { ...outboundTo(`127.0.0.1:${port}`), inbound: { app: '127.0.0.1:1' } });
  return { relay, client: await connectClient(t, relay.outboundPort, {}) };
}

t.test('a download of 128 MiB with default windows is not a flood of WINDOW_UPDATEs', async (t) => {
  const { relay, client } = await startBytes(t);
  const size = 134_217_728;
  const stream = client.request({ ':path': `/${size}` });
  let received = 0;
  stream.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await new Promise((resolve) => stream.on('close', resolve));
  t.equal(received, size);
  t.equal(stream.rstCode, 0);
  client.destroy();
  await expectNothingLeft(t, relay);
});

t.test('streams with paused readers do not delay others on their connections', async (t) => {
  const { relay, client } = await startBytes(t);
  // All of it fits into the memory for what waits, however slowly it is read: none of them is given up.
  const size = 200_000;
  const received = new Map<number, number>();
  const sleeping: http2.ClientHttp2Stream[] = [];
  const done: Promise<unknown>[] = [];
  const read = (n: number, stream: http2.ClientHttp2Stream): Promise<unknown> => {
    stream.on('data', (chunk: Buffer) => received.set(n, (received.get(n) ?? 0) + chunk.length));
    return new Promise((resolve) => stream.on('close', resolve));
  };
  for (let n = 0; n < 200; n++) {
    const stream = client.request({ ':path': `/${size}` });
    stream.on('error', () => {});
    if (n % 4 === 0) sleeping.push(stream);
    else done.push(read(n, stream));
  }
  await Promise.all(done);
  t.equal(received.size, 150);
  t.ok(
    [...received.values()].every((bytes) => bytes === size),
    'all others have come to their end',
  );
  const { stats } = relay.sidecar.outbound;
  t.ok(stats.activeCalls <= 50, `${stats.activeCalls} calls wait for their readers`);
  await Promise.all(sleeping.map((stream, index) => read(1_000 + index, stream)));
  t.ok(
    [...received.values()].every((bytes) => bytes === size),
    'and the others after their pause',
  );
  client.destroy();
  await expectNothingLeft(t, relay);
});

t.test('fields keep their order, also separated duplicates, and lists in many frames', async (t) => {
  const fields: [string, string][] = [];
  for (let n = 0; n < 300; n++) {
    fields.push(
      [`x-${n % 7}`, n % 5 === 0 ? '' : `${n}`],
      ['trace-bin', Buffer.from([n & 255]).toString('base64')],
    );
    if (n % 50 === 0) fields.push(['x-3', 'again'.repeat(1_200)]);
  }
  const seenFields: [string, string][][] = [];
  const upstream = await startPeerServer(t, (peer) => {
    peer.send(settings());
    peer.behave();
    const { onFrame } = peer;
    peer.onFrame = (received) => {
      onFrame?.(received);
      if (received.type !== frameType.headers && received.type !== frameType.continuation) return;
      if ((received.flags & flag.endHeaders) === 0) return;
      seenFields.push(...peer.heads.get(received.streamId)!);
      const { streamId } = received;
      peer.headers(streamId, [
        [':status', '200'],
        ['content-type', 'application/grpc'],
        ...fields.slice(0, 150),
      ]);
      peer.headers(streamId, [...fields.slice(150), ['grpc-status', '0']], true);
    };
  });
  const relay = await startRelay(t, { ...outboundTo(upstream.address), inbound: { app: '127.0.0.1:1' } });
  const peer = (await H2Peer.connect(t, relay.outboundPort)).behave();
  for (const id of [1, 3, 5]) {
    await peer.headers(id, [...grpcRequest('/a.B/C'), ...fields], true);
    await peer.until('the call ended', () => peer.ended.has(id));
    t.strictSame(regular(seenFields.at(-1)!).slice(2), fields, 'the request as it was sent');
    const [head, trailers] = peer.heads.get(id)!;
    t.strictSame(head!.slice(2), fields.slice(0, 150), 'the head too');
    t.strictSame(trailers, [...fields.slice(150), ['grpc-status', '0']], 'and the trailers');
  }
});
