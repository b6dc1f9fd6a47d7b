// Header lists above the limits: each costs its own call, keeps the status where there is one, and leaves the calls
// beside it alone, on the connection of the caller and on that of the endpoint.
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { oneCluster, policiesOff, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  type Frame,
  flag,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  headerBlock,
  preface,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { taskRequest } from './support/upstream.ts';

t.setTimeout(120_000);

type Fields = [name: string, value: string][];

const MAX_HEADER_LIST_SIZE = 6;
const HEAD: Fields = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
const OK: Fields = [['grpc-status', '0']];
const MESSAGE = grpcMessage(Buffer.from('hi'));
const large = (bytes: number, name = 'x-large'): Fields => {
  const pieces = Math.ceil(bytes / 10_000);
  return Array.from({ length: pieces }, (_, n) => [`${name}-${n}`, 'y'.repeat(Math.min(10_000, bytes))]);
};

type Answer = (peer: H2Peer, streamId: number, path: string) => void;

/** Calls `answer` for each complete request but those of health checks. */
async function startServer(t: Test, answer: Answer, entries: [number, number][] = []) {
  return startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received: Frame) => {
      behaved(received);
      const { type, flags, streamId } = received;
      if ((type !== frameType.headers && type !== frameType.data) || (flags & flag.endStream) === 0) return;
      const path = new Map(peer.heads.get(streamId)!.at(0)).get(':path')!;
      if (path.startsWith('/grpc.health'))
        void peer.headers(streamId, [...HEAD, ['grpc-status', '12']], true);
      else answer(peer, streamId, path);
    };
    void peer.send(settings(...entries));
  });
}

const plane = (
  t: Test,
  address: string,
  limits: Record<string, unknown> = {},
  cluster: object = policiesOff,
) =>
  startDataPlane(t, {
    inbound: { app: address, limits },
    outbound: {
      limits,
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: { upstream: { endpoints: [address], ...cluster } },
    },
  });

/** A caller, and what its calls brought. */
class Caller {
  readonly peer: H2Peer;
  private nextId = 1;

  constructor(peer: H2Peer) {
    this.peer = peer.behave();
  }

  static async connect(t: Test, port: number, entries: [number, number][] = []): Promise<Caller> {
    return new Caller(await H2Peer.connect(t, port, Buffer.concat([preface, settings(...entries)])));
  }

  begin(fields: Fields, body = MESSAGE): number {
    const id = this.nextId;
    this.nextId += 2;
    void this.peer.headers(id, fields);
    void this.peer.data(id, body, true);
    return id;
  }

  async end(id: number) {
    const { peer } = this;
    await peer.until(
      'the call ended',
      () => (peer.ended.has(id) && peer.heads.has(id)) || peer.resets.has(id) || peer.closed,
    );
    const heads = peer.heads.get(id) ?? [];
    return { heads, last: new Map(heads.at(-1)), reset: peer.resets.get(id) };
  }

  call(fields: Fields, body?: Buffer) {
    return this.end(this.begin(fields, body));
  }
}

/** Where a server lets them stand: in front of the metadata, as grpc-go does, or behind it, as grpc-java does. */
const places = ['in front', 'behind'] as const;

