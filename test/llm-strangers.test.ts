// Clients and providers that do what is allowed, and what is not: closed by FIN as curl and httpx do, answers that are no
// HTTP, or more of it than expected. Nothing is left behind, and nothing of a stranger's ends the process.
import { connect as connectHttp2 } from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import {
  answerWhole,
  beginStream,
  chatAnswer,
  chatChunk,
  sendError,
  sendJson,
} from '../scripts/harness/llm/provider.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

type Open = (socket: Socket, body: string) => void;

const overHttp1: Open = (socket, body) => {
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
};

const overHttp2: Open = (socket, body) => {
  const session = connectHttp2('http://localhost', { createConnection: () => socket });
  session.on('error', () => {});
  const stream = session.request({ ':method': 'POST', ':path': '/v1/chat/completions' });
  stream.on('error', () => {});
  stream.resume();
  stream.end(body);
};

async function dial(t: Test, baseUrl: string): Promise<Socket> {
  const { hostname, port } = new URL(baseUrl);
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

t.test('a client that closes by FIN leaves nothing behind', async (t) => {
  const url = provider.script('fin', ({ json }, response) => {
    if (json?.['stream'] !== true) return;
    beginStream(response);
    response.write(chatChunk('one'));
    // More than connections hold.
    if (json['n'] === 9) response.write(chatChunk('x'.repeat(6_000_000)));
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const { listener } = egress;
  const gone = () =>
    waitUntil('nothing is left', () => {
      const { activeCalls, activeConnections } = listener.listenerStats;
      return listener.activeRequests + activeCalls + activeConnections === 0;
    });
  for (const [name, open] of Object.entries({ 'HTTP/1.1': overHttp1, 'HTTP/2': overHttp2 })) {
    for (const stream of [false, true]) {
      const before = provider.requests('fin').length;
      const socket = await dial(t, egress.baseUrl);
      open(socket, chat({ stream }));
      await waitUntil('the provider is asked', () => provider.requests('fin').length === before + 1);
      t.equal(listener.listenerStats.activeConnections, 1);
      socket.end();
      await waitUntil('the provider sees the end', () => provider.requests('fin')[before]?.aborted);
      await gone();
      t.pass(`${name}, stream: ${stream}`);
    }
  }
  for (const [name, open] of Object.entries({ 'HTTP/1.1': overHttp1, 'HTTP/2': overHttp2 })) {
    const before = provider.requests('fin').length;
    const socket = await dial(t, egress.baseUrl);
    open(socket, chat({ stream: true, n: 9 }));
    socket.pause();
    await waitUntil(
      'the answer waits to be read',
      () =>
        egress.listener.egress?.upstreams[0]?.activeRequests === 1 &&
        provider.requests('fin').length === before + 1,
    );
    await sleep(500);
    socket.end();
    await waitUntil('the provider sees the end', () => provider.requests('fin')[before]?.aborted);
    await gone();
    t.pass(`${name}: one that does not read what it is sent`);
  }
  for (const [name, text] of [
    ['nothing', ''],
    ['half a preface', 'PRI * HT'],
    ['a preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['a preface and SETTINGS', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'],
    ['half a head', 'POST /v1/chat'],
    ['half a body', 'POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{'],
  ] as const) {
    const socket = await dial(t, egress.baseUrl);
    socket.end(text, 'latin1');
    await new Promise((resolve) => socket.once('close', resolve).resume());
    await gone();
    t.pass(`after ${name}`);
  }
  const many = await Promise.all(Array.from({ length: 200 }, () => dial(t, egress.baseUrl)));
  for (const socket of many) overHttp2(socket, chat({ stream: true }));
  await waitUntil('all are there', () => listener.activeRequests === 200);
  for (const socket of many) socket.end();
  await gone();
});

/** A provider on bare sockets: each request gets these bytes. */
async function startSpeaking(t: Test, answer: () => string): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
    socket.on('data', () => socket.write(answer(), 'latin1'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no address');
  return `http://127.0.0.1:${address.port}/v1`;
}

/** The status and the reason that a caller over HTTP/2 gets. */
function askHttp2(baseUrl: string, body: string): Promise<[status: number, reason: unknown, text: string]> {
  const session = connectHttp2(new URL(baseUrl).origin);
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': '/v1/chat/completions' });
    let head: [number, unknown] = [0, undefined];
    let text = '';
    stream.on('response', (headers) => {
      head = [Number(headers[':status']), headers['outrigger-reason']];
    });
    stream.setEncoding('latin1').on('data', (part: string) => {
      text += part;
    });
    stream.on('error', () => {});
    session.on('error', reject);
    stream.on('close', () => {
      session.close();
      resolve([...head, text]);
    });
    stream.end(body);
  });
}

const json = (text: string, more = ''): string =>
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n${more}\r\n${text}`;
const deep = `${'['.repeat(300_000)}${']'.repeat(300_000)}`;
const switching = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n';

t.test(
  'an invalid answer becomes a 502, or goes to the next upstream, over HTTP/1.1 and HTTP/2',
  async (t) => {
    let answer = '';
    const url = await startSpeaking(t, () => answer);
    const good = provider.script('next', answerWhole);
    const breaker = {
      circuit_breaker: { failure_percent: 0 },
      idle_timeout: '1s',
      retry: { max_attempts: 2, backoff: { base: '1ms', max: '2ms' } },
    };
    const alone = await startEgress({ upstreams: [{ name: 'odd', url }], ...breaker });
    const two = await startEgress({
      upstreams: [
        { name: 'odd', url },
        { name: 'good', url: good },
      ],
      ...breaker,
    });
    t.teardown(() => alone.close());
    t.teardown(() => two.close());
    for (const [name, bytes] of [
      ['another protocol', switching],
      ['another protocol, and words of it', `${switching}\x81\x05hello`],
      ['another protocol without a name', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
      ['a status below all', 'HTTP/1.1 042 Odd\r\ncontent-length: 2\r\n\r\n{}'],
      ['a status of zero', 'HTTP/1.1 000 Odd\r\ncontent-length: 2\r\n\r\n{}'],
      ['another greeting', 'SSH-2.0-OpenSSH_9.6\r\n'],
      ['an alert of TLS', '\x15\x03\x01\x00\x02\x02\x16'],
      ['HTTP/2', '\0\0\0\x04\0\0\0\0\0'],
      [
        'an error with a forbidden character',
        'HTTP/1.1 429 Slow\r\nretry-after: 1\x01\r\ncontent-length: 2\r\n\r\n{}',
      ],
      [
        'an error with one, cut off',
        'HTTP/1.1 500 Odd\r\nx: \x7f\r\ncontent-length: 20\r\nconnection: close\r\n\r\n{',
      ],
    ] as const) {
      answer = bytes;
      const plain = await send(alone.baseUrl, '/chat/completions', chat()).answer;
      t.match(plain, { status: 502, headers: { 'outrigger-reason': 'upstream_protocol' } }, name);
      t.match(
        (await askHttp2(alone.baseUrl, chat({ stream: true }))).slice(0, 2),
        [502, 'upstream_protocol'],
        name,
      );
      const next = await send(two.baseUrl, '/chat/completions', chat()).answer;
      t.match(
        next,
        { status: 200, headers: { 'outrigger-upstream': 'good' } },
        `${name}, with another upstream`,
      );
    }
    // What has an answer in it has been paid for.
    for (const [name, bytes] of [
      ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}'],
      ['a header that is none', 'HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n'],
      ['a forbidden character', 'HTTP/1.1 200 OK\r\nx: \x7f\r\ncontent-length: 2\r\n\r\n{}'],
      ['headers without end', `HTTP/1.1 200 OK\r\nx: ${'x'.repeat(200_000)}\r\n\r\n`],
      ['an answer of great depth', json(`{"choices":[{"message":{"tool_calls":${deep}}}]}`)],
      [
        'an event of great depth',
        `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {"choices":[{"delta":{"tool_calls":${deep}}}]}\n\n`,
      ],
    ] as const) {
      answer = bytes;
      const stream = name.startsWith('an event');
      for (let turn = 0; turn < 2; turn++) {
        const { status, headers } = await send(two.baseUrl, '/chat/completions', chat({ stream })).answer;
        t.match(headers, { 'outrigger-attempts': '1' }, `${name}: nobody else is asked`);
        if (status !== 200) t.match(headers, { 'x-should-retry': 'false' });
      }
      t.ok((await askHttp2(alone.baseUrl, chat({ stream })))[0] >= 200, name);
    }
    await waitUntil(
      'nothing is left',
      () => alone.listener.activeRequests + two.listener.activeRequests === 0,
    );
  },
);

t.test('an unusual but valid answer passes', async (t) => {
  let answer = '';
  const url = await startSpeaking(t, () => answer);
  const egress = await startEgress({ upstreams: [{ name: 'odd', url }], retry: { max_attempts: 1 } });
  t.teardown(() => egress.close());
  const hints = 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'.repeat(50);
  const odd =
    'x-odd: \xff\xfe\r\nupgrade: h2c\r\nte: gzip\r\nhttp2-settings: AAA\r\nproxy-connection: close\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx!#$: 1\r\nx-empty:\r\n';
  answer = hints + json('{}', odd);
  const plain = await send(egress.baseUrl, '/chat/completions', chat()).answer;
  t.match(plain, { status: 200, broken: false, headers: { 'set-cookie': ['a=1', 'b=2'], 'x!#$': '1' } });
  t.strictSame(await askHttp2(egress.baseUrl, chat()), [200, undefined, '{}']);
  answer = 'HTTP/1.1 999 Request denied\r\ncontent-length: 2\r\n\r\n{}';
  t.equal((await send(egress.baseUrl, '/chat/completions', chat()).answer).status, 999);
  t.strictSame(await askHttp2(egress.baseUrl, chat()), [502, undefined, '{}'], 'HTTP/2 has none so high');
  answer =
    'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\n{}\r\n0\r\nx: 1\r\n\r\n';
  t.strictSame(await askHttp2(egress.baseUrl, chat()), [200, undefined, '{}'], 'with trailers');
  const forged = 'outrigger-reason: throttled\r\nOutrigger-Attempts: 9\r\noutrigger-tokens-used: 1\r\n';
  answer = `HTTP/1.1 200 OK\r\n${forged}content-type: application/json\r\ncontent-length: 2\r\n\r\n{}`;
  const { headers } = await send(egress.baseUrl, '/chat/completions', chat()).answer;
  const ours = Object.entries(headers).filter(([name]) => name.startsWith('outrigger-'));
  t.strictSame(
    Object.fromEntries(ours),
    { 'outrigger-upstream': 'odd', 'outrigger-attempts': '1' },
    'with headers that only the egress sets',
  );
  answer = 'HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}and more';
  t.strictSame(await askHttp2(egress.baseUrl, chat()), [200, undefined, '{}'], 'with bytes behind its end');
});

t.test('a sloppily formatted answer that clients can read passes', async (t) => {
  let answer = '';
  const url = await startSpeaking(t, () => answer);
  const egress = await startEgress({ upstreams: [{ name: 'careless', url }], retry: { max_attempts: 1 } });
  t.teardown(() => egress.close());
  const head = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n';
  for (const [name, bytes] of [
    ['a folded header', `${head}x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}`],
    ['bare line feeds', `${head}content-length: 2\r\n\r\n{}`.replaceAll('\r', '')],
    ['the same length twice', `${head}content-length: 2\r\nContent-Length:2 \r\n\r\n{}`],
    ['a list of the same lengths', `${head}content-length: 2, 2\r\n\r\n{}`],
    [
      'twice behind a hint',
      `HTTP/1.1 103 Early Hints\r\n\r\n${head}content-length: 2\r\ncontent-length: 2\r\n\r\n{}`,
    ],
    [
      'a length beside chunks',
      `${head}content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    ],
  ] as const) {
    answer = bytes;
    t.strictSame(await askHttp2(egress.baseUrl, chat()), [200, undefined, '{}'], `${name}, over HTTP/2`);
    const plain = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.match(plain, { status: 200, body: Buffer.from('{}'), broken: false }, name);
  }
});

