// Header lists that real servers and callers send, and that HTTP/2's letter forbids or gRPC has no use for. What
// gRPC's own clients and servers bear passes as it came, on both listeners; what they refuse is refused.
import {
  connect,
  createServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type DataPlane, policiesOff, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  flag,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

t.setTimeout(180_000);

type Fields = readonly (readonly [name: string, value: string])[];

interface Answer {
  /** Sent before the head. */
  readonly interim?: readonly Fields[];
  readonly head: Fields;
  /** Without them the head is a Trailers-Only response. */
  readonly trailers?: Fields;
  readonly body?: Buffer;
}

const HEAD: Fields = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
const OK: Fields = [['grpc-status', '0']];
const MESSAGE = grpcMessage(Buffer.from('hi'));

interface Strange {
  readonly address: string;
  /** The heads and trailers of the calls that came, by their path. */
  readonly seen: Map<string, [string, string][][]>;
}

/** A server that answers each path with what is given for it, once the request is complete. */
async function startStrange(t: Test, answers: ReadonlyMap<string, Answer>): Promise<Strange> {
  const seen = new Map<string, [string, string][][]>();
  const { address } = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      const { type, flags, streamId } = received;
      if (type !== frameType.headers && type !== frameType.data) return;
      if ((flags & flag.endStream) === 0) return;
      const heads = peer.heads.get(streamId)!;
      const path = heads[0]!.find(([name]) => name === ':path')![1];
      seen.set(path, heads);
      const answer = answers.get(path);
      if (answer === undefined) {
        // Whoever asks for its health.
        void peer.headers(streamId, [...HEAD, ['grpc-status', '12']], true);
        return;
      }
      for (const fields of answer.interim ?? []) void peer.headers(streamId, fields);
      void peer.headers(streamId, answer.head, answer.trailers === undefined);
      if (answer.trailers === undefined) return;
      void peer.data(streamId, answer.body ?? MESSAGE);
      void peer.headers(streamId, answer.trailers, true);
    };
    void peer.send(settings());
  });
  return { address, seen };
}

/** Both listeners in front of the server. */
const startPlane = (t: Test, { address }: Strange, cluster: Record<string, unknown> = policiesOff) =>
  startDataPlane(t, {
    inbound: { app: address },
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: { upstream: { endpoints: [address], ...cluster } },
    },
  });

const portsOf = ({ inboundPort, outboundPort }: DataPlane) =>
  [
    ['inbound', inboundPort],
    ['outbound', outboundPort],
  ] as const;

/** What a caller gets; `undefined` for a stream that was reset. */
async function callAll(
  port: number,
  t: Test,
  requests: Iterable<readonly [path: string, fields: Fields]>,
): Promise<Map<string, { heads: [string, string][][]; reset: number | undefined }>> {
  const peer = (await H2Peer.connect(t, port)).behave();
  const outcomes = new Map<string, { heads: [string, string][][]; reset: number | undefined }>();
  let id = -1;
  for (const [path, fields] of requests) {
    id += 2;
    await peer.headers(id, fields);
    await peer.data(id, MESSAGE, true);
    await peer.until(`${path} ended`, () => peer.ended.has(id) || peer.resets.has(id) || peer.closed);
    outcomes.set(path, { heads: peer.heads.get(id) ?? [], reset: peer.resets.get(id) });
  }
  t.notOk(peer.closed, 'all of it on one connection');
  return outcomes;
}

const withoutReply = (fields: Fields): Fields => fields.filter(([name]) => !name.startsWith('outrigger-'));