t.test('oversized trailers keep the status, and other calls are unaffected', async (t) => {
  let waiting: { peer: H2Peer; streamId: number }[] = [];
  const server = await startServer(t, (peer, streamId, path) => {
    const [, what, bytes, place] = path.split('/');
    if (what === 'wait') {
      waiting.push({ peer, streamId });
      return;
    }
    const status: Fields = [
      ['grpc-status', '5'],
      ['grpc-message', what === 'message' ? 'm'.repeat(Number(bytes)) : 'no such thing'],
      ['grpc-retry-pushback-ms', '70'],
    ];
    const metadata = what === 'message' ? [] : large(Number(bytes));
    const trailers = place === 'behind' ? [...metadata, ...status] : [...status, ...metadata];
    if (what === 'streamed') {
      void peer.headers(streamId, HEAD);
      void peer.data(streamId, MESSAGE);
      void peer.headers(streamId, trailers, true);
    } else void peer.headers(streamId, [...HEAD, ...trailers], true);
  });
  const { inboundPort, outboundPort, sidecar } = await plane(t, server.address);
  for (const [listener, port] of [
    ['inbound', inboundPort],
    ['outbound', outboundPort],
  ] as const) {
    waiting = [];
    const caller = await Caller.connect(t, port);
    const beside = caller.begin(grpcRequest('/wait/0'));
    await waitUntil('the call beside it is there', () => waiting.length === 1);
    for (const what of ['alone', 'streamed', 'message']) {
      for (const place of places) {
        for (const bytes of [60_000, 100_000, 200_000, 900_000]) {
          const name = `${listener}: ${bytes} bytes of ${what}, status ${place}`;
          const { heads, last } = await caller.call(grpcRequest(`/${what}/${bytes}/${place}`));
          t.equal(last.get('grpc-status'), '5', name);
          t.equal(heads.length, what === 'streamed' ? 2 : 1, name);
          t.equal(last.get('grpc-retry-pushback-ms'), '70', name);
          const passes = bytes === 60_000;
          t.equal(last.get('outrigger-reason'), passes ? undefined : 'headers_too_large', name);
          if (what === 'message') t.match(last.get('grpc-message'), /^m{1024}/, name);
          else {
            t.equal(last.get('grpc-message'), 'no such thing', name);
            t.equal(last.has('x-large-0'), passes, 'all or nothing of the metadata');
          }
        }
      }
    }
    const [{ peer, streamId }] = waiting as [{ peer: H2Peer; streamId: number }];
    void peer.headers(streamId, HEAD);
    void peer.data(streamId, MESSAGE);
    void peer.headers(streamId, OK, true);
    t.equal((await caller.end(beside)).last.get('grpc-status'), '0', `${listener}: the call beside all that`);
  }
  const cluster = sidecar.outbound.clusters.clusters.get('upstream')!;
  t.equal(cluster.endpoints[0]!.pool.connections[0]!.nextStreamId, 2 * 25 + 1, 'all on one connection');
});

t.test('without a usable status the call ends with RESOURCE_EXHAUSTED', async (t) => {
  const server = await startServer(t, (peer, streamId, path) => {
    if (path === '/head') {
      void peer.headers(streamId, [...HEAD, ...large(100_000)]);
      void peer.data(streamId, MESSAGE);
      void peer.headers(streamId, OK, true);
    } else if (path === '/ok') {
      void peer.headers(streamId, HEAD);
      void peer.data(streamId, MESSAGE);
      void peer.headers(streamId, [...OK, ...large(100_000)], true);
    } else void peer.headers(streamId, [...HEAD, ...OK, ...large(100_000)], true);
  });
  // With the policies that are on by default: none of it opens a circuit or ejects.
  const { inboundPort, outboundPort, sidecar } = await plane(t, server.address, {}, {});
  for (const [listener, port] of [
    ['inbound', inboundPort],
    ['outbound', outboundPort],
  ] as const) {
    const caller = await Caller.connect(t, port);
    for (const path of ['/head', '/ok', '/ok-alone']) {
      for (let call = 0; call < 7; call++) {
        const { last } = await caller.call(grpcRequest(path));
        t.equal(last.get('grpc-status'), '8', `${listener}: ${path}`);
        t.equal(last.get('outrigger-reason'), 'headers_too_large');
        t.match(
          last.get('grpc-message'),
          new RegExp(
            `127.0.0.1:${server.port} answered with (initial metadata|trailers) of 1\\d{5} bytes; at most 65536 are taken \\(${listener}.limits.max_header_bytes\\)`,
          ),
        );
      }
    }
  }
  t.equal(sidecar.outbound.clusters.clusters.get('upstream')!.usableCount, 1);
});