const CALLERS = {
  authorization: 'Bearer callers',
  'x-api-key': 'callers',
  'x-goog-api-key': 'callers',
  'api-key': 'callers',
  'ocp-apim-subscription-key': 'callers',
  'helicone-auth': 'Bearer callers',
  'proxy-authorization': 'Basic callers',
  api_key: 'callers',
  'x-private-key': 'callers',
  authtoken: 'callers',
  'client-secret': 'callers',
  'x-goog-iap-jwt-assertion': 'callers',
  cookie: 'session=callers',
  'openai-organization': 'org-callers',
  'openai-project': 'proj-callers',
  'x-session-id': 'kept',
  'idempotency-key': 'kept',
};

t.test(
  "the caller's credentials go at most to the first upstream, and only without a configured key",
  async (t) => {
    process.env['TEST_KEY_TWO'] = 'sk-two';
    const first = provider.script('credentials-first', (_request, response) =>
      sendError(response, 503, { 'set-cookie': 'a=1' }),
    );
    const keyed = provider.script('credentials-keyed', (_request, response) => sendError(response, 503));
    const unset = provider.script('credentials-unset', (_request, response) => sendError(response, 503));
    const last = provider.script('credentials-last', (_request, response) =>
      sendJson(response, 200, chatAnswer(), { 'set-cookie': 'session=of-another' }),
    );
    const egress = await startEgress({
      upstreams: [
        { name: 'first', url: first },
        { name: 'keyed', url: keyed, api_key_env: 'TEST_KEY_TWO' },
        { name: 'unset', url: unset, api_key_env: 'TEST_KEY_THAT_NOBODY_SET' },
        { name: 'last', url: last },
      ],
      retry: { max_attempts: 4 },
    });
    t.teardown(() => egress.close());
    const secrets = [
      'key',
      '%61pi_key',
      'client_secret',
      'password',
      'Subscription-Key',
      'sessionToken',
      'auth',
    ];
    const path = `/chat/completions?${secrets.map((name) => `${name}=callers`).join('&')}&page_token=1`;
    const answer = await send(egress.baseUrl, path, chat(), CALLERS).answer;
    t.match(answer, { status: 200, headers: { 'outrigger-upstream': 'last' } });
    t.notOk('set-cookie' in answer.headers, 'nor do cookies of another provider come back');
    const seen = (name: string) => provider.requests(name)[0]!;
    const { 'proxy-authorization': _, ...whole } = CALLERS;
    t.match(seen('credentials-first').headers, whole);
    t.equal(seen('credentials-first').path, `/v1${path}`);
    for (const name of ['credentials-keyed', 'credentials-unset', 'credentials-last']) {
      const { headers, path } = seen(name);
      t.notMatch(JSON.stringify(headers), /callers/, name);
      t.equal(headers['x-session-id'], 'kept');
      t.equal(headers['idempotency-key'], 'kept');
      t.equal(path, '/v1/chat/completions?page_token=1', 'the place in a list is no secret');
    }
    t.match(seen('credentials-keyed').headers, {
      authorization: 'Bearer sk-two',
      'x-api-key': 'sk-two',
      'x-goog-api-key': 'sk-two',
      'api-key': 'sk-two',
    });
    t.notOk('authorization' in seen('credentials-unset').headers);
  },
);

