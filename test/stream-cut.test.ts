// An answer that is cut never looks whole, and one that is whole arrives as it was sent.
import { createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcRequest,
  H2Peer,
  headerBlock,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { resetSocket } from '../scripts/harness/net.ts';
import { RawClient, rawPaths, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { grpcFrame, startUpstream } from './support/upstream.ts';

type Fields = [string, string][];
const grpcHead: Fields = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
const message = grpcFrame('message');

interface Ending {
  name: string;
  /** What the upstream does to the stream of a call. */
  act(peer: H2Peer, id: number): void;
  expected: { code: status; reason: string };
}

const lost = { code: status.UNAVAILABLE, reason: 'stream_cut' };
const noStatus = { code: status.INTERNAL, reason: 'upstream_protocol' };

const endings: Ending[] = [
  {
    name: 'END_STREAM on DATA, without trailers',
    act: (peer, id) => {
      peer.headers(id, grpcHead);
      peer.data(id, message, true);
    },
    expected: noStatus,
  },
  {
    name: 'END_STREAM on an empty DATA frame',
    act: (peer, id) => {
      peer.headers(id, grpcHead);
      peer.data(id, message);
      peer.data(id, Buffer.alloc(0), true);
    },
    expected: noStatus,
  },
  {
    name: 'a head that ends the stream',
    act: (peer, id) => peer.headers(id, grpcHead, true),
    expected: noStatus,
  },
  {
    name: 'trailers without grpc-status',
    act: (peer, id) => {
      peer.headers(id, grpcHead);
      peer.data(id, message);
      peer.headers(id, [['x-other', '1']], true);
    },
    expected: noStatus,
  },
  {
    name: 'END_STREAM within a message',
    act: (peer, id) => {
      peer.headers(id, grpcHead);
      peer.data(id, message.subarray(0, 8), true);
    },
    expected: noStatus,
  },
  {
    name: 'a connection that is closed in order, behind a message',
    act: (peer, id) => {
      peer.headers(id, grpcHead);
      peer.data(id, message).then(() => peer.socket.end());
    },
    expected: lost,
  },
  {
    name: 'a connection that is torn down before the head',
    act: (peer) => resetSocket(peer.socket),
    expected: lost,
  },
  {
    name: 'a connection error',
    act: (peer, id) => {
      peer.headers(id, grpcHead);
      peer.send(frame(frameType.data, 0, 0, message));
    },
    expected: lost,
  },
  {
    name: 'RST_STREAM NO_ERROR behind a message',
    act: (peer, id) => {
      peer.headers(id, grpcHead);
      peer.data(id, message);
      peer.reset(id, errorCode.noError);
    },
    expected: { code: status.INTERNAL, reason: 'upstream_reset' },
  },
  {
    name: 'RST_STREAM NO_ERROR and nothing else',
    act: (peer, id) => peer.reset(id, errorCode.noError),
    expected: { code: status.INTERNAL, reason: 'upstream_reset' },
  },
  {
    name: 'a head that is no HTTP',
    act: (peer, id) => peer.headers(id, [['content-type', 'application/grpc']]),
    expected: { code: status.INTERNAL, reason: 'upstream_protocol' },
  },
];

async function startActing(t: Test): Promise<string> {
  const server = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      if (received.type !== frameType.headers) return;
      const name = peer.field(received.streamId, 'x-ending');
      endings.find((ending) => ending.name === name)?.act(peer, received.streamId);
    };
    peer.send(settings());
  });
  return server.address;
}

for (const hops of ['outbound', 'inbound'] as const) {
  t.test(`a caller learns of every cut of an answer: ${hops}`, async (t) => {
    const address = await startActing(t);
    const content = hops === 'outbound' ? oneCluster([address]) : { inbound: { app: address } };
    const plane = await startDataPlane(t, content);
    const client = new RawClient(t, hops === 'outbound' ? plane.outboundPort : plane.inboundPort);
    for (const { name, expected } of endings) {
      const metadata = new Metadata();
      metadata.set('x-ending', name);
      for (const kind of ['unary', 'serverStream'] as const) {
        const outcome =
          kind === 'unary'
            ? await client.unary(Buffer.from('x'), { metadata })
            : await outcomeOf(client, metadata);
        t.equal(outcome.code, expected.code, `${name}, ${kind}`);
        t.strictSame(outcome.trailers.get('outrigger-reason'), [expected.reason], name);
        t.match(outcome.details, address, 'says whose answer it was');
      }
    }
    t.equal(plane.sidecar[hops].stats.activeCalls, 0);
  });
}

