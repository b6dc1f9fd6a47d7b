// HTTP/2 to providers: chosen by ALPN, many streams a connection, and what becomes of the others when one of them, or the
// connection, ends. The providers are Node's own HTTP/2 and HTTPS servers.
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import {
  constants,
  createSecureServer,
  type Http2SecureServer,
  type SecureServerOptions,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { frame, frameType, H2Peer, settings } from '../scripts/harness/h2-peer.ts';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { chatAnswer, chatChunk, DONE } from '../scripts/harness/llm/provider.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

t.setTimeout(120_000);
const authority = await TestAuthority.make();
const issued = await authority.issue({ names: ['127.0.0.1', 'localhost'] });
const { ca } = new SecretVolume(t, { ...issued, ca: authority.ca });
const BODY = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hello' }] });
const STREAMED = JSON.stringify({ model: 'm', messages: [], stream: true });
const ANSWER = JSON.stringify(chatAnswer());

interface Provider {
  readonly port: number;
  readonly sessions: ServerHttp2Session[];
  readonly streams: ServerHttp2Stream[];
  /** The versions of the requests over HTTP/1.1, where it takes those, too. */
  readonly versions: string[];
}

type Serve = (stream: ServerHttp2Stream, count: number) => void;

async function startProvider(t: Test, serve: Serve, options: SecureServerOptions = {}): Promise<Provider> {
  const sessions: ServerHttp2Session[] = [];
  const streams: ServerHttp2Stream[] = [];
  const versions: string[] = [];
  const server: Http2SecureServer = createSecureServer({ ...issued, ...options });
  server.on('session', (session) => sessions.push(session));
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    streams.push(stream);
    serve(stream, streams.length);
  });
  server.on('request', (request, response) => {
    if (request.httpVersion !== '1.1') return;
    versions.push(request.httpVersion);
    response.setHeader('content-type', 'application/json');
    response.end(ANSWER);
  });
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const port = await listening(server);
  return { port, sessions, streams, versions };
}

async function listening(server: { listen(port: number, host: string): unknown; address(): unknown }) {
  server.listen(0, '127.0.0.1');
  await once(server as never, 'listening');
  return (server.address() as AddressInfo).port;
}

function answer(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200, 'content-type': 'application/json' });
  stream.end(ANSWER);
}

function beginStream(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200, 'content-type': 'text/event-stream' });
  stream.write(chatChunk('one '));
}

interface Started {
  readonly root: string;
  readonly egress: Awaited<ReturnType<typeof startEgress>>;
}