t.test('the configured limit applies in both directions, also after a reload', async (t) => {
  const bytes = 300_000;
  const server = await startServer(t, (peer, streamId) => {
    const seen = new Map(peer.heads.get(streamId)!.at(0)).get('x-large-0')!.length;
    void peer.headers(streamId, [...HEAD, ...large(seen * 3, 'x-head')]);
    void peer.data(streamId, MESSAGE);
    void peer.headers(streamId, [...OK, ...large(seen * 3, 'x-trailer')], true);
  });
  const content = (max_header_bytes: number) => ({
    inbound: { app: server.address, limits: { max_header_bytes } },
    outbound: {
      ...oneCluster([server.address])['outbound']!,
      limits: { max_header_bytes },
    },
  });
  const running = await startDataPlane(t, content(1_048_576));
  const callBoth = async (bytes: number, check: (last: Map<string, string>, name: string) => void) => {
    for (const port of [running.inboundPort, running.outboundPort]) {
      const caller = await Caller.connect(t, port);
      const { heads, last } = await caller.call(grpcRequest('/a.B/C', ...large(bytes)));
      check(last, `${port === running.inboundPort ? 'inbound' : 'outbound'}: ${heads.length} heads`);
    }
  };
  await callBoth(bytes, (last, name) => {
    t.equal(last.get('grpc-status'), '0', `${name}: ${last.get('grpc-message')}`);
    t.equal(last.get('x-trailer-0')?.length, 10_000, name);
  });
  for (const peer of server.peers) {
    const [sent] = peer.frames.filter(({ type, flags }) => type === frameType.settings && flags === 0);
    t.ok(sent!.payload.includes(Buffer.from([0, MAX_HEADER_LIST_SIZE, 1, 0, 0, 0])), 'and is announced');
  }
  await running.apply(content(8_192));
  for (const { peers } of [server]) for (const { socket } of peers) socket.destroy();
  await callBoth(10_000, (last, name) => {
    t.equal(last.get('grpc-status'), '8', name);
    t.match(last.get('grpc-message'), /the request's header fields have 1\d{4} bytes/, name);
  });
  await callBoth(4_000, (last, name) => {
    t.equal(last.get('grpc-status'), '8', name);
    t.match(
      last.get('grpc-message'),
      /answered with initial metadata of 2\d{4} bytes; at most 8192 are taken/,
      name,
    );
  });
  await callBoth(1_000, (last, name) => t.equal(last.get('grpc-status'), '0', name));
});

t.test('the sidecar obeys the limits of the caller and of the endpoint', async (t) => {
  const answer: Answer = (peer, streamId, path) => {
    const size = Number(path.split('/')[2]);
    if (path.startsWith('/head')) {
      void peer.headers(streamId, [...HEAD, ...large(size)]);
      void peer.data(streamId, MESSAGE);
      void peer.headers(streamId, OK, true);
    } else void peer.headers(streamId, [...HEAD, ['grpc-status', '5'], ...large(size)], true);
  };
  const small = await startServer(t, answer, [[MAX_HEADER_LIST_SIZE, 4_096]]);
  const running = await plane(t, small.address);
  for (const [listener, port] of [
    ['inbound', running.inboundPort],
    ['outbound', running.outboundPort],
  ] as const) {
    const caller = await Caller.connect(t, port, [[MAX_HEADER_LIST_SIZE, 8_192]]);
    const cut = await caller.call(grpcRequest('/trailers/12000'));
    t.equal(cut.last.get('grpc-status'), '5', listener);
    t.equal(cut.last.get('outrigger-reason'), 'headers_too_large');
    t.notOk(cut.last.has('x-large-0'));
    const head = await caller.call(grpcRequest('/head/12000'));
    t.equal(head.last.get('grpc-status'), '8', listener);
    t.match(head.last.get('grpc-message'), /at most 8192 are taken by the caller/);
    const whole = await caller.call(grpcRequest('/trailers/6000'));
    t.equal(whole.last.get('x-large-0')?.length, 6_000, 'smaller answers are complete');
    const seen = small.peers.length;
    const { last } = await caller.call(grpcRequest('/trailers/10', ...large(6_000)));
    t.equal(last.get('grpc-status'), '8', listener);
    t.equal(last.get('outrigger-reason'), 'headers_too_large');
    t.match(last.get('grpc-message'), /and 127\.0\.0\.1:\d+ takes 4096; send fewer or shorter metadata/);
    t.equal((await caller.call(grpcRequest('/trailers/10'))).last.get('grpc-status'), '5', 'others continue');
    t.equal(small.peers.length, seen, 'on the same connections');
  }
  for (const peer of small.peers)
    t.notOk(
      [...peer.heads.values()].some(([head]) => new Map(head).has('x-large-0')),
      'it was not sent',
    );

  const roomy = await startServer(t, answer);
  const both = await startDataPlane(
    t,
    oneCluster([small.address, roomy.address], { balancer: 'round_robin' }),
  );
  const caller = await Caller.connect(t, both.outboundPort);
  for (let call = 0; call < 4; call++) {
    const { last } = await caller.call(grpcRequest('/trailers/10', ...large(6_000)));
    t.equal(last.get('grpc-status'), '5', 'an endpoint that takes it gets it');
  }
});

t.test("an endpoint's limit applies to all heads sent to it", async (t) => {
  const answer: Answer = (peer, streamId) => void peer.headers(streamId, [...HEAD, ...OK], true);
  const limit = 4_096;
  const small = await startServer(t, answer, [[MAX_HEADER_LIST_SIZE, limit]]);
  const running = await plane(t, small.address);
  for (const [listener, port] of [
    ['inbound', running.inboundPort],
    ['outbound', running.outboundPort],
  ] as const) {
    const { peer } = await Caller.connect(t, port);
    const call = async (id: number, fields: Fields, trailers: Fields | undefined) => {
      void peer.headers(id, fields);
      void peer.data(id, MESSAGE, trailers === undefined);
      if (trailers !== undefined) void peer.headers(id, trailers, true);
      await peer.until('it was answered', () => peer.ended.has(id) || peer.resets.has(id) || peer.closed);
    };
    await call(1, grpcRequest('/a.B/C'), large(6_000));
    t.equal(peer.field(1, 'grpc-status'), '8', listener);
    t.match(peer.field(1, 'grpc-message'), /the request's trailers have 60\d\d bytes, and 127.*takes 4096/);
    await call(3, grpcRequest('/a.B/C'), large(1_000));
    t.equal(peer.field(3, 'grpc-status'), '0', 'trailers that it takes are sent');
    // As much as it takes, to the byte: the fields that a hop adds are left out.
    const fields = grpcRequest('/a.B/C', ['baggage', 'tenant=a'], ['grpc-timeout', '20S'], ['x-fill', '']);
    const listBytes = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
    fields.at(-1)![1] = 'y'.repeat(limit - listBytes);
    await call(5, fields, undefined);
    t.equal(peer.field(5, 'grpc-status'), '0', `${listener}: ${peer.field(5, 'grpc-message')}`);
    fields.at(-1)![1] += 'y';
    await call(7, fields, undefined);
    t.equal(peer.field(7, 'grpc-status'), '8', 'a byte more is refused');
    if (listener === 'outbound') continue;
    const question = grpcMessage(Buffer.from([10, 1, 0x78]));
    void peer.headers(9, grpcRequest('/grpc.health.v1.Health/Check', ...large(5_000)));
    void peer.data(9, question, true);
    await peer.until('a question was answered', () => peer.ended.has(9) || peer.closed);
    t.equal(peer.field(9, 'grpc-status'), '8', 'so are questions for the health of the app’s services');
  }
  for (const peer of small.peers)
    for (const heads of peer.heads.values())
      for (const head of heads) {
        const bytes = head.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
        t.ok(bytes <= limit, `${bytes} bytes`);
      }
});

t.test('the size of compressed headers is bounded after decoding', async (t) => {
  const server = await startServer(
    t,
    (peer, streamId) => void peer.headers(streamId, [...HEAD, ...OK], true),
  );
  const { inboundPort } = await plane(t, server.address);
  const peer = (await H2Peer.connect(t, inboundPort)).behave();
  const entry = headerBlock([['x', 'y'.repeat(3_000)]]);
  // Literal with incremental indexing (RFC 7541 §6.2.1), and then the entry by its index.
  entry[0] = 0x40;
  const head = headerBlock(grpcRequest('/a.B/C'));
  const call = async (id: number, ...more: Buffer[]) => {
    void peer.send(frame(frameType.headers, flag.endHeaders, id, Buffer.concat([head, ...more])));
    void peer.data(id, MESSAGE, true);
    await peer.until('it was answered', () => peer.ended.has(id) || peer.closed);
    return peer.field(id, 'grpc-status');
  };
  t.equal(await call(1, entry), '0');
  let id = 1;
  for (let nth = 0; nth < 500; nth++) {
    id += 2;
    if ((await call(id, Buffer.from([0xbe]))) !== '0')
      t.fail('a field that repeats in each call costs nothing');
  }
  let refused = '';
  for (let nth = 0; nth < 500 && refused === ''; nth++) {
    id += 2;
    if ((await call(id, Buffer.alloc(20, 0xbe))) === '8') refused = peer.field(id, 'grpc-message') ?? '';
  }
  t.match(refused, /have 6\d{4} bytes; made by references to the same few fields/);
  t.equal(await call(id + 2, Buffer.from([0xbe])), '0', 'and other calls go on');
});

t.test('the limits apply to requests and responses that are not gRPC', async (t) => {
  const server = await startServer(t, (peer, streamId, path) => {
    if (path === '/head') {
      void peer.headers(streamId, [[':status', '200'], ...large(100_000)]);
      void peer.data(streamId, Buffer.from('hello'), true);
    } else {
      void peer.headers(streamId, [[':status', '200']]);
      void peer.data(streamId, Buffer.from('hello'));
      void peer.headers(streamId, large(100_000), true);
    }
  });
  const { inboundPort, outboundPort } = await plane(t, server.address);
  for (const port of [inboundPort, outboundPort]) {
    const caller = await Caller.connect(t, port);
    const request = (path: string): Fields => [
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', path],
      [':authority', 'a'],
    ];
    const head = await caller.call(request('/head'));
    t.equal(head.last.get(':status'), '502');
    t.equal(head.last.get('outrigger-reason'), 'headers_too_large');
    const { peer } = caller;
    const before = peer.dataBytes;
    const trailers = await caller.call(request('/trailers'));
    t.equal(trailers.heads[0]?.[0]?.[1], '200');
    t.equal(peer.dataBytes - before, 5, 'the body is whole, and its trailers are left out');
    t.strictSame(trailers.heads.slice(1), [[]]);

    // The request's own trailers.
    void peer.headers(5, grpcRequest('/trailers'));
    void peer.data(5, MESSAGE);
    void peer.headers(5, large(100_000), true);
    const own = await caller.end(5);
    t.equal(own.last.get('grpc-status'), '8');
    t.match(own.last.get('grpc-message'), /the request's trailers have 1\d{5} bytes/);
    t.notOk(peer.closed);
  }
});

t.test('an unfinished header block is not stored, and ends its connection', async (t) => {
  const server = await startServer(t, (peer, streamId) => {
    const [first] = [headerBlock([...HEAD, ['x', 'y'.repeat(16_000)]])];
    void peer.send(frame(frameType.headers, 0, streamId, first));
    const more = frame(frameType.continuation, 0, streamId, headerBlock([['x', 'y'.repeat(16_000)]]));
    for (let sent = 0; sent < 100; sent++) void peer.send(more);
  });
  const { outboundPort } = await startDataPlane(t, oneCluster([server.address]));
  const caller = await Caller.connect(t, outboundPort);
  const { last } = await caller.call(grpcRequest('/a.B/C'));
  t.equal(last.get('grpc-status'), '14');
  t.match(last.get('grpc-message'), /a header block is too large/);
  await server.peers[0]!.until('GOAWAY came', () => server.peers[0]!.goaway !== undefined);
  t.equal(server.peers[0]!.goaway!.code, errorCode.enhanceYourCalm);
});

t.test("a caller that can't take an answer does not affect followers of its task", async (t) => {
  let answerAll: () => void = () => {};
  const server = await startServer(t, (peer, streamId) => {
    answerAll = () => {
      void peer.headers(streamId, [...HEAD, ...large(3_000, 'x-head')]);
      void peer.data(streamId, MESSAGE);
      void peer.headers(streamId, [...OK, ...large(3_000, 'x-trailer')], true);
    };
  });
  const { inboundPort, sidecar } = await startDataPlane(t, { inbound: { app: server.address } });
  const small = await Caller.connect(t, inboundPort, [[MAX_HEADER_LIST_SIZE, 1_000]]);
  const roomy = await Caller.connect(t, inboundPort);
  const path = '/agent.AgentService/ProcessTask';
  const body = grpcMessage(taskRequest({ id: 'task-1', input: 'x' }));
  const first = small.begin(grpcRequest(path), body);
  await waitUntil('the task runs', () => sidecar.inbound.context.inboundCalls.size === 1);
  const second = roomy.begin(grpcRequest(path), body);
  await waitUntil('another has joined', () => sidecar.inbound.stats.activeCalls === 2);
  answerAll();
  const told = await small.end(first);
  t.equal(told.last.get('grpc-status'), '8');
  t.match(told.last.get('grpc-message'), /at most 1000 are taken by the caller/);
  const joined = await roomy.end(second);
  t.equal(joined.last.get('grpc-status'), '0');
  t.equal(joined.last.get('x-trailer-0')?.length, 3_000);
  const replayed = await small.call(grpcRequest(path), body);
  t.equal(replayed.last.get('grpc-status'), '8', 'nor does a later one get what it can not take');
});

t.test('an agent in Python may send large trailers', { skip: skipWithout('python') }, async (t) => {
  const script = join(import.meta.dirname, 'support', 'python', 'large_trailers_server.py');
  const agent = startProcess(t, requireTool('python'), [script]);
  const port = await waitUntil('it said its port', () => /^(\d+)$/m.exec(agent.logs())?.[1]);
  const { inboundPort, outboundPort } = await plane(t, `127.0.0.1:${port}`);
  for (const port of [inboundPort, outboundPort]) {
    const client = new RawClient(t, port);
    const beside = client.unary(Buffer.from('x'), { path: '/large.Trailers/sleep' });
    for (const bytes of [60_000, 200_000]) {
      const { code, details } = await client.unary(Buffer.from('x'), { path: `/large.Trailers/${bytes}` });
      t.equal(code, 5);
      t.equal(details, 'no such thing');
    }
    t.equal((await beside).code, 0);
  }
});