/** Passes as it came, or without the fields named in `without`. */
const passing: Record<string, Answer & { without?: string }> = {
  'a message with a space at its end': {
    head: [...HEAD, ['grpc-status', '5'], ['grpc-message', 'no such document: ']],
  },
  'a message with a space in front': { head: [...HEAD, ['grpc-status', '5'], ['grpc-message', ' gone']] },
  'white space around initial metadata': { head: [...HEAD, ['x-a', ' b\t']], trailers: OK },
  'white space around trailing metadata': { head: HEAD, trailers: [...OK, ['x-a', '\tb '], ['x-b', ' ']] },
  'a status with a space': { head: [...HEAD, ['grpc-status', '5 '], ['grpc-message', 'm']] },
  'a content-type with a space': {
    head: [
      [':status', '200'],
      ['content-type', 'application/grpc '],
    ],
    trailers: OK,
  },
  'bytes above ASCII': {
    head: [...HEAD, ['x-a', 'caf\xc3\xa9']],
    trailers: [...OK, ['grpc-message', '\xff']],
  },
  'control characters': { head: HEAD, trailers: [...OK, ['x-a', 'b\x01c\x7f\x1b[0m']] },
  'te in a response': { head: [...HEAD, ['te', 'gzip']], trailers: OK },
  'a content-length that is too small': { head: [...HEAD, ['content-length', '3']], trailers: OK },
  'a content-length that is too large': { head: [...HEAD, ['content-length', '300']], trailers: OK },
  'a content-length without DATA': { head: [...HEAD, ['grpc-status', '5'], ['content-length', '9']] },
  'a content-length that is no number': {
    head: [...HEAD, ['content-length', 'abc']],
    trailers: OK,
    without: 'content-length',
  },
  'two content-lengths': {
    head: [...HEAD, ['content-length', '7'], ['content-length', '8']],
    trailers: OK,
    without: 'content-length',
  },
  connection: { head: [...HEAD, ['connection', 'keep-alive']], trailers: OK, without: 'connection' },
  'connection in trailers': { head: HEAD, trailers: [...OK, ['connection', 'close']], without: 'connection' },
  'keep-alive': { head: [...HEAD, ['keep-alive', 'timeout=5']], trailers: OK, without: 'keep-alive' },
  'transfer-encoding': {
    head: [...HEAD, ['transfer-encoding', 'chunked']],
    trailers: OK,
    without: 'transfer-encoding',
  },
  'a pseudo-header field in trailers': {
    head: HEAD,
    trailers: [[':status', '200'], ...OK],
    without: ':status',
  },
};

/** No client of gRPC takes these: RFC 9113 §8.2.1 and §8.3. */
const refused: Record<string, Answer> = {
  'a line feed in metadata': { head: HEAD, trailers: [...OK, ['x-a', 'b\nc']] },
  'a carriage return in metadata': { head: [...HEAD, ['x-a', 'b\rc']], trailers: OK },
  'a NUL in metadata': { head: HEAD, trailers: [...OK, ['x-a', '\0']] },
  'a line feed in the message': { head: [...HEAD, ['grpc-status', '5'], ['grpc-message', 'a\nb']] },
  'a name in upper case': { head: HEAD, trailers: [...OK, ['X-A', 'b']] },
  'a name with a space': { head: HEAD, trailers: [...OK, ['x a', 'b']] },
  'no name': { head: HEAD, trailers: [...OK, ['', 'b']] },
  'no status': { head: HEAD.slice(1), trailers: OK },
  'a pseudo-header field that nobody knows': {
    head: [
      [':status', '200'],
      [':a', 'b'],
    ],
    trailers: OK,
  },
};

const pathOf = (name: string): string => `/strange.Service/${name.replace(/\W+/g, '-')}`;

t.test('valid gRPC responses of various servers pass', async (t) => {
  const cases = { ...passing, ...refused };
  const answers = new Map(Object.entries(cases).map(([name, answer]) => [pathOf(name), answer]));
  const plane = await startPlane(t, await startStrange(t, answers));
  for (const [listener, port] of portsOf(plane)) {
    const requests = [...answers.keys()].map((path) => [path, grpcRequest(path)] as const);
    const outcomes = await callAll(port, t, requests);
    for (const [name, { head, trailers, without }] of Object.entries(passing)) {
      const sent = [head, ...(trailers === undefined ? [] : [trailers])];
      const expected = sent.map((fields) => fields.filter(([field]) => field !== without || field === ''));
      if (name === 'a pseudo-header field in trailers') expected[0] = [...head];
      t.strictSame(outcomes.get(pathOf(name))!.heads, expected, `${listener}: ${name}`);
    }
    for (const name of Object.keys(refused)) {
      const last = outcomes.get(pathOf(name))!.heads.at(-1)!;
      t.match(new Map(last).get('grpc-status'), '13', `${listener}: ${name}`);
      t.match(new Map(last).get('outrigger-reason'), 'upstream_protocol');
      t.match(
        withoutReply(last).find(([field]) => field === 'x-a'),
        undefined,
        'nothing of it is passed on',
      );
    }
  }
});

