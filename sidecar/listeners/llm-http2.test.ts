// Requests and responses over HTTP/2 as the egress sees them: fields, bodies that come and go no faster than they are taken,
// ends of either side, and the ends of connections that do nothing.
import { type AddressInfo, createServer } from 'node:net';
import t, { type Test } from 'tap';
import {
  errorCode,
  flag,
  frame,
  frameType,
  H2Peer,
  preface,
  settings,
} from '../../scripts/harness/h2-peer.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { DownstreamRequest, DownstreamResponse } from '../llm/caller/downstream.ts';
import { LlmHttp2 } from './llm-http2.ts';

type Serve = (request: DownstreamRequest, response: DownstreamResponse) => boolean;

/** @returns the port of a listener whose requests go to `serve` */
async function listen(t: Test, serve: Serve, idleMs = 60_000): Promise<number> {
  const http2 = new LlmHttp2(() => performance.now(), idleMs, serve);
  const server = createServer((socket) => {
    t.teardown(() => socket.destroy());
    http2.accept(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

const head = (method: string, ...more: [string, string][]): [string, string][] => [
  [':method', method],
  [':scheme', 'http'],
  [':path', '/v1/x?y=1'],
  [':authority', 'localhost'],
  ...more,
];

t.test('fields come as over HTTP/1.1, and those of HTTP/1.1 alone do not leave', async (t) => {
  let seen: DownstreamRequest | undefined;
  const port = await listen(t, (request, response) => {
    seen = request;
    request.resume();
    response.writeHead(200, {
      'Content-Type': 'a/b',
      connection: 'close',
      'transfer-encoding': 'chunked',
      'set-cookie': ['a=1', 'b=2'],
    });
    response.end('hello');
    return true;
  });
  const peer = (await H2Peer.connect(t, port)).behave();
  const fields: [string, string][] = [
    ['cookie', 'a=1'],
    ['cookie', 'b=2'],
    ['accept', 'a/b '],
    ['accept', 'c/d'],
    ['content-type', 'first'],
    ['content-type', 'second'],
    ['set-cookie', 'x'],
    ['__proto__', 'own'],
  ];
  void peer.headers(1, head('POST', ...fields), true);
  await peer.until('it is answered', () => peer.ended.has(1));
  t.match(seen, { method: 'POST', url: '/v1/x?y=1', httpVersionMajor: 2, complete: true });
  t.match(seen?.headers, {
    ':authority': 'localhost',
    cookie: 'a=1; b=2',
    accept: 'a/b, c/d',
    'content-type': 'first',
    'set-cookie': ['x'],
  });
  t.equal(Object.getOwnPropertyDescriptor(seen?.headers, '__proto__')?.value, 'own');
  const [answer] = peer.heads.get(1)!;
  const date = answer!.find(([name]) => name === 'date');
  t.ok(Number.isFinite(Date.parse(date?.[1] ?? '')), 'it has a date');
  t.strictSame(
    answer!.filter(([name]) => name !== 'date'),
    [
      [':status', '200'],
      ['content-type', 'a/b'],
      ['set-cookie', 'a=1'],
      ['set-cookie', 'b=2'],
    ],
  );
});

t.test('an answer that has no body has none', async (t) => {
  const port = await listen(t, (request, response) => {
    request.resume();
    response.writeHead(request.method === 'HEAD' ? 200 : 204, { 'x-a': 'b' });
    response.write('bytes');
    response.end();
    return true;
  });
  const peer = (await H2Peer.connect(t, port)).behave();
  void peer.headers(1, head('HEAD'), true);
  void peer.headers(3, head('GET'), true);
  await peer.until('both are answered', () => peer.ended.has(1) && peer.ended.has(3));
  await peer.roundTrip();
  t.equal(peer.count(frameType.data), 0);
  t.equal(peer.resets.size, 0);
});

t.test(
  'a body comes no faster than it is read, and an answer goes no faster than its reader reads',
  async (t) => {
    let incoming: DownstreamRequest | undefined;
    let outgoing: DownstreamResponse | undefined;
    const port = await listen(t, (request, response) => {
      incoming = request;
      outgoing = response;
      return true;
    });
    const peer = (await H2Peer.connect(t, port)).behave({ reads: false });
    void peer.headers(1, head('POST'));
    const piece = Buffer.alloc(16_384, 'x');
    // The window that the listener announces is 64 KiB.
    for (let index = 0; index < 4; index++) void peer.data(1, piece);
    await peer.roundTrip();
    const windowsOf = (id: number): number =>
      peer.frames.filter(({ type, streamId }) => type === frameType.windowUpdate && streamId === id).length;
    t.equal(windowsOf(1), 0, 'nobody reads');
    let bytes = 0;
    incoming!.on('data', (part: Buffer) => {
      bytes += part.length;
    });
    await waitUntil('all of it is read', () => bytes === 4 * piece.length);
    await peer.roundTrip();
    t.ok(windowsOf(1) > 0, 'the client may send more');
    void peer.data(1, piece, true);
    await waitUntil('it ends', () => incoming!.readableEnded);
    t.equal(bytes, 5 * piece.length);

    const whole = Buffer.alloc(300_000, 'y');
    let written = false;
    t.equal(
      outgoing!.write(whole, () => {
        written = true;
      }),
      false,
      'it is full',
    );
    outgoing!.end();
    await peer.until('a window is used up', () => peer.dataBytes === 65_535);
    await peer.roundTrip();
    t.equal(peer.dataBytes, 65_535);
    t.equal(written, false);
    t.equal(outgoing!.writableLength, whole.length);
    void peer.windowUpdate(0, 1_000_000);
    for (let left = whole.length - 65_535; left > 0; left -= 10_001) void peer.windowUpdate(1, 10_001);
    await peer.until('all of it is here', () => peer.ended.has(1));
    t.equal(peer.dataBytes, whole.length);
    t.equal(written, true);
  },
);

t.test('either side may break off, and the other one is notified', async (t) => {
  const exchanges: [DownstreamRequest, DownstreamResponse][] = [];
  const port = await listen(t, (...exchange) => {
    exchanges.push(exchange);
    return true;
  });
  const peer = (await H2Peer.connect(t, port)).behave();
  for (const id of [1, 3, 5]) void peer.headers(id, head('POST'));
  await peer.roundTrip();
  const [byClient, byServer, byEnd] = exchanges;
  const isClosed = ([request, response]: [DownstreamRequest, DownstreamResponse]): boolean =>
    request.closed && response.closed && !request.complete;
  void peer.reset(1, errorCode.cancel);
  await waitUntil('the server is notified', () => isClosed(byClient!));
  byServer![1].writeHead(200, {});
  byServer![1].write('some');
  byServer![1].destroy();
  await peer.until('the client is notified', () => peer.resets.has(3));
  t.equal(peer.resets.get(3), 2, 'INTERNAL_ERROR: it can not be completed');
  t.equal(peer.ended.has(3), false);
  await waitUntil('its request is over', () => isClosed(byServer!));
  peer.socket.destroy();
  await waitUntil('the end of the connection is heard, too', () => isClosed(byEnd!));
});

t.test('an answer may leave before the request has ended, and the rest is thrown away', async (t) => {
  const port = await listen(t, (_request, response) => {
    response.writeHead(404, {});
    response.end('no');
    return false;
  });
  const peer = (await H2Peer.connect(t, port)).behave();
  void peer.headers(1, head('POST'));
  await peer.until('it is answered', () => peer.ended.has(1));
  for (let index = 0; index < 40; index++) {
    void peer.data(1, Buffer.alloc(16_000));
    // By then it has a window again.
    await peer.roundTrip();
  }
  void peer.headers(1, [['x-trailer', 'x']], true);
  await peer.roundTrip();
  t.equal(peer.resets.size, 0);
  t.equal(peer.goaway, undefined);
});

t.test('fields that are too large are answered with 431, and the connection goes on', async (t) => {
  const port = await listen(t, (request, response) => {
    request.resume();
    response.end('yes');
    return true;
  });
  const peer = (await H2Peer.connect(t, port)).behave();
  void peer.headers(1, head('POST', ['x-large', 'x'.repeat(70_000)]), true);
  void peer.headers(3, head('POST'), true);
  await peer.until('both are answered', () => peer.ended.has(1) && peer.ended.has(3));
  t.strictSame(
    [1, 3].map((id) => peer.heads.get(id)![0]![0]),
    [
      [':status', '431'],
      [':status', '200'],
    ],
  );
});

t.test('a connection that does nothing is closed, and one that waits for an answer is not', async (t) => {
  const port = await listen(t, (request) => request.url !== '/v1/refused', 300);
  const idle = await H2Peer.connect(t, port);
  const busy = (await H2Peer.connect(t, port)).behave();
  void busy.headers(1, head('POST'), true);
  const silent = await H2Peer.connect(t, port, preface.subarray(0, 10));
  const stubborn = await H2Peer.connect(t, port);
  void stubborn.headers(
    1,
    head('POST').map(([name, value]) => [name, name === ':path' ? '/v1/refused' : value]),
  );
  await idle.until('it is closed', () => idle.closed);
  t.equal(idle.goaway?.code, errorCode.noError);
  await silent.until('it is closed', () => silent.closed);
  t.equal(silent.goaway, undefined, 'it has not said what it speaks');
  await stubborn.until('it is closed', () => stubborn.closed);
  t.equal(stubborn.goaway?.code, errorCode.enhanceYourCalm);
  t.equal(busy.closed, false);
  t.equal(busy.goaway, undefined);
});

t.test('what is no HTTP/2 behind the first bytes of the preface is turned away', async (t) => {
  const port = await listen(t, () => true);
  const peer = await H2Peer.connect(t, port, Buffer.from('PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'));
  await peer.until('it is closed', () => peer.closed);
  t.equal(peer.goaway?.code, errorCode.protocolError);
  const early = await H2Peer.connect(
    t,
    port,
    Buffer.concat([preface, frame(frameType.headers, flag.endHeaders, 1), settings()]),
  );
  await early.until('it is closed', () => early.closed);
  t.equal(early.goaway?.code, errorCode.protocolError);
});