async function start(
  t: Test,
  port: number,
  {
    upstream = {},
    host = '127.0.0.1',
    options = {},
    ...llm
  }: Record<string, object> & { host?: string } = {},
): Promise<Started> {
  const url = `https://${host}:${port}/v1`;
  const egress = await startEgress(
    {
      upstreams: [{ name: 'p', url, ca, ...upstream }],
      retry: { max_attempts: 1, backoff: { base: '1ms', max: '2ms' } },
      ...llm,
    },
    options,
  );
  t.teardown(() => egress.close());
  return { egress, root: egress.baseUrl };
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** @param onHead gets the answer's stream in the place of reading it */
function ask(root: string, body: string | Buffer = BODY): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${root}/chat/completions`, { method: 'POST', agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Asks for a stream, and returns once its head is here. */
async function begin(root: string, body = STREAMED) {
  const request = httpRequest(`${root}/chat/completions`, { method: 'POST', agent: false });
  request.on('error', () => {});
  request.end(body);
  const [response] = await once(request, 'response');
  response.on('error', () => {});
  return { request, response };
}

t.test(
  'many requests share a connection, up to what the provider takes, and bodies arrive whole',
  async (t) => {
    const provider = await startProvider(
      t,
      (stream) => {
        let bytes = 0;
        stream.on('data', (part: Buffer) => {
          bytes += part.length;
        });
        stream.on('end', () => {
          stream.respond({ ':status': 200, 'content-type': 'application/json', 'x-bytes': String(bytes) });
          stream.end(JSON.stringify(chatAnswer(`${bytes}`)));
        });
      },
      { settings: { maxConcurrentStreams: 40 } },
    );
    const { root } = await start(t, provider.port);
    t.match(await ask(root), { status: 200 });
    const large = JSON.stringify({
      model: 'm',
      messages: [{ role: 'user', content: 'x'.repeat(3_000_000) }],
    });
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, at) => ask(root, at < 3 ? large : BODY)),
    );
    t.strictSame(new Set(answers.map(({ status }) => status)), new Set([200]));
    t.match(answers[0]!.text, `"content":"${large.length}"`, 'the whole body came through a small window');
    t.ok(provider.sessions.length <= 4, `${provider.sessions.length} connections for 101 requests`);
    const [head] = provider.streams;
    t.match(head!.sentHeaders, { ':status': 200 });
  },
);

t.test('a provider without HTTP/2, and one for which it is off, are asked over HTTP/1.1', async (t) => {
  const versions: string[] = [];
  const server = createHttpsServer(issued, (request, response) => {
    versions.push(request.httpVersion);
    response.setHeader('content-type', 'application/json').end(ANSWER);
  });
  let connections = 0;
  server.on('secureConnection', () => connections++);
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { root } = await start(t, await listening(server));
  const answers = await Promise.all(Array.from({ length: 8 }, () => ask(root)));
  for (let at = 0; at < 8; at++) answers.push(await ask(root));
  t.ok(answers.every(({ status }) => status === 200));
  t.strictSame(new Set(versions), new Set(['1.1']));
  t.ok(connections <= 8, 'connections are kept');

  const both = await startProvider(t, answer, { allowHTTP1: true });
  const off = await start(t, both.port, { upstream: { http2: false } });
  t.equal((await ask(off.root)).status, 200);
  t.strictSame(both.versions, ['1.1']);
  t.equal(both.sessions.length, 0, 'no HTTP/2 was spoken');
});

t.test('a caller that does not read, or leaves, does not disturb the others', async (t) => {
  const provider = await startProvider(t, (stream, count) => {
    if (count > 1) {
      answer(stream);
      return;
    }
    beginStream(stream);
    for (let at = 0; at < 300; at++) stream.write(chatChunk('x'.repeat(20_000)));
  });
  const { root } = await start(t, provider.port);
  const slow = await begin(root);
  slow.response.pause();
  for (let at = 0; at < 20; at++) t.equal((await ask(root)).status, 200);
  t.equal(provider.sessions.length, 1, 'all on one connection');
  slow.request.destroy();
  const [first] = provider.streams;
  await waitUntil('the provider sees that the caller has left', () => first!.closed);
  t.equal(first!.rstCode, constants.NGHTTP2_CANCEL);
  t.equal(provider.sessions[0]!.destroyed, false, 'the connection goes on');
  t.equal((await ask(root)).status, 200);
  t.equal(provider.sessions.length, 1);
});

t.test('only what the provider says it has not worked on is sent again', async (t) => {
  const codes = [constants.NGHTTP2_REFUSED_STREAM, constants.NGHTTP2_INTERNAL_ERROR];
  for (const code of codes) {
    const provider = await startProvider(t, (stream, count) => {
      if (count > 1) answer(stream);
      else stream.resume().on('end', () => stream.close(code));
    });
    const { root } = await start(t, provider.port);
    const { status, text } = await ask(root);
    const isRefused = code === constants.NGHTTP2_REFUSED_STREAM;
    t.equal(status, isRefused ? 200 : 502, text);
    t.equal(provider.streams.length, isRefused ? 2 : 1);
    if (!isRefused) t.match(text, 'INTERNAL_ERROR');
  }
  // One that refuses always is left in the end.
  const never = await startProvider(t, (stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM));
  const { root } = await start(t, never.port);
  t.match(await ask(root), { status: 502, text: /REFUSED_STREAM/ });
  t.equal(never.streams.length, 2);
});

t.test('GOAWAY moves later requests to another connection, and lets running ones end', async (t) => {
  let release = (): void => {};
  const provider = await startProvider(t, (stream, count) => {
    if (count > 1) {
      answer(stream);
      return;
    }
    beginStream(stream);
    release = () => stream.end(chatChunk(undefined, 'stop') + DONE);
  });
  const { root } = await start(t, provider.port);
  const running = await begin(root);
  const text = running.response.setEncoding('utf8').toArray();
  provider.sessions[0]!.goaway(constants.NGHTTP2_NO_ERROR, 1);
  await waitUntil('a request goes to another connection', async () => {
    t.equal((await ask(root)).status, 200);
    return provider.sessions.length === 2;
  });
  release();
  t.match((await text).join(''), /one .*\[DONE\]/s, 'the stream on the old connection is whole');
});

t.test('a connection that is old, or whose address DNS has left, takes no new requests', async (t) => {
  const held: ServerHttp2Stream[] = [];
  const provider = await startProvider(t, (stream) => {
    if (held.length > 0) answer(stream);
    else {
      held.push(stream);
      beginStream(stream);
    }
  });
  const testClock = new TestClock();
  let addresses = ['127.0.0.1'];
  const options = {
    testClock,
    lookup: (_name: string, _all: object, callback: (error: null, found: object[]) => void) =>
      callback(
        null,
        addresses.map((address) => ({ address, family: 4 })),
      ),
  };
  const { root } = await start(t, provider.port, {
    host: 'localhost',
    idle_timeout: '0s',
    options,
  } as never);
  await begin(root);
  await ask(root);
  t.equal(provider.sessions.length, 1);
  testClock.advance(31_000);
  await ask(root);
  t.equal(provider.sessions.length, 1, 'its address is still there');
  addresses = ['127.0.0.99'];
  for (let at = 0; at < 3; at++) {
    testClock.advance(31_000);
    await ask(root);
  }
  t.equal(provider.sessions.length, 2, 'it went to the new address');
  t.equal(held[0]!.closed, false, 'what runs stays where it is');
  addresses = ['127.0.0.1'];
  testClock.advance(31_000);
  await ask(root);
  const before = provider.sessions.length;
  for (let minute = 0; minute < 10; minute++) {
    testClock.advance(60_000);
    await ask(root);
  }
  t.ok(provider.sessions.length > before, 'the old one takes no more');
});

t.test('a provider that wants HTTP/1.1 for a request gets it', async (t) => {
  const { port, versions } = await startProvider(
    t,
    (stream) => stream.resume().on('end', () => stream.close(constants.NGHTTP2_HTTP_1_1_REQUIRED)),
    { allowHTTP1: true },
  );
  const { root } = await start(t, port);
  t.equal((await ask(root)).status, 200);
  t.equal((await ask(root)).status, 200);
  t.strictSame(versions, ['1.1', '1.1']);
});

t.test(
  'a dead connection is found by a PING, and a certificate of another authority is refused',
  async (t) => {
    const peers: H2Peer[] = [];
    const server = createTlsServer({ ...issued, ALPNProtocols: ['h2'] }, (socket) => {
      const peer = new H2Peer(socket, 'server');
      peers.push(peer);
      peer.send(settings(), frame(frameType.settings, 1, 0));
    });
    t.teardown(() => {
      for (const { socket } of peers) socket.destroy();
      server.close();
    });
    const testClock = new TestClock();
    const { root } = await start(t, await listening(server), { options: { testClock } });
    const asked = ask(root);
    await waitUntil('the request is there', () => peers[0]?.count(frameType.headers) === 1);
    await waitUntil('a PING comes', () => {
      testClock.advance(5_000);
      return peers[0]!.count(frameType.ping) > 0;
    });
    testClock.advance(16_000);
    const { status, text } = await asked;
    t.equal(status, 502);
    t.match(text, /the connection was lost before an answer/);

    const provider = await startProvider(t, answer);
    const wrong = await start(t, provider.port, { upstream: { ca: null } });
    t.match(await ask(wrong.root), { status: 502, text: /can not be connected to \((?:UNABLE|SELF_SIGNED)/ });
  },
);