t.test("white space in a caller's headers passes, and headers that HTTP/2 forbids are reset", async (t) => {
  const path = '/strange.Service/Call';
  const strange = await startStrange(t, new Map([[path, { head: HEAD, trailers: OK }]]));
  const plane = await startPlane(t, strange);
  for (const [listener, port] of portsOf(plane)) {
    const white: Fields = [
      ['x-user', 'ann '],
      ['x-tab', 'a\tb'],
      ['x-name', 'caf\xc3\xa9\xff'],
      ['x-team', '\ta b'],
      ['x-empty', ' '],
    ];
    const peer = (await H2Peer.connect(t, port)).behave();
    const request = grpcRequest(path, ...white, ['grpc-timeout', ' 5S']).map(
      ([name, value]): [string, string] => (name === 'te' ? [name, 'trailers '] : [name, value]),
    );
    await peer.headers(1, request);
    await peer.data(1, MESSAGE);
    await peer.headers(1, [['x-checksum', ' 7 ']], true);
    await peer.until('the call ended', () => peer.ended.has(1) || peer.resets.has(1));
    t.equal(peer.field(1, 'grpc-status'), '0', `${listener}: ${JSON.stringify(peer.heads.get(1))}`);
    const [head, trailers] = strange.seen.get(path)!;
    for (const [name, value] of white) t.equal(new Map(head).get(name), value, `${listener}: ${name}`);
    t.match(new Map(head).get('grpc-timeout'), /^ ?[45]/, 'the caller has its deadline');
    t.strictSame(trailers, [['x-checksum', ' 7 ']]);

    let id = 1;
    for (const bad of [
      ['x-a', 'b\nc'],
      ['x-a', 'b\0'],
      ['x-a', 'b\x01c'],
      ['x-a', '\x1b[0m'],
      ['x-a', 'b\x7f'],
      ['X-A', 'b'],
      ['', 'b'],
      ['connection', 'close'],
      ['te', 'gzip'],
    ] as const) {
      id += 2;
      const stream = id;
      await peer.headers(stream, grpcRequest(path, bad), true);
      await peer.until('it was reset', () => peer.resets.has(stream));
      t.equal(peer.resets.get(stream), errorCode.protocolError, `${listener}: ${JSON.stringify(bad)}`);
    }
  }
});

t.test('responses without content may have a content-length', async (t) => {
  const length: Fields = [['content-length', '5']];
  const empty = Buffer.alloc(0);
  const cases: [method: string, status: string, more: Fields, body: Buffer][] = [
    ['HEAD', '200', length, empty],
    ['GET', '304', length, empty],
    ['GET', '204', length, empty],
    ['GET', '200', [['content-length', ' 5 ']], Buffer.from('hello')],
    ['GET', '200', [['connection', 'close']], Buffer.from('hello')],
  ];
  const strange = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      if (received.type !== frameType.headers) return;
      const { streamId } = received;
      const path = peer.field(streamId, ':path')!;
      const [, status, more, body] = cases[Number(path.slice(1))] ?? ['', '404', [], empty];
      void peer.headers(streamId, [[':status', status], ...more]);
      void peer.data(streamId, body, true);
    };
    void peer.send(settings());
  });
  const plane = await startPlane(t, { address: strange.address, seen: new Map() });
  for (const [listener, port] of portsOf(plane)) {
    const peer = (await H2Peer.connect(t, port)).behave();
    for (const [index, [method, status, more]] of cases.entries()) {
      const id = 2 * index + 1;
      await peer.headers(
        id,
        [
          [':method', method],
          [':scheme', 'http'],
          [':path', `/${index}`],
          [':authority', 'a'],
        ],
        true,
      );
      await peer.until('it ended', () => peer.ended.has(id) || peer.resets.has(id));
      const passed = more.filter(([name]) => name !== 'connection');
      t.strictSame(
        peer.heads.get(id),
        [[[':status', status], ...passed]],
        `${listener}: ${method} ${status}`,
      );
      t.notOk(peer.resets.has(id) && peer.resets.get(id) !== errorCode.noError, 'and its end is clean');
    }
  }
});

const EARLY: Fields = [
  [':status', '103'],
  ['link', '</style.css>; rel=preload'],
];

t.test('interim responses pass, and are not answers', async (t) => {
  const path = '/strange.Service/Interim';
  const interim: Fields[] = [[[':status', '100']], EARLY, EARLY, [[':status', '102']]];
  const strange = await startStrange(t, new Map([[path, { interim, head: HEAD, trailers: OK }]]));
  const plane = await startPlane(t, strange);
  for (const [listener, port] of portsOf(plane)) {
    const web: Fields = [
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', path],
      [':authority', 'a'],
    ];
    for (const request of [grpcRequest(path), web]) {
      const [outcome] = [...(await callAll(port, t, [[path, request]])).values()];
      t.strictSame(outcome?.heads, [...interim, HEAD, OK], `${listener}: ${request.length} fields`);
    }
  }
});

