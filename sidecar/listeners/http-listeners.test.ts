// Admin, metrics and health over real sockets: what they answer, and which requests they refuse.
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, writeFileSync } from 'node:fs';
import {
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { EventLog } from '../telemetry/events.ts';
import { type AdminSource, startAdmin } from './admin.ts';
import { startHealth } from './health.ts';
import { type HttpServer, send, startHttpServer } from './http-server.ts';
import { LiveStream } from './live-stream.ts';
import { startMetrics } from './metrics.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

interface Ask {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** Sends one request on a new connection. */
function ask(
  address: string,
  path: string,
  { method = 'GET', headers = {}, body }: Ask = {},
): Promise<Answer> {
  const target = address.startsWith('unix:')
    ? { socketPath: address.slice('unix:'.length) }
    : { host: '127.0.0.1', port: Number(address.split(':').at(-1)) };
  return new Promise((resolve, reject) => {
    const request = httpRequest({ ...target, path, method, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: text }),
      );
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Sends raw bytes and returns everything received until the other side closes. */
function sendRaw(address: string, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(Number(address.split(':').at(-1)), '127.0.0.1', () => socket.write(bytes));
    socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
    socket.on('error', () => {});
    socket.on('close', () => resolve(answer));
  });
}

const LOCAL = '127.0.0.1:0';

async function startTestAdmin(t: Test, changes: Partial<AdminSource> = {}) {
  const errors: unknown[] = [];
  const done: string[] = [];
  const events = new EventLog(() => Date.UTC(2026, 0, 2), { maxReaders: 2 });
  const source: AdminSource = {
    clusters: () => ({ writing: { endpoints: [{ address: '10.0.0.7:50051', state: 'ready' }] } }),
    config: () => ({ name: 'agent' }),
    stats: () => ({ calls: 1 }),
    status: () => ({ ready: true }),
    calls: () => ({ calls: [] }),
    notReadyBecause: () => undefined,
    metrics: {
      page: async () => ({ contentType: 'text/plain', body: Buffer.from('outrigger_test_total 3\n') }),
    },
    events,
    live: {
      instance: 'first',
      snapshot: () => ({ name: 'agent' }),
      events: (afterId) => events.recent(afterId),
      calls: () => [],
    },
    drain: () => void done.push('drain'),
    drainInbound: () => void done.push('drain inbound'),
    reload: async () => {
      done.push('reload');
      return [];
    },
    ...changes,
  };
  const server = await startAdmin(LOCAL, source, (error) => errors.push(error));
  t.teardown(() => server.close());
  return { server, address: server.address, events, done, errors };
}

t.test('admin answers JSON', async (t) => {
  const { address } = await startTestAdmin(t);
  const expected: [string, unknown][] = [
    ['/clusters', { writing: { endpoints: [{ address: '10.0.0.7:50051', state: 'ready' }] } }],
    ['/config', { name: 'agent' }],
    ['/stats', { calls: 1 }],
    ['/stats?pretty', { calls: 1 }],
    ['/ready', { ok: true }],
  ];
  for (const [path, value] of expected) {
    const { status, headers, body } = await ask(address, path);
    t.equal(status, 200, path);
    t.match(headers, {
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    t.strictSame(JSON.parse(body), value);
  }
  t.match(await ask(address, '/metrics'), { status: 200, body: /^outrigger_test_total 3$/m });
  t.match(await ask(address, '/stats', { method: 'HEAD' }), { status: 200, body: '' });
});

t.test('admin answers with the reason why it is not ready', async (t) => {
  const { address } = await startTestAdmin(t, { notReadyBecause: () => 'draining' });
  const { status, body } = await ask(address, '/ready');
  t.equal(status, 503);
  t.strictSame(JSON.parse(body), { ok: false, reason: 'draining' });
});

t.test('the answer for an unknown page does not repeat the request', async (t) => {
  const { address } = await startTestAdmin(t);
  for (const path of ['/nowhere', '/<script>alert(1)</script>', '//x', '/..%2fetc/passwd', '/clusters/']) {
    const { status, body } = await ask(address, path);
    t.equal(status, 404, path);
    t.notMatch(body, /script|passwd|nowhere/);
  }
  t.match(await ask(address, '/stats', { method: 'POST' }), { status: 405, headers: { allow: 'GET' } });
  t.match(await ask(address, '/drain'), { status: 405, headers: { allow: 'POST' } });
  t.match(await ask(address, '/stats', { method: 'OPTIONS' }), { status: 405 });
});

t.test('admin accepts the commands drain and reload', async (t) => {
  const { address, done } = await startTestAdmin(t);
  t.match(await ask(address, '/reload', { method: 'POST' }), { status: 200, body: /"reloaded": true/ });
  t.match(await ask(address, '/drain', { method: 'POST', body: 'ignored' }), { status: 202 });
  t.strictSame(done, ['reload', 'drain']);

  const problem = { path: 'inbound.app', message: 'is missing' };
  const wrong = await startTestAdmin(t, { reload: async () => [problem] });
  const { status, body } = await ask(wrong.address, '/reload', { method: 'POST' });
  t.equal(status, 422);
  t.strictSame(JSON.parse(body), { reloaded: false, problems: [problem] });
});

t.test('admin refuses requests from other sites and for other names', async (t) => {
  const { address, done } = await startTestAdmin(t);
  const port = address.split(':').at(-1);
  const refused = (headers: Record<string, string>, method = 'POST') => ({ headers, method });
  const requests = [
    refused({ host: 'evil.example' }),
    refused({ host: 'evil.example' }, 'GET'),
    refused({ host: `localhost.evil.example:${port}` }, 'GET'),
    refused({ host: '127.0.0.1.evil.example' }, 'GET'),
    refused({ host: '10.0.0.1' }, 'GET'),
    refused({ host: '[::2]' }, 'GET'),
    refused({ origin: 'https://evil.example' }),
    refused({ origin: 'null' }),
    refused({ origin: `http://localhost:${port}` }),
    refused({ origin: `https://127.0.0.1:${port}` }),
    refused({ 'sec-fetch-site': 'cross-site' }),
    refused({ 'sec-fetch-site': 'same-site' }),
  ];
  for (const request of requests) {
    const answer = await ask(address, request.method === 'GET' ? '/clusters' : '/drain', request);
    t.equal(answer.status, 403, JSON.stringify(request));
    t.notMatch(answer.body, 'evil');
  }
  t.match(await sendRaw(address, 'GET /clusters HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 403 /, 'no Host at all');
  t.strictSame(done, []);
  const elsewhere = { host: `localhost:${port}`, 'sec-fetch-site': 'cross-site' };
  const link = { ...elsewhere, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
  for (const path of ['/', '/clusters', '/config', '/stats', '/calls', '/live', '/events', '/events.json']) {
    for (const headers of [
      { origin: 'http://evil.example' },
      { origin: 'null' },
      elsewhere,
      { ...elsewhere, 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' },
      { ...link, 'sec-fetch-dest': 'iframe' },
    ])
      t.equal((await ask(address, path, { headers })).status, 403, `${path} ${JSON.stringify(headers)}`);
  }
  t.equal((await ask(address, '/', { headers: link })).status, 200, 'a link opens the page');

  for (const host of [
    'localhost',
    `localhost:${port}`,
    `127.0.0.1:${port}`,
    '127.0.0.2',
    `[::1]:${port}`,
    'LOCALHOST',
  ]) {
    t.equal((await ask(address, '/clusters', { headers: { host } })).status, 200, host);
  }
  const own = {
    host: `localhost:${port}`,
    origin: `http://localhost:${port}`,
    'sec-fetch-site': 'same-origin',
  };
  t.equal((await ask(address, '/drain', { method: 'POST', headers: own })).status, 202, 'its own page');
});

t.test('the page allows its own scripts only', async (t) => {
  const { address } = await startTestAdmin(t);
  const page = await ask(address, '/');
  t.match(page, { status: 200, headers: { 'content-type': /^text\/html/ } });
  const policy = String(page.headers['content-security-policy']);
  t.match(policy, /default-src 'none'/);
  t.match(policy, /frame-ancestors 'none'/);
  t.notMatch(policy, /unsafe|\*/);
  t.notMatch(page.body, /<script>|\son\w+=|style=/, 'nothing inline, which the policy would stop');
  const files = [...page.body.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path!);
  t.ok(files.includes('/dashboard.js') && files.includes('/dashboard.css'));
  for (const path of files) t.equal((await ask(address, path)).status, 200, path);
  t.notMatch((await ask(address, '/dashboard.js')).body, /innerHTML|document\.write|eval\(/);
});

/** A reader of events on a socket, which can also stop reading. */
function readEvents(t: Test, address: string, headers = '') {
  const socket: Socket = connect(Number(address.split(':').at(-1)), '127.0.0.1');
  t.teardown(() => socket.destroy());
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  socket.on('error', () => {});
  socket.write(`GET /events HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`);
  const until = async (pattern: RegExp) => {
    while (!pattern.test(text)) await new Promise((resolve) => socket.once('data', resolve));
    return text;
  };
  return { socket, until, ids: () => [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)) };
}

t.test('the event stream sends past events first, and then new ones as they happen', async (t) => {
  const { address, events } = await startTestAdmin(t);
  events.record('reload', 'first');
  events.record('circuit', 'writing is open\n\ndata: forged', { cluster: 'writing', state: 'open' });
  const reader = readEvents(t, address);
  const before = await reader.until(/id: 2\ndata: .*\n\n/);
  t.match(before, /^HTTP\/1\.1 200 /);
  t.match(before, /content-type: text\/event-stream/i);
  events.record('drain', 'third');
  const text = await reader.until(/id: 3\n/);
  t.strictSame(reader.ids(), [1, 2, 3]);
  const [data] = /\{.*\}/.exec(text.slice(text.indexOf('id: 2')))!;
  t.strictSame(JSON.parse(data), {
    id: 2,
    at: '2026-01-02T00:00:00.000Z',
    type: 'circuit',
    message: 'writing is open\n\ndata: forged',
    details: { cluster: 'writing', state: 'open' },
  });
  const again = readEvents(t, address, 'Last-Event-ID: 2\r\n');
  await again.until(/id: 3\n/);
  t.strictSame(again.ids(), [3], 'a browser that comes back gets what it has missed');
  again.socket.destroy();
  while (events.readerCount > 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const stale = readEvents(t, address, 'Last-Event-ID: 99\r\n');
  await stale.until(/id: 3\n/);
  t.strictSame(stale.ids(), [1, 2, 3], 'an id of the run before, which this one has not given yet');

  t.match(await ask(address, '/events'), { status: 503, body: /too many readers/ });
  reader.socket.destroy();
  stale.socket.destroy();
  while (events.readerCount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.match(await ask(address, '/events', { method: 'HEAD' }), { status: 200 });
  t.equal(events.readerCount, 0);
});

t.test('events and the data of the dashboard are JSON for clients that accept JSON', async (t) => {
  const { address, events } = await startTestAdmin(t);
  events.record('reload', 'first');
  t.match(JSON.parse((await ask(address, '/events.json')).body), [{ type: 'reload', message: 'first' }]);
  events.record('circuit', 'second');
  const json = { 'content-type': 'application/json; charset=utf-8' };
  const browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';
  for (const [path, accept] of [
    ['/events?format=json', '*/*'],
    ['/events?format=json', 'text/event-stream'],
    ['/events', 'application/json'],
    ['/events', browser],
  ] as const) {
    const { status, headers, body } = await ask(address, path, { headers: { accept } });
    t.match({ status, headers }, { status: 200, headers: json }, `${path} ${accept}`);
    t.strictSame(
      (JSON.parse(body) as { message: string }[]).map(({ message }) => message),
      ['first', 'second'],
    );
  }
  t.equal(events.readerCount, 0, 'they take no place of a reader');
  for (const [path, accept] of [
    ['/events', 'text/event-stream'],
    ['/events', '*/*'],
    ['/events?format=stream', 'application/json'],
    ['/live', 'text/event-stream'],
    ['/live', '*/*'],
  ] as const) {
    const { headers } = await ask(address, path, { method: 'HEAD', headers: { accept } });
    t.match(headers, { 'content-type': 'text/event-stream' }, `${path} ${accept}`);
  }
  const live = await ask(address, '/live', { headers: { accept: 'application/json' } });
  t.match(live, { status: 200, headers: json });
  t.match(JSON.parse(live.body), {
    instance: 'first',
    name: 'agent',
    events: [{ message: 'first' }, { message: 'second' }],
    calls: [],
  });
});

t.test('the stream drops a reader that does not read, and continues for the others', async (t) => {
  const { address, events } = await startTestAdmin(t);
  const slow = readEvents(t, address);
  await slow.until(/retry: /);
  slow.socket.pause();
  const good = readEvents(t, address);
  await good.until(/retry: /);
  t.equal(events.readerCount, 2);
  const message = 'x'.repeat(500);
  let last = 0;
  // Write until the buffers of the kernel are full, too.
  for (; events.readerCount === 2 && last < 200_000; last++) {
    events.record('reload', message);
    if (last % 50 === 0) await good.until(new RegExp(`id: ${last + 1}\n`));
  }
  t.equal(events.readerCount, 1);
  await good.until(new RegExp(`id: ${last}\n`));
  t.equal(events.recent().length, 256, 'the ring is bounded');
});

/** Returns the names of the events that a reader of `/live` receives. */
function readLive(t: Test, address: string) {
  const socket = connect(Number(address.split(':').at(-1)), '127.0.0.1');
  t.teardown(() => socket.destroy());
  const seen = { text: '', closed: false };
  socket.setEncoding('utf8').on('data', (chunk: string) => (seen.text += chunk));
  socket.on('error', () => {});
  socket.on('close', () => (seen.closed = true));
  socket.write('GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const until = async (done: () => boolean) => {
    while (!done()) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const names = () => [...seen.text.matchAll(/^event: (\w+)$/gm)].map(([, name]) => name!);
  return { socket, seen, until, names };
}

t.test('the dashboard gets the recent events first, and then a snapshot each second', async (t) => {
  const { address, events } = await startTestAdmin(t);
  events.record('reload', 'first');
  const reader = readLive(t, address);
  await reader.until(() => reader.names().filter((name) => name === 'snapshot').length >= 2);
  t.strictSame(reader.names().slice(0, 4), ['hello', 'events', 'snapshot', 'snapshot']);
  t.match(reader.seen.text, /^data: {"instance":"first"}$/m);
  events.record('circuit', 'second');
  await reader.until(() => reader.seen.text.includes('second'));
  t.equal(reader.seen.text.split('"first"').length, 3, 'nothing comes twice');
  t.match(await ask(address, '/live', { method: 'HEAD' }), { status: 200 });

  const readers = Array.from({ length: 15 }, () => readLive(t, address));
  for (const { until, names } of readers) await until(() => names().includes('snapshot'));
  t.match(await ask(address, '/live'), { status: 503, body: /too many dashboards/ });
  for (const { socket } of readers) socket.destroy();
  await reader.until(() => reader.seen.text.length > 0);
  let status = 503;
  while (status === 503) ({ status } = await ask(address, '/live', { method: 'HEAD' }));
  t.equal(status, 200, 'there is room again');
});

t.test(
  'a dashboard that does not read misses snapshots, costs no memory, and loses its connection',
  async (t) => {
    const source = {
      instance: 'first',
      snapshot: () => ({ text: 'x'.repeat(1_000_000) }),
      events: () => [],
      calls: () => [],
    };
    const onError = (error: unknown) => void t.fail(String(error));
    const live = new LiveStream(source, onError, { everyMs: 10 });
    let queuedBytes = 0;
    const handle = (request: IncomingMessage, response: ServerResponse) => {
      live.handle(request, response);
      const write = response.write.bind(response);
      response.write = ((text: string) => {
        const answer = write(text);
        queuedBytes = Math.max(queuedBytes, response.writableLength);
        return answer;
      }) as typeof response.write;
    };
    const route = { method: 'GET', path: '/live', handle } as const;
    const server = await startHttpServer({ setting: 'x', listen: LOCAL, routes: [route], onError });
    t.teardown(() => server.close());
    const reader = readLive(t, server.address);
    await reader.until(() => live.readerCount === 1);
    reader.socket.pause();
    await reader.until(() => live.readerCount === 0);
    t.ok(queuedBytes < 3_000_000, `${queuedBytes} bytes waited at most, of snapshots of a megabyte`);
  },
);

t.test('a defect in a snapshot ends the stream of the dashboard and reaches the log', async (t) => {
  let works = true;
  const live = {
    instance: 'first',
    snapshot: () => {
      if (!works) throw new Error('a defect');
      return {};
    },
    events: () => [],
    calls: () => [],
  };
  const { address, errors } = await startTestAdmin(t, { live });
  const reader = readLive(t, address);
  await reader.until(() => reader.names().includes('snapshot'));
  works = false;
  await reader.until(() => reader.seen.closed);
  t.match(errors, [{ message: 'a defect' }]);
});

t.test('bad requests cost their own connection only', async (t) => {
  const { address } = await startTestAdmin(t);
  const host = 'Host: localhost\r\n';
  t.match(await sendRaw(address, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400 Bad Request\r\n/);
  t.match(await sendRaw(address, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), /^HTTP\/1\.1 400 /);
  const long = `GET / HTTP/1.1\r\n${host}X: ${'x'.repeat(20_000)}\r\n\r\n`;
  t.match(await sendRaw(address, long), /^HTTP\/1\.1 431 /);
  const smuggled = `GET / HTTP/1.1\r\n${host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`;
  t.match(await sendRaw(address, smuggled), /^HTTP\/1\.1 400 /);
  const body = `POST /reload HTTP/1.1\r\n${host}Content-Length: 1000000\r\n\r\n${'x'.repeat(1_000_000)}`;
  await sendRaw(address, body);
  t.equal((await ask(address, '/stats')).status, 200);
});

t.test('refused clients that never close take no place from others', async (t) => {
  const { address } = await startTestAdmin(t);
  const port = Number(address.split(':').at(-1));
  const refusals = Array.from({ length: 128 }, () => {
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    t.teardown(() => void socket.destroy());
    socket.write('nonsense\r\n\r\n');
    return new Promise((resolve) => socket.once('end', resolve).resume());
  });
  await Promise.all(refusals);
  t.equal((await ask(address, '/stats')).status, 200);
});

t.test('a defect becomes 500 without its text', async (t) => {
  const failure = new Error('secret detail');
  const fail = () => {
    throw failure;
  };
  const { address, errors } = await startTestAdmin(t, { clusters: fail, reload: async () => fail() });
  t.match(await ask(address, '/clusters'), { status: 500, body: /internal error/ });
  const { status, body } = await ask(address, '/reload', { method: 'POST' });
  t.equal(status, 500);
  t.notMatch(body, 'secret');
  t.strictSame(errors, [failure, failure]);
  t.equal((await ask(address, '/stats')).status, 200);
});

t.test('health answers the probes', async (t) => {
  let notReady: string | undefined;
  let notLive: string | undefined;
  const source = { notLiveBecause: () => notLive, notReadyBecause: () => notReady };
  const server = await startHealth(LOCAL, source, (error) => t.fail(String(error)));
  t.teardown(() => server.close());
  const { address } = server;
  const host = { headers: { host: '10.1.2.3:15021' } };
  t.match(
    await ask(address, '/healthz/live', host),
    { status: 200 },
    'a kubelet comes by the address of the pod',
  );
  t.match(await ask(address, '/healthz/ready', host), { status: 200, body: /"ok": true/ });
  notReady = 'the app at 127.0.0.1:50051 does not answer';
  t.match(await ask(address, '/healthz/ready'), { status: 503, body: /does not answer/ });
  t.match(await ask(address, '/healthz/live'), { status: 200 });
  notLive = 'stuck';
  t.match(await ask(address, '/healthz/live'), { status: 503 });
  t.match(await ask(address, '/healthz'), { status: 404 });
});

t.test('metrics answers Prometheus in the format that it accepts', async (t) => {
  const source = {
    page: async (accept: string | undefined) => ({
      contentType: 'text/x-test',
      body: Buffer.from(`asked for ${accept}\n`),
    }),
  };
  const server = await startMetrics(LOCAL, source, (error) => t.fail(String(error)));
  t.teardown(() => server.close());
  const { status, headers, body } = await ask(server.address, '/metrics', {
    headers: { accept: 'application/openmetrics-text' },
  });
  t.equal(status, 200);
  t.match(headers, { 'content-type': 'text/x-test', vary: 'Accept' });
  t.equal(body, 'asked for application/openmetrics-text\n');
  t.match(await ask(server.address, '/'), { status: 404 });
});

t.test('the server closes the connection of a client that does not read its page', async (t) => {
  const page = 'x'.repeat(32 << 20);
  let onClose = (): void => {};
  const server = await startHttpServer({
    setting: 'metrics.listen',
    listen: LOCAL,
    onError: (error) => t.fail(String(error)),
    routes: [
      {
        method: 'GET',
        path: '/metrics',
        handle: (_request, response) => {
          response.on('close', () => onClose());
          send(response, 200, 'text/plain', page, 1_000);
        },
      },
    ],
  });
  t.teardown(() => server.close());
  const socket = connect(Number(server.address.split(':').at(-1)), '127.0.0.1');
  const closed = new Promise((resolve) => socket.on('error', () => {}).on('close', resolve));
  socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
  socket.pause();
  // The client notices the end only when it reads.
  onClose = () => socket.resume();
  let read = 0;
  socket.on('data', (chunk: Buffer) => (read += chunk.length));
  socket.pause();
  await closed;
  t.ok(read < page.length, `${read} bytes`);
  const { status, body } = await ask(server.address, '/metrics');
  t.equal(status, 200);
  t.equal(body.length, page.length, 'who reads gets all of it');
});

t.test('the server listens', async (t) => {
  const start = (listen: string): Promise<HttpServer> => {
    return startHttpServer({ setting: 'admin.listen', listen, routes: [], onError: () => {} });
  };
  const first = await start(LOCAL);
  t.match(first.address, /^127\.0\.0\.1:[1-9]\d*$/, 'port 0 becomes a real one');
  await t.rejects(start(first.address), {
    name: 'ListenError',
    code: 'EADDRINUSE',
    message: `admin.listen: can not listen on ${first.address}: the address is in use; stop the process that listens there, or choose another port`,
  });
  await t.rejects(start('192.0.2.1:0'), { code: 'EADDRNOTAVAIL' });
  const idle = connect(Number(first.address.split(':').at(-1)), '127.0.0.1');
  await new Promise((resolve) => idle.once('connect', resolve));
  await first.close();
  t.pass('an open connection does not hold up the end');

  const directory = t.testdir({});
  const path = `${directory}/admin.sock`;
  const unix = await start(`unix:${path}`);
  t.match(await ask(unix.address, '/'), { status: 404 });
  await t.rejects(start(`unix:${path}`), { code: 'EADDRINUSE' });
  await unix.close();
  await t.rejects(start(`unix:${directory}/nowhere/x.sock`), {
    name: 'ListenError',
    message: /the folder of the socket does not exist; create it/,
  });

  // A killed process leaves a socket on which no process accepts.
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  t.ok(lstatSync(path).isSocket());
  const replaced = await start(`unix:${path}`);
  t.match(await ask(replaced.address, '/'), { status: 404 });
  await replaced.close();
  writeFileSync(`${directory}/file`, '');
  await t.rejects(start(`unix:${directory}/file`), {
    name: 'ListenError',
    message: /the path names a file that is no socket; remove it/,
  });
  t.ok(existsSync(`${directory}/file`), 'a file that is no socket is not removed');
});