t.test('a password in a base URL is used, and hidden from callers, in any spelling', async (t) => {
  for (const [written, text, bytes] of [
    ['hunter%zz-222', 'hunter%zz-222', 'hunter%zz-222'],
    ['h%C3%BCnter-2222', 'hünter-2222', Buffer.from('hünter-2222').toString('latin1')],
  ] as const) {
    const url = provider.script(`user-${text.length}`, (_request, response) => {
      response.writeHead(400, { 'content-type': 'text/plain' });
      response.end(`${text} is wrong`);
    });
    const egress = await startEgress({
      upstreams: [{ name: 'only', url: url.replace('://', `://me:${written}@`) }],
    });
    t.teardown(() => egress.close());
    const answer = await send(egress.baseUrl, '/chat/completions', chat(), CALLERS).answer;
    t.equal(answer.status, 400);
    t.notMatch(answer.body, /nter/, 'the provider has repeated it');
    const { authorization } = provider.requests(`user-${text.length}`)[0]!.headers;
    const expected = Buffer.from(`me:${bytes}`, 'latin1').toString('base64');
    t.equal(authorization, `Basic ${expected}`);
  }
});

t.test('a target in absolute form is accepted if its authority is ours', async (t) => {
  const url = provider.script('absolute', answerWhole);
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const statusOf = async (target: string, host: string): Promise<string> => {
    const socket = await dial(t, egress.baseUrl);
    const body = chat();
    socket.write(`POST ${target} HTTP/1.1\r\nhost: ${host}\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    let answer = '';
    socket.on('data', (part: Buffer) => {
      answer += part;
    });
    await waitUntil('it is answered', () => answer.includes('\r\n\r\n'));
    socket.destroy();
    return answer.slice(9, 12);
  };
  t.equal(await statusOf('http://localhost/v1/chat/completions?x=1', 'provider.example'), '200');
  t.equal(provider.requests('absolute')[0]?.path, '/v1/chat/completions?x=1');
  t.equal(await statusOf('http://provider.example/v1/chat/completions', 'localhost'), '403');
  t.equal(await statusOf('http://localhost/v2', 'localhost'), '404');
});

t.test("an upstream's error that contains its key reaches the agent without the key", async (t) => {
  const key = 'sk-upstream-key-0123456789';
  process.env['TEST_KEY_ONE'] = key;
  const long = 'x'.repeat(100_000);
  const url = provider.script('tells', ({ headers, path }, response) => {
    const said = `Incorrect API key provided: ${headers.authorization}, ${path}.`;
    const body = path.includes('/models') ? `${long}${said}` : JSON.stringify({ error: { message: said } });
    const status = path.includes('/embeddings') ? 200 : 401;
    response.writeHead(status, {
      'content-type': path.includes('/models') ? 'text/html' : 'application/json',
      'content-length': body.length,
      'x-said': said,
    });
    // In pieces that cut the key.
    const at = body.indexOf(key) + 5;
    response.write(body.slice(0, at));
    setTimeout(() => response.end(body.slice(at)), 20);
  });
  const upstream = {
    name: 'one',
    url: `${url}?api-key=query-key-of-the-upstream`,
    api_key_env: 'TEST_KEY_ONE',
  };
  const egress = await startEgress({ upstreams: [upstream], retry: { max_attempts: 1 } });
  t.teardown(() => egress.close());
  for (const path of ['/chat/completions', '/embeddings', '/models/m']) {
    const { headers, body, broken } = await send(
      egress.baseUrl,
      path,
      path === '/models/m' ? undefined : chat(),
    ).answer;
    t.notOk(broken, path);
    for (const text of [body.toString(), String(headers['x-said'])]) {
      t.match(text, /Incorrect API key provided: Bearer \*{26}, /, path);
      t.notMatch(text, /sk-upstream|query-key/, path);
    }
    t.equal(Number(headers['content-length']), body.length, path);
  }
  const own = await startEgress({ upstreams: [{ name: 'one', url }], retry: { max_attempts: 1 } });
  t.teardown(() => own.close());
  const told = await send(own.baseUrl, '/chat/completions', chat(), { authorization: `Bearer ${key}` })
    .answer;
  t.match(told.body.toString(), key, "the caller's own key is no secret to it");
});

t.test("the configured key replaces the caller's own, in the form of the caller's", async (t) => {
  process.env['TEST_KEY_ONE'] = 'sk-one';
  const url = provider.script('placeholders', answerWhole);
  const egress = await startEgress({ upstreams: [{ name: 'one', url, api_key_env: 'TEST_KEY_ONE' }] });
  t.teardown(() => egress.close());
  const names = ['authorization', 'api-key', 'x-api-key', 'x-goog-api-key', 'cookie', 'openai-organization'];
  const sentFor = async (headers: Record<string, string>) => {
    await send(egress.baseUrl, '/chat/completions?key=callers', chat(), headers).answer;
    const { headers: sent, path } = provider.requests('placeholders').at(-1)!;
    t.equal(path, '/v1/chat/completions');
    return Object.fromEntries(names.filter((name) => name in sent).map((name) => [name, sent[name]]));
  };
  const bearer = { authorization: 'Bearer sk-one' };
  t.strictSame(await sentFor({}), bearer);
  t.strictSame(await sentFor({ authorization: 'Bearer callers', cookie: 'callers' }), bearer);
  t.strictSame(await sentFor({ 'api-key': 'callers' }), { ...bearer, 'api-key': 'sk-one' });
  t.strictSame(await sentFor({ 'x-api-key': 'callers' }), { 'x-api-key': 'sk-one' }, 'as Anthropic has it');
  t.strictSame(
    await sentFor({ 'x-goog-api-key': 'callers' }),
    { 'x-goog-api-key': 'sk-one' },
    'as Gemini has it',
  );
  t.strictSame(await sentFor({ ...CALLERS }), {
    ...bearer,
    'api-key': 'sk-one',
    'x-api-key': 'sk-one',
    'x-goog-api-key': 'sk-one',
    'openai-organization': 'org-callers',
  });
});

t.test("a provider's redirect to itself comes back through the egress, and any other passes", async (t) => {
  process.env['TEST_KEY_ONE'] = 'sk-one';
  let location = '';
  const url = provider.script('moved', ({ path }, response) => {
    if (path.startsWith('/v1/chat/completions/')) sendJson(response, 200, chatAnswer());
    else response.writeHead(307, { location }).end();
  });
  const base = `${url}?key=of-the-upstream&v=1`;
  const egress = await startEgress({
    upstreams: [{ name: 'one', url: base, api_key_env: 'TEST_KEY_ONE' }],
  });
  t.teardown(() => egress.close());
  const own = new URL(url);
  const moved = `${own.pathname}/chat/completions/`;
  for (const [from, to] of [
    [`${moved}?key=of-the-upstream&v=1&x=2`, '/v1/chat/completions/?x=2'],
    [`${own.origin}${moved}?key=of-the-upstream`, '/v1/chat/completions/'],
    [`//${own.host}${moved}#there`, '/v1/chat/completions/#there'],
    ['completions/', 'completions/'],
    [`http://127.0.0.2:${own.port}${moved}`, `http://127.0.0.2:${own.port}${moved}`],
    [`${own.origin}${own.pathname}-other/x`, `${own.origin}${own.pathname}-other/x`],
    ['http://[', 'http://['],
  ] as const) {
    location = from;
    const answer = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.match(answer, { status: 307, headers: { location: to } }, from);
  }
  location = `${own.origin}${moved}`;
  const { status } = await fetch(`${egress.baseUrl}/chat/completions`, { method: 'POST', body: chat() });
  t.equal(status, 200, 'a client that follows it is served');
  t.match(provider.requests('moved').at(-1)!.headers, { authorization: 'Bearer sk-one' });
});