t.test('another attempt may follow an interim response', async (t) => {
  const path = '/strange.Service/Interim';
  const refuses = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      if (received.type !== frameType.headers) return;
      void peer.headers(received.streamId, EARLY);
      void peer.reset(received.streamId, errorCode.refusedStream);
    };
    void peer.send(settings());
  });
  const answers = await startStrange(t, new Map([[path, { interim: [EARLY], head: HEAD, trailers: OK }]]));
  const plane = await startDataPlane(t, {
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: {
        upstream: { endpoints: [refuses.address, answers.address], balancer: 'round_robin', ...policiesOff },
      },
    },
  });
  // Round robin begins anywhere: of two calls one meets the refusal first.
  const heads: unknown[] = [];
  for (let n = 0; n < 2; n++)
    heads.push((await callAll(plane.outboundPort, t, [[path, grpcRequest(path)]])).get(path)?.heads);
  t.strictSame(
    heads.sort((a, b) => (a as Fields[]).length - (b as Fields[]).length),
    [
      [EARLY, HEAD, OK],
      [EARLY, EARLY, HEAD, OK],
    ],
  );
});

t.test('interim responses without an end cost only their own call', async (t) => {
  let flooded = 0;
  const server = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      const { type, flags, streamId } = received;
      if ((type !== frameType.headers && type !== frameType.data) || (flags & flag.endStream) === 0) return;
      const path = new Map(peer.heads.get(streamId)![0]).get(':path')!;
      if (path === '/many' || path === '/large') {
        flooded++;
        const early: Fields = path === '/many' ? [[':status', '103']] : [...EARLY, ['x', 'y'.repeat(70_000)]];
        for (let sent = 0; sent < (path === '/many' ? 1_600 : 1); sent++) void peer.headers(streamId, early);
        return;
      }
      if (path !== '/waits') {
        void peer.headers(streamId, HEAD);
        void peer.data(streamId, MESSAGE);
        void peer.headers(streamId, OK, true);
      }
    };
    void peer.send(settings());
  });
  const plane = await startPlane(t, { address: server.address, seen: new Map() });
  for (const [listener, port] of portsOf(plane)) {
    const peer = (await H2Peer.connect(t, port)).behave();
    await peer.headers(1, grpcRequest('/waits'));
    await peer.data(1, MESSAGE, true);
    let id = 1;
    for (const path of ['/many', '/large', '/fine']) {
      id += 2;
      const call = id;
      await peer.headers(call, grpcRequest(path));
      await peer.data(call, MESSAGE, true);
      await peer.until(`${path} ended`, () => peer.ended.has(call) || peer.closed);
      t.equal(peer.field(call, 'grpc-status'), path === '/fine' ? '0' : '13', `${listener}: ${path}`);
    }
    t.notOk(peer.resets.has(1) || peer.ended.has(1), `${listener}: a call beside them still waits`);
  }
  t.equal(flooded, 4);
  t.ok(server.peers.length <= 2, 'all on one connection each');
});

t.test('a request that waits for 100 is sent when the app sends it', async (t) => {
  const app = createServer((_request, response) => void response.writeHead(404).end());
  app.on('checkContinue', (request: Http2ServerRequest, response: Http2ServerResponse) => {
    response.writeContinue();
    request.on('end', () => response.end('thanks')).resume();
  });
  await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve));
  const sessions = new Set<ServerHttp2Session>();
  app.on('session', (session) => sessions.add(session));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    app.close();
  });
  const address = `127.0.0.1:${(app.address() as AddressInfo).port}`;
  const plane = await startPlane(t, { address, seen: new Map() });
  for (const [listener, port] of portsOf(plane)) {
    const session = connect(`http://127.0.0.1:${port}`);
    t.teardown(() => session.destroy());
    const stream = session.request({ ':method': 'POST', ':path': '/upload', expect: '100-continue' });
    stream.once('continue', () => stream.end('the body'));
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    await new Promise((resolve) => stream.once('close', resolve));
    t.equal(text, 'thanks', listener);
  }
});