function outcomeOf(
  client: RawClient,
  metadata: Metadata,
): Promise<{ code: status; details: string; trailers: Metadata }> {
  return new Promise((resolve) => {
    const call = client.serverStream(Buffer.from('x'), { metadata });
    call.on('error', () => {});
    call.on('data', () => {});
    call.on('status', ({ code, details, metadata: trailers }) => resolve({ code, details, trailers }));
  });
}

interface Page {
  readonly code: number;
  readonly type: string | undefined;
  readonly expected: status;
}

t.test('an HTTP answer of a web server becomes a status', async (t) => {
  const pages: Page[] = [
    { code: 503, type: 'text/html', expected: status.UNAVAILABLE },
    { code: 404, type: 'text/html; charset=utf-8', expected: status.UNIMPLEMENTED },
    { code: 502, type: undefined, expected: status.UNAVAILABLE },
    { code: 401, type: 'application/json', expected: status.UNAUTHENTICATED },
    { code: 403, type: 'text/plain', expected: status.PERMISSION_DENIED },
    { code: 429, type: 'text/plain', expected: status.UNAVAILABLE },
    { code: 400, type: 'text/plain', expected: status.INTERNAL },
    { code: 408, type: 'text/plain', expected: status.UNKNOWN },
    { code: 431, type: undefined, expected: status.UNKNOWN },
    { code: 504, type: 'text/html', expected: status.UNAVAILABLE },
    { code: 500, type: 'text/plain', expected: status.UNKNOWN },
    { code: 302, type: 'text/html', expected: status.UNKNOWN },
    { code: 200, type: 'text/html', expected: status.UNKNOWN },
    { code: 200, type: 'application/json', expected: status.UNKNOWN },
    { code: 200, type: 'application/grpc-web+proto', expected: status.UNKNOWN },
  ];
  const server = createServer();
  const streams: ServerHttp2Stream[] = [];
  server.on('stream', (stream, headers) => {
    streams.push(stream.on('error', () => {}));
    const { code, type } = pages[Number(headers['x-page'])]!;
    const head = type === undefined ? {} : { 'content-type': type };
    const body = '<!DOCTYPE html><p>an answer of another kind</p>'.repeat(200);
    stream.respond({ ':status': code, ...head }, { endStream: headers['x-body'] === 'no' });
    if (headers['x-body'] !== 'no') stream.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const plane = await startDataPlane(t, oneCluster([address]));
  const client = new RawClient(t, plane.outboundPort);
  for (const [index, { code, type, expected }] of pages.entries()) {
    for (const body of ['yes', 'no']) {
      const metadata = new Metadata();
      metadata.set('x-page', `${index}`);
      metadata.set('x-body', body);
      const outcome = await client.unary(Buffer.from('x'), { metadata });
      t.equal(outcome.code, expected, `${code} ${type}, with a body: ${body}`);
      t.strictSame(outcome.trailers.get('outrigger-reason'), ['upstream_protocol']);
      t.match(outcome.details, `HTTP ${code}`);
      if (code === 200) t.match(outcome.details, type!, 'says what it was instead of gRPC');
    }
  }
  await waitUntil('every stream has ended', () => streams.every(({ closed }) => closed));
  client.client.close();
  await closeClusters(plane);
});

async function closeClusters(plane: DataPlane): Promise<void> {
  await plane.apply({});
  await waitUntil('no connection is left', () => plane.sidecar.outbound.clusters.clusters.size === 0);
}

t.test('a request that is not gRPC is relayed by HTTP rules', async (t) => {
  const server = createServer((request, response) => {
    request.resume();
    if (request.url === '/cut') {
      response.write('half');
      setTimeout(() => response.stream.close(errorCode.cancel), 20);
      return;
    }
    response.writeHead(request.url === '/missing' ? 404 : 200, { 'content-type': 'text/html' });
    response.end('<p>page</p>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const plane = await startDataPlane(t, oneCluster([`127.0.0.1:${(server.address() as AddressInfo).port}`]));
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  const get = (path: string): Fields => [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'upstream'],
  ];
  for (const [index, path] of ['/', '/missing', '/cut'].entries())
    await peer.headers(index * 2 + 1, get(path), true);
  await peer.until('all ended', () => peer.ended.has(1) && peer.ended.has(3) && peer.resets.has(5));
  t.equal(peer.field(1, ':status'), '200');
  t.equal(peer.field(3, ':status'), '404');
  t.notOk(peer.ended.has(5), 'a page that is cut does not end cleanly');
  peer.socket.destroy();
  await closeClusters(plane);
});

t.test('trailers and Trailers-Only arrive unchanged', async (t) => {
  // Pairs in their order, duplicates, binary values with and without padding, a message in every kind of character.
  const special = '%09 line one%0Aline two %E2%98%BA and 100%25';
  const trailers: Fields = [
    ['grpc-status', '9'],
    ['x-many', 'one'],
    ['grpc-message', special],
    ['x-many', 'two'],
    ['x-bin', 'AAEC/w'],
    ['x-bin', '/wIBAA=='],
    ['x-empty', ''],
    ['x-latin', Buffer.from('grün').toString('latin1')],
    ['x-many', 'one'],
  ];
  const interim: Fields = [[':status', '103']];
  const head: Fields = [...grpcHead, ['x-many', 'h1'], ['x-head-bin', 'AP8'], ['x-many', 'h2']];
  const server = await startPeerServer(t, (peer) => {
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      if (received.type !== frameType.headers) return;
      const id = received.streamId;
      if (peer.field(id, ':path') === '/trailers/only') {
        peer.headers(id, [...grpcHead, ...trailers], true);
        return;
      }
      // gRPC has no use for it, and its clients pass over it.
      peer.send(frame(frameType.headers, flag.endHeaders, id, headerBlock(interim)));
      peer.headers(id, head);
      peer.data(id, message);
      // What grpc-js warns of.
      const plain = peer.field(id, ':path') === '/trailers/plain';
      peer.headers(id, plain ? trailers.filter(([name]) => name !== 'x-latin') : trailers, true);
    };
    peer.send(settings());
  });
  const last = await startDataPlane(t, { inbound: { app: server.address } });
  const first = await startDataPlane(t, oneCluster([`127.0.0.1:${last.inboundPort}`]));
  const peer = (await H2Peer.connect(t, first.outboundPort)).behave();
  // Twice each: the second time every table and cache knows the fields already.
  for (const [index, path] of [
    '/trailers/only',
    '/trailers/behind',
    '/trailers/only',
    '/trailers/behind',
  ].entries()) {
    const id = index * 2 + 1;
    await peer.headers(id, grpcRequest(path), true);
    await peer.until('it ended', () => peer.ended.has(id));
    const heads = peer.heads.get(id)!;
    if (path === '/trailers/only') t.strictSame(heads, [[...grpcHead, ...trailers]], 'in one head');
    else t.strictSame(heads, [interim, head, trailers], 'in a head and trailers, behind an interim response');
  }

  const client = new RawClient(t, first.outboundPort);
  const outcome = await client.unary(Buffer.alloc(0), { path: '/trailers/plain' });
  t.equal(outcome.code, status.FAILED_PRECONDITION);
  t.equal(outcome.details, '\t line one\nline two ☺ and 100%');
  t.strictSame(outcome.trailers.get('x-bin'), [Buffer.from([0, 1, 2, 255]), Buffer.from([255, 2, 1, 0])]);
});

t.test('metadata of the caller arrives unchanged', async (t) => {
  const app = await startUpstream(t);
  const last = await startDataPlane(t, { inbound: { app: app.address } });
  const first = await startDataPlane(t, oneCluster([`127.0.0.1:${last.inboundPort}`]));
  const peer = (await H2Peer.connect(t, first.outboundPort)).behave();
  const sent: Fields = [
    ['x-many', 'one'],
    ['authorization', 'Bearer secret'],
    ['x-bin', 'AAEC/w=='],
    ['x-many', 'two'],
    ['user-agent', 'a caller'],
    ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
  ];
  await peer.headers(1, grpcRequest('/metadata', ...sent));
  await peer.data(1, message, true);
  await peer.until('it was answered', () => peer.ended.has(1));
  const { headers } = app.calls.find((call) => call.headers[':path'] === '/metadata')!;
  t.match(headers, {
    'x-many': 'one, two',
    authorization: 'Bearer secret',
    'x-bin': 'AAEC/w==',
    'user-agent': 'a caller',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    ':authority': 'upstream',
    te: 'trailers',
  });
});

t.test('a cut stream delivers the messages before the cut', async (t) => {
  const upstream = await startRawServer(t, {
    serverStream: (call) => {
      call.write(Buffer.from('one'));
      call.write(Buffer.from('two'));
      setImmediate(() => upstream.server.forceShutdown());
    },
  });
  const plane = await startDataPlane(t, oneCluster([upstream.address]));
  const client = new RawClient(t, plane.outboundPort);
  const read: string[] = [];
  const call = client.serverStream(Buffer.alloc(0), { path: rawPaths.serverStream });
  call.on('data', (bytes: Buffer) => read.push(bytes.toString()));
  call.on('error', () => {});
  const code = await new Promise((resolve) => call.on('status', (end) => resolve(end.code)));
  t.not(code, status.OK);
  t.strictSame(read, ['one', 'two']);
});