t.test('no path leaves the API, in any spelling, and only methods of an API pass', async (t) => {
  const url = provider.script('paths', answerWhole);
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const { hostname, port, origin } = new URL(egress.baseUrl);
  /** Nothing here tidies the path up. */
  const statusOf = (method: string, path: string): Promise<number> =>
    new Promise((resolve) => {
      let text = '';
      const socket = connect(Number(port), hostname, () =>
        socket.write(`${method} ${path} HTTP/1.1\r\nhost: ${hostname}\r\nconnection: close\r\n\r\n`),
      );
      socket.on('data', (part) => {
        text += part;
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(Number(/^HTTP\/1.1 (\d+)/.exec(text)?.[1] ?? 0)));
    });
  for (const path of [
    '/v1/../admin',
    '/v1/%2e%2e/admin',
    '/v1/.%2E/admin',
    '/v1/%252e%252e/admin',
    '/v1/%25252e%25252e/admin',
    '/v1/x/..%2f..%2f..',
    '/v1/..%5cadmin',
    '/v1/..\\admin',
    '/v1/..;a=b/admin',
    '/v1/%2e%2e%3ba/admin',
    '/v2/models',
    '/v1',
    `${origin}/v2/models`,
    `${origin}/v1/%2e%2e/admin`,
  ])
    t.equal(await statusOf('GET', path), 404, path);
  for (const path of [
    '/v1/models/org%2Fname',
    '/v1/files/a..b',
    '/v1/files/...',
    '/v1/x%zz',
    '/v1/models?x=/../',
  ])
    t.equal(await statusOf('GET', path), 200, path);
  t.strictSame(
    provider.requests('paths').map(({ path }) => path)[0],
    '/v1/models/org%2Fname',
    'as it was written',
  );
  const before = provider.requests('paths').length;
  for (const method of ['TRACE', 'OPTIONS', 'PROPFIND', 'PURGE'])
    t.equal(await statusOf(method, '/v1/models'), 405, method);
  t.equal(await statusOf('CONNECT', '/v1/models'), 0);
  for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'])
    t.equal(await statusOf(method, '/v1/files/x'), 200, method);
  t.equal(provider.requests('paths').length, before + 5);
});
