// WebSockets to a model (`/v1/realtime`) with clients and a server that nobody here wrote: openai's own, and ws.
import { once } from 'node:events';
import { createServer, request as httpRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { createRequire } from 'node:module';
import { type AddressInfo, connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { startEgress, type TestEgress } from '../scripts/harness/llm/egress-listener.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';

t.setTimeout(290_000);

/** What is used of ws, which has no types of its own. */
interface WsSocket {
  on(event: 'message', listener: (data: Buffer, isBinary: boolean) => void): void;
  on(event: 'close', listener: (code: number) => void): void;
  on(event: 'open' | 'error', listener: (error?: Error) => void): void;
  on(
    event: 'unexpected-response',
    listener: (request: unknown, response: import('node:http').IncomingMessage) => void,
  ): void;
  send(data: Buffer | string, options?: object): void;
  close(code?: number): void;
  terminate(): void;
  pause(): void;
  resume(): void;
  readonly bufferedAmount: number;
  readonly protocol: string;
  readonly extensions: string;
}
interface Ws {
  new (url: string, protocols?: readonly string[], options?: object): WsSocket;
  WebSocketServer: new (
    options: object,
  ) => {
    on(
      event: 'connection',
      listener: (socket: WsSocket, request: import('node:http').IncomingMessage) => void,
    ): void;
    on(event: 'listening', listener: () => void): void;
    address(): { port: number };
    close(): void;
    clients: Set<WsSocket>;
  };
}
const WebSocketClient = createRequire(import.meta.url)('ws') as Ws;

interface Server {
  readonly url: string;
  readonly asked: import('node:http').IncomingMessage[];
  readonly sockets: WsSocket[];
}

/** Answers each message with itself; the first of a connection with an event of openai's. */
async function startServer(t: Test, onConnection: (socket: WsSocket) => void = echo): Promise<Server> {
  const asked: import('node:http').IncomingMessage[] = [];
  const sockets: WsSocket[] = [];
  const server = new WebSocketClient.WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    perMessageDeflate: true,
    maxPayload: 64 * 1_048_576,
    handleProtocols: (protocols: Set<string>) => (protocols.has('realtime') ? 'realtime' : false),
  });
  server.on('connection', (socket, request) => {
    asked.push(request);
    sockets.push(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  await once(server as never, 'listening');
  t.teardown(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}/v1`, asked, sockets };
}

function echo(socket: WsSocket): void {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
}

const wsUrl = (egress: TestEgress, path = '/realtime?model=gpt-realtime'): string =>
  egress.baseUrl.replace('http:', 'ws:') + path;

async function open(
  egress: TestEgress,
  protocols: readonly string[] = [],
  options: object = {},
): Promise<WsSocket> {
  const socket = new WebSocketClient(wsUrl(egress), protocols, options);
  await new Promise<void>((resolve, reject) => {
    socket.on('open', () => resolve());
    socket.on('error', (error) => reject(error));
  });
  return socket;
}

const HANDSHAKE =
  'GET /v1/realtime HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n' +
  'sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

const nothingIsLeft = ({ listener }: TestEgress): Promise<unknown> =>
  waitUntil(
    'nothing is left',
    () =>
      listener.activeRequests +
        listener.stats.webSockets +
        listener.listenerStats.activeConnections +
        listener.listenerStats.activeCalls +
        (listener.egress?.upstreams.reduce((sum, one) => sum + one.activeRequests, 0) ?? 0) ===
      0,
  );

t.test('common clients work through the egress, and the key replaces theirs, in both forms', async (t) => {
  process.env['TEST_REALTIME_KEY'] = 'sk-configured';
  const server = await startServer(t);
  const egress = await startEgress({
    upstreams: [{ name: 'one', url: server.url, api_key_env: 'TEST_REALTIME_KEY' }],
  });
  t.teardown(() => egress.close());
  // Without headers, as in a browser: openai's client for Node asks in this form.
  const native = new WebSocket(wsUrl(egress), [
    'realtime',
    'openai-insecure-api-key.sk-own',
    'openai-organization.org-1',
  ]);
  await new Promise((resolve) => native.addEventListener('open', resolve));
  const said = new Promise((resolve) => native.addEventListener('message', ({ data }) => resolve(data)));
  native.send('{"type":"response.create"}');
  t.equal(await said, '{"type":"response.create"}');
  native.close();
  await nothingIsLeft(egress);
  const [browser] = server.asked;
  t.match(browser?.url, /^\/v1\/realtime\?model=gpt-realtime/);
  t.equal(
    browser?.headers['sec-websocket-protocol'],
    'realtime, openai-insecure-api-key.sk-configured, openai-organization.org-1',
  );
  t.notOk('authorization' in (browser?.headers ?? {}));
  t.notMatch(JSON.stringify(browser?.headers), /sk-own/);
  const pair = egress.listener.stats.of('one', 'gpt-realtime');
  t.equal(pair.outcomes.get('success'), 1);
  t.equal(pair.attempts.get('success'), 1);
});

t.test('openai for Python works through the egress', { skip: skipWithout('model-clients') }, async (t) => {
  process.env['TEST_REALTIME_KEY'] = 'sk-configured';
  const server = await startServer(t);
  const egress = await startEgress({
    upstreams: [{ name: 'one', url: server.url, api_key_env: 'TEST_REALTIME_KEY' }],
  });
  t.teardown(() => egress.close());
  const program = `
import openai
client = openai.OpenAI(api_key="sk-own", base_url="${egress.baseUrl}", websocket_base_url="${egress.baseUrl.replace('http:', 'ws:')}")
with client.realtime.connect(model="gpt-realtime") as connection:
    connection.send({"type": "response.create"})
    print(connection.recv_bytes())
`;
  const started = startProcess(t, requireTool('model-clients'), ['-c', program]);
  t.equal(await started.ended, 0, started.logs());
  t.match(started.logs(), /response\.create/);
  t.equal(server.asked[0]?.headers.authorization, 'Bearer sk-configured');
  t.notMatch(JSON.stringify(server.asked[0]?.headers), /sk-own/);
  await nothingIsLeft(egress);
});

t.test('bytes pass unchanged, with compression and backpressure, in both directions', async (t) => {
  let provider: WsSocket | undefined;
  const server = await startServer(t, (socket) => {
    provider = socket;
    echo(socket);
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url: server.url }] });
  t.teardown(() => egress.close());
  const socket = await open(egress, ['realtime'], { headers: { authorization: 'Bearer mine' } });
  t.equal(server.asked[0]?.headers.authorization, 'Bearer mine');
  t.equal(socket.protocol, 'realtime');
  t.match(socket.extensions, /permessage-deflate/);
  const got: Buffer[] = [];
  socket.on('message', (data) => got.push(data));
  const large = Buffer.alloc(5_000_000, 'x1y2');
  for (const size of [0, 1, 125, 126, 65_535, 65_536]) socket.send(large.subarray(0, size));
  socket.send(large, { compress: false });
  await waitUntil('all came back', () => got.length === 7);
  t.ok(got[6]!.equals(large));

  socket.pause();
  for (let i = 0; i < 20; i++) provider!.send(large, { compress: false });
  await waitUntil('the provider has to wait', () => provider!.bufferedAmount > 20 * 1_000_000);
  socket.resume();
  await waitUntil('all have come', () => got.length === 27);
  socket.close(1000);
  await nothingIsLeft(egress);
});

t.test('the caller gets an answer other than 101, and the egress skips an absent upstream', async (t) => {
  const server = await startServer(t);
  const refusing = (await import('node:http')).createServer((_request, response) => {
    response.writeHead(401, {
      'outrigger-reason': 'forged',
      'content-type': 'application/json',
      'x-request-id': 'r-1',
      'x-large': 'x'.repeat(30_000),
    });
    response.end('{"error":{"message":"no key"}}');
  });
  refusing.listen(0, '127.0.0.1');
  await once(refusing, 'listening');
  t.teardown(() => refusing.close());
  const { port } = refusing.address() as { port: number };
  const refuses = await startEgress({ upstreams: [{ name: 'no', url: `http://127.0.0.1:${port}/v1` }] });
  const falls = await startEgress({
    upstreams: [
      { name: 'gone', url: `http://127.0.0.1:${await freePort()}/v1` },
      { name: 'there', url: server.url },
    ],
  });
  const nobody = await startEgress({
    upstreams: [{ name: 'gone', url: `http://127.0.0.1:${await freePort()}/v1` }],
  });
  t.teardown(() => {
    for (const egress of [refuses, falls, nobody]) egress.close();
  });
  const refusal = (egress: TestEgress, options: object = {}) =>
    new Promise<{ status: number | undefined; headers: Record<string, unknown>; body: string }>(
      (resolve, reject) => {
        const socket = new WebSocketClient(wsUrl(egress), [], { maxHeaderSize: 65_536, ...options });
        socket.on('error', (error) => reject(error));
        socket.on('open', () => reject(new Error('it is open')));
        socket.on('unexpected-response', async (_request, response) => {
          let body = '';
          for await (const part of response) body += String(part);
          resolve({ status: response.statusCode, headers: response.headers, body });
        });
      },
    );
  const refused = await refusal(refuses);
  t.match(refused, { status: 401, headers: { 'x-request-id': 'r-1', 'outrigger-upstream': 'no' } });
  t.notOk('outrigger-reason' in refused.headers, 'nothing passes for a word of the egress');
  t.equal(refused.body, '{"error":{"message":"no key"}}');
  await waitUntil(
    'it is counted',
    () => refuses.listener.stats.of('no', 'gpt-realtime').outcomes.get('refused') === 1,
  );

  const socket = await open(falls, [], { headers: { authorization: 'Bearer mine' } });
  t.notOk('authorization' in server.asked[0]!.headers, "the caller's key goes to the first upstream only");
  socket.terminate();
  t.match(await refusal(nobody), { status: 502, headers: { 'outrigger-reason': 'connect_failed' } });
  t.match(await refusal(nobody, { headers: { origin: 'https://page.example' } }), {
    status: 403,
    headers: { 'outrigger-reason': 'forbidden' },
  });
  t.match(await refusal(nobody, { headers: { 'outrigger-token-budget': '100' } }), { status: 403 });
  for (const egress of [refuses, falls, nobody]) await nothingIsLeft(egress);
});

t.test('each caller has a share of the places, and gets it back', async (t) => {
  const server = await startServer(t);
  const egress = await startEgress({
    upstreams: [{ name: 'one', url: server.url }],
    limits: { max_web_sockets: 4 },
  });
  t.teardown(() => egress.close());
  const of = (task: string) => open(egress, [], { headers: { 'x-task-id': task } });
  const mine = [await of('a'), await of('a'), await of('a')];
  await t.rejects(of('a'), /503/, 'a fourth of the same');
  const other = await of('b');
  await t.rejects(of('c'), /503/, 'a fifth of all');
  t.equal(egress.listener.stats.webSockets, 4);
  mine[0]!.terminate();
  await waitUntil('a place is free', () => egress.listener.stats.webSockets === 3);
  const third = await of('c');
  for (const socket of [...mine, other, third]) socket.close();
  await nothingIsLeft(egress);
});

t.test('either side may vanish: silence ends the tunnel, and a drain sends a close', async (t) => {
  const testClock = new TestClock();
  const server = await startServer(t);
  const egress = await startEgress(
    { upstreams: [{ name: 'one', url: server.url }], web_socket_idle_timeout: '1m' },
    { testClock },
  );
  t.teardown(() => egress.close());
  const closed = async (socket: WsSocket): Promise<number> =>
    new Promise((resolve) => socket.on('close', (code) => resolve(code)));

  const leaves = await open(egress);
  leaves.terminate();
  await nothingIsLeft(egress);
  const left = await open(egress);
  const leftCode = closed(left);
  server.sockets.at(-1)!.terminate();
  t.equal(await leftCode, 1006);
  await nothingIsLeft(egress);

  const silent = await open(egress);
  silent.on('error', () => {});
  const silentCode = closed(silent);
  testClock.advance(50_000);
  const heard = new Promise((resolve) => silent.on('message', resolve));
  silent.send('still here');
  await heard;
  testClock.advance(50_000);
  t.equal(egress.listener.stats.webSockets, 1, 'it has spoken');
  testClock.advance(20_000);
  t.equal(await silentCode, 1006);
  await nothingIsLeft(egress);

  const drained = await open(egress);
  const code = closed(drained);
  egress.listener.drain();
  const again = new Promise((resolve) => drained.on('message', resolve));
  drained.send('it goes on until the time to drain is over');
  await again;
  egress.listener.endRequests();
  t.equal(await code, 1001, 'going away');
  await nothingIsLeft(egress);
});

t.test('the close of a drain comes between frames', async (t) => {
  const server = await startServer(t, () => {});
  const egress = await startEgress({ upstreams: [{ name: 'one', url: server.url }] });
  t.teardown(() => egress.close());
  const { hostname, port } = new URL(egress.baseUrl);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  let seen = Buffer.alloc(0);
  socket.on('data', (part) => {
    seen = Buffer.concat([seen, part]);
  });
  socket.write(HANDSHAKE);
  await waitUntil('it is open', () => server.sockets.length === 1 && seen.includes('\r\n\r\n'));
  const raw = (server.sockets[0] as unknown as { _socket: Socket })._socket;
  const half = Buffer.alloc(1_000, 'x');
  raw.write(Buffer.concat([Buffer.from([0x82, 126, 2_000 >> 8, 2_000 & 255]), half]));
  await waitUntil('half of it has come', () => seen.includes(half));
  egress.listener.endRequests();
  raw.write(Buffer.concat([half, Buffer.from([0x82, 1, 0x79])]));
  await once(socket, 'close');
  const tail = Buffer.concat([half, half, Buffer.from([0x82, 1, 0x79, 0x88, 2, 0x03, 0xe9])]);
  t.equal(seen.subarray(-tail.length).toString('hex'), tail.toString('hex'), 'whole frames, then the close');
  await nothingIsLeft(egress);
});

t.test('a drain cuts a refusal of the provider that is on its way, and writes nothing into it', async (t) => {
  const http = createServer();
  http.on('upgrade', (_request, socket) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nnot you');
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  t.teardown(() => {
    http.closeAllConnections();
    http.close();
  });
  const { port: providerPort } = http.address() as AddressInfo;
  const egress = await startEgress({
    upstreams: [{ name: 'one', url: `http://127.0.0.1:${providerPort}/v1` }],
  });
  t.teardown(() => egress.close());
  const { hostname, port } = new URL(egress.baseUrl);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  let seen = '';
  socket.on('data', (part) => {
    seen += part;
  });
  socket.write(HANDSHAKE);
  await waitUntil('a part of the refusal has come', () => seen.endsWith('not you'));
  egress.listener.drain();
  egress.listener.endRequests();
  if (!socket.closed) await once(socket, 'close');
  t.match(seen, /^HTTP\/1\.1 403 /);
  t.equal(seen.split('HTTP/1.1 ').length - 1, 1, 'one head');
  t.ok(seen.endsWith('not you'), 'nothing follows');
  await nothingIsLeft(egress);
});

t.test('half a connection, half a handshake, and other upgrades do no harm', async (t) => {
  const server = await startServer(t);
  const http = (await import('node:http')).createServer((request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end('{"object":"list","data":[]}');
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  t.teardown(() => http.close());
  const egress = await startEgress({ upstreams: [{ name: 'one', url: server.url }] });
  const plain = await startEgress({
    upstreams: [{ name: 'one', url: `http://127.0.0.1:${(http.address() as { port: number }).port}/v1` }],
  });
  t.teardown(() => {
    egress.close();
    plain.close();
  });
  const dial = async (): Promise<Socket> => {
    const { hostname, port } = new URL(egress.baseUrl);
    const socket = connect(Number(port), hostname);
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  };
  const early = await dial();
  // A masked frame comes with the head, before anybody has said 101.
  early.write(Buffer.concat([Buffer.from(HANDSHAKE), Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69])]));
  let seen = Buffer.alloc(0);
  early.on('data', (part) => {
    seen = Buffer.concat([seen, part]);
  });
  await waitUntil('it is echoed', () => seen.includes(Buffer.from([0x81, 0x02, 0x68, 0x69])));
  early.end();
  await nothingIsLeft(egress);
  const gone = await dial();
  gone.end(HANDSHAKE);
  await nothingIsLeft(egress);

  const offered = await send(plain.baseUrl, '/models', undefined, {
    connection: 'Upgrade, HTTP2-Settings',
    upgrade: 'h2c',
    'http2-settings': 'AAMAAABkAAQAAP__',
  }).answer;
  t.equal(offered.status, 200, 'an offer of h2c is none that must be taken');
  const posted = httpRequest(`${plain.baseUrl}/chat/completions`, {
    method: 'POST',
    agent: false,
    headers: { connection: 'Upgrade', upgrade: 'websocket' },
  });
  posted.end(chat());
  const [answer] = (await once(posted, 'response')) as [import('node:http').IncomingMessage];
  answer.resume();
  t.equal(answer.statusCode, 200, 'a WebSocket begins with a GET');

  const session = connectHttp2(plain.baseUrl);
  t.teardown(() => session.destroy());
  session.on('error', () => {});
  const tunnel = session.request({ ':method': 'CONNECT', ':authority': 'localhost' });
  const [head] = (await once(tunnel, 'response')) as [{ ':status'?: number }];
  t.equal(head[':status'], 501);
  let text = '';
  for await (const part of tunnel) text += String(part);
  t.match(text, /WebSocket.*HTTP\/1\.1/);
  session.destroy();
  await nothingIsLeft(plain);
});