t.test('a health check continues after an interim response of the app', async (t) => {
  const health = '/grpc.health.v1.Health/Check';
  const serving = grpcMessage(Buffer.from([8, 1]));
  const answer: Answer = { interim: [EARLY], head: HEAD, body: serving, trailers: OK };
  const plane = await startPlane(t, await startStrange(t, new Map([[health, answer]])));
  await waitUntil('it serves', () => plane.sidecar.inbound.appHealth.state === 'serving');
  t.pass('serving');
});

t.test('five such answers open no circuit', async (t) => {
  const path = pathOf('a message with a space at its end');
  const strange = await startStrange(t, new Map([[path, passing['a message with a space at its end']!]]));
  // With the policies that are on by default.
  const plane = await startPlane(t, strange, {});
  for (const [listener, port] of portsOf(plane)) {
    const client = new RawClient(t, port);
    for (let call = 0; call < 8; call++) {
      const { code, trailers } = await client.unary(Buffer.from('x'), { path });
      t.equal(code, 5, `${listener}: ${JSON.stringify(trailers.getMap())}`);
    }
  }
});

t.test('a caller in Python gets the message with its spaces', { skip: skipWithout('python') }, async (t) => {
  const path = pathOf('a message with a space at its end');
  const strange = await startStrange(t, new Map([[path, passing['a message with a space at its end']!]]));
  const plane = await startPlane(t, strange);
  const script = join(import.meta.dirname, 'support', 'python', 'bytes_client.py');
  for (const [listener, port] of portsOf(plane)) {
    const { output } = await runProcess(t, requireTool('python'), [
      script,
      `127.0.0.1:${port}`,
      path,
      'x-user=ann',
    ]);
    t.match(JSON.parse(output), { code: 'NOT_FOUND', details: 'no such document: ' }, listener);
  }
});

const skip = skipWithout('python');
t.test("requests that break gRPC's rules open no circuit", { skip }, async (t) => {
  const script = join(import.meta.dirname, 'support', 'python', 'strict_server.py');
  const server = startProcess(t, requireTool('python'), [script]);
  await waitUntil('the server has printed its port', () => /^\d+\n/m.test(server.logs()));
  const address = `127.0.0.1:${/^(\d+)\n/m.exec(server.logs())![1]}`;
  const inbound = await startDataPlane(t, { inbound: { app: address } });
  const path = '/strict.Server/Wait';
  const orderly = grpcRequest(path);
  const changed = (name: string, value: string | undefined): [string, string][] =>
    orderly.flatMap(([field, before]) => {
      if (field !== name) return [[field, before]];
      return value === undefined ? [] : [[field, value]];
    });
  const broken: Record<string, [string, string][]> = {
    'no te': changed('te', undefined),
    GET: changed(':method', 'GET'),
    'GET that is not gRPC': changed(':method', 'GET').filter(([name]) => name !== 'content-type'),
    'no base64': grpcRequest(path, ['x-id-bin', '!!!!']),
    'an encoding that nobody knows': grpcRequest(path, ['grpc-encoding', 'foo']),
    'a key that is none': grpcRequest(path, ['x$a', '1']),
  };
  for (const upstream of [address, `127.0.0.1:${inbound.inboundPort}`]) {
    const plane = await startDataPlane(t, {
      outbound: {
        routes: [{ match: { path_prefix: '/' }, cluster: 'agents' }],
        clusters: { agents: { endpoints: [upstream], retry: { max_attempts: 1 } } },
      },
    });
    const direct = (await H2Peer.connect(t, Number(address.split(':')[1]))).behave();
    const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
    const client = new RawClient(t, plane.outboundPort);
    let id = -1;
    const send = async (to: H2Peer, stream: number, fields: [string, string][]): Promise<string> => {
      await to.headers(stream, fields);
      await to.data(stream, grpcMessage(Buffer.from('0')), true);
      await to.until('it ended', () => to.ended.has(stream) || to.resets.has(stream));
      return to.field(stream, 'grpc-status') ?? 'none';
    };
    for (const [what, fields] of Object.entries(broken)) {
      // Together, because C-core takes its time to refuse one.
      const ids = Array.from({ length: 6 }, () => (id += 2));
      const without = await send(direct, id, fields);
      for (const withUs of await Promise.all(ids.map((stream) => send(peer, stream, fields)))) {
        // gRPC's clients make INTERNAL of a reset.
        const same = withUs === without || (without === 'none' && ['13', 'none'].includes(withUs));
        t.ok(same, `${what}: the server says ${without}, and we say ${withUs}`);
      }
      const { code, details } = await client.unary(Buffer.from('0'), { path });
      t.equal(code, 0, `${what}: ${details}`);
    }
  }
});
