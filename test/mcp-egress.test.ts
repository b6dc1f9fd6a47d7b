// What the MCP egress does beside carrying calls: the list of tools, keys, bounds, budgets, cache, redirects, circuit, and what it says of them.
import { writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import { TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startMcp } from '../scripts/harness/mcp-listener.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { validate } from '../sidecar/config/validate.ts';
import { findWarnings } from '../sidecar/config/warnings.ts';
import { startCounting } from './support/mcp-server.ts';
import { ask, callTool, META, reasonOf, TestRuns } from './support/mcp-tasks.ts';
import { startOtlpReceiver } from './support/otlp-receiver.ts';
import { CLIENT, tracingTo } from './support/tracing.ts';

t.test('an agent sees and calls the listed tools alone, and the server gets our key', async (t) => {
  const server = await startCounting(t, {});
  const file = join(t.testdir({ key: 'first-key\n' }), 'key');
  const servers = {
    some: { url: server.url, tools: ['re*', 'put'], api_key_file: file, headers: { 'x-tenant': 'me' } },
    all: { url: server.url },
  };
  const mcp = await startMcp({ servers });
  t.teardown(() => mcp.close());
  const url = mcp.url('some');
  const authorization = 'Bearer of-the-agent';
  const list = await ask(url, 'tools/list', {}, { authorization });
  t.match(list.result, { tools: [{ name: 'put' }, { name: 'read' }] });
  t.equal((list.result as unknown as { tools: unknown[] }).tools.length, 2);
  t.match(server.heads.at(-1)!.headers, { authorization: 'Bearer first-key', 'x-tenant': 'me' });
  t.match((await callTool(url, 'read')).result, { content: [{ text: 'read 1' }] });
  const refused = await callTool(url, 'write');
  t.match(refused, { status: 200, error: { code: -32_602, message: /Unknown tool: write/ } });
  t.equal(reasonOf(refused), 'tool_not_allowed');
  t.equal(server.effects.of('write'), 0);
  const lied = await callTool(url, 'read', {}, { 'mcp-name': 'write' });
  t.match(lied, { status: 400, error: { code: -32_020 } });

  writeFileSync(file, 'second-key-now\n');
  await waitUntil('the new key is used', async () => {
    await ask(url, 'tools/list');
    return server.heads.at(-1)!.headers.authorization === 'Bearer second-key-now';
  });
  await ask(mcp.url('all'), 'tools/list', {}, { authorization });
  t.equal(
    server.heads.at(-1)!.headers.authorization,
    authorization,
    'without a key of ours the agent has its own',
  );
});

t.test('no spelling of a call gets around the list of tools', async (t) => {
  const server = await startCounting(t, {
    before: (_request, response) => {
      response.writeHead(421, { 'outrigger-reason': 'forged', 'x-own': 'passes' }).end();
      return true;
    },
  });
  const mcp = await startMcp({ servers: { tools: { url: server.url, tools: ['read'] } } });
  t.teardown(() => mcp.close());
  const post = (body: string) =>
    fetch(mcp.url('tools'), { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const head = '"jsonrpc":"2.0","id":1';
  for (const body of [
    `{${head},"method":"tools/call","params":{"name":"write","name":"read"}}`,
    `{${head},"method":"tools/call","params":{"name":"write"},"params":{"name":"read"}}`,
    `{${head},"method":"tools/call","params":{"name":"read","Name":"write"}}`,
    `{${head},"method":"tools/call","params":{"name":"read","n\\u0061me":"write"}}`,
    `{${head},"method":"tools/call","params":{"name":"read"},"Params":{"name":"write"}}`,
    `{${head},"method":"tools/call","params":{"name":"read"},"param\u017f":{"name":"write"}}`,
    `{${head},"method":"ping","Method":"tools/call","params":{"name":"write"}}`,
    `{${head},"method":"tools/call","method":"ping","params":{"name":"write"}}`,
    `[{${head},"method":"ping"},{${head},"method":"tools/call","params":{"name":"write","name":"read"}}]`,
    '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"write"}}',
    '{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"write"}}',
  ]) {
    const { status } = await post(body);
    t.equal(status, 400, body);
  }
  t.equal(server.heads.length, 0, 'nothing was sent');
  const nested = { name: 'read', arguments: { name: 'a', Name: 'b "quoted\\', params: { name: 1 } } };
  const said = await callTool(mcp.url('tools'), 'read', nested.arguments);
  t.equal(server.heads.length, 1, 'arguments are the tool’s own, and a 421 is not sent again');
  t.equal(reasonOf(said), 'outcome_unknown', 'no header of the server is taken for ours');
  const listed = await fetch(mcp.url('tools'), { headers: { accept: 'text/event-stream' } });
  t.equal(listed.headers.get('outrigger-reason'), null);
  t.equal(listed.headers.get('x-own'), 'passes');
});

t.test('what no agent sends is refused', async (t) => {
  const server = await startCounting(t, {});
  const mcp = await startMcp({
    servers: { tools: { url: server.url } },
    limits: { max_request_bytes: '2KiB' },
  });
  t.teardown(() => mcp.close());
  const url = mcp.url('tools');
  const post = (headers: Record<string, string>, body = '{}', to: URL = url) =>
    fetch(to, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
  t.equal((await post({ origin: 'https://evil.example' })).status, 403, 'a web page');
  t.equal((await post({ 'sec-fetch-site': 'cross-site' })).status, 403);
  t.equal((await post({}, 'x'.repeat(3_000))).status, 413);
  t.equal((await post({}, '{')).status, 400);
  t.equal((await post({}, '{}', new URL('/mcp/other', url))).status, 404);
  t.equal((await fetch(url, { method: 'PUT' })).status, 405);
  const two = JSON.stringify([1, 2].map((id) => ({ jsonrpc: '2.0', id, method: 'ping' })));
  t.equal(
    (await post({ 'mcp-protocol-version': '2025-06-18' }, two)).status,
    400,
    'a batch in a later revision',
  );
  t.equal(server.heads.length, 0);
  await post({}, two);
  t.equal(server.heads.length, 1, 'and in the one that has them');
});

t.test('lists are cached for as long as the server says, and a task has its calls', async (t) => {
  const server = await startCounting(t, { ttlMs: 60_000 });
  const runs = new TestRuns();
  const mcp = await startMcp(
    { servers: { tools: { url: server.url } }, limits: { calls_per_task: 2 } },
    { ownerCalls: runs },
  );
  t.teardown(() => mcp.close());
  const url = mcp.url('tools');
  const first = await ask(url, 'tools/list');
  const second = await ask(url, 'tools/list');
  t.equal(second.headers.get('outrigger-cache'), 'hit');
  t.same(Object.keys(second.result!), Object.keys(first.result!));
  t.equal(server.effects.lists, 1);
  await ask(url, 'tools/list', {}, { authorization: 'Bearer somebody-else' });
  t.equal(server.effects.lists, 2, 'not for somebody else');

  runs.begin('run', 'task');
  for (const n of [1, 2]) t.notOk(reasonOf(await callTool(url, 'write', { n }, { 'x-run': 'run' })));
  const third = await callTool(url, 'write', { n: 3 }, { 'x-run': 'run' });
  t.equal(reasonOf(third), 'budget_exhausted');
  t.equal(third.result?.isError, true);
  t.equal(server.effects.of('write', { n: 3 }), 0);

  runs.begin('slow', 'slow task');
  const slow = callTool(url, 'slow', {}, { 'x-run': 'slow' });
  await waitUntil('the tool runs', () => server.effects.slow === 1);
  runs.lose('slow');
  t.equal(reasonOf(await slow), 'outcome_unknown');
  await waitUntil('the end of the task has cancelled its call', () => server.effects.cancelled > 0);
});

t.test('a server with sessions hears that nobody waits for an answer any more', async (t) => {
  // It takes no lost connection for a cancel.
  const server = await startCounting(t, { kind: 'sessions', resumable: true });
  const servers = { tools: { url: server.url } };
  const [patient, hasty] = [await startMcp({ servers }), await startMcp({ servers, timeout: '1s' })];
  for (const one of [patient, hasty]) t.teardown(() => one.close());
  const open = async (url: URL) => {
    const headers: Record<string, string> = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    };
    const post = (message: object, signal?: AbortSignal) =>
      fetch(url, {
        method: 'POST',
        headers,
        body: JSON.stringify({ jsonrpc: '2.0', ...message }),
        ...(signal === undefined ? {} : { signal }),
      });
    const clientInfo = { name: 'test', version: '1' };
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo };
    const opened = await post({ id: 0, method: 'initialize', params });
    headers['mcp-session-id'] = opened.headers.get('mcp-session-id')!;
    headers['mcp-protocol-version'] = '2025-11-25';
    await post({ method: 'notifications/initialized' });
    const slow = { id: 1, method: 'tools/call', params: { name: 'slow', arguments: {} } };
    return (signal?: AbortSignal) => post(slow, signal);
  };
  const leaving = new AbortController();
  const left = (await open(patient.url('tools')))(leaving.signal);
  await waitUntil('the tool runs', () => server.effects.slow === 1);
  leaving.abort();
  await t.rejects(left);
  await waitUntil('the server has heard that the client left', () => server.effects.cancelled === 1);
  const late = await (await open(hasty.url('tools')))();
  t.equal(late.headers.get('outrigger-reason'), 'outcome_unknown');
  await waitUntil('the server has heard that the time is over', () => server.effects.cancelled === 2);
});

t.test('a redirect within the server is followed, a dead server opens its circuit', async (t) => {
  const server = await startCounting(t, {
    before: (request, response) => {
      if (request.url !== '/mcp') return false;
      response.writeHead(307, { location: '/mcp/' }).end();
      return true;
    },
  });
  const changes: string[] = [];
  const mcp = await startMcp(
    {
      servers: { tools: { url: server.url }, dead: { url: `http://127.0.0.1:${await freePort()}/mcp` } },
      circuit_breaker: { min_calls: 2 },
      retry: { max_attempts: 1 },
    },
    { onBreaker: (name, from, to) => changes.push(`${name} ${from} ${to}`) },
  );
  t.teardown(() => mcp.close());
  t.match((await callTool(mcp.url('tools'), 'write')).result, { content: [{ text: 'write 1' }] });
  await waitUntil('the circuit is open', async () => {
    const said = await callTool(mcp.url('dead'), 'write');
    return reasonOf(said) === 'circuit_open' && said.result?.isError === true;
  });
  t.same(changes, ['dead closed open']);
  t.equal((await ask(mcp.url('dead'), 'tools/list')).status, 503);
});

t.test('callers and servers show certificates where the configuration asks for them', async (t) => {
  const authority = await TestAuthority.make();
  const [ours, agent, sidecar, next, stranger] = await Promise.all([
    authority.issue({ names: ['127.0.0.1'] }),
    authority.issue({ names: ['spiffe://cluster/agents'] }),
    authority.issue({ names: ['spiffe://cluster/first'] }),
    authority.issue({ names: ['spiffe://cluster/second'] }),
    TestAuthority.make('other').then((other) => other.issue({ names: ['spiffe://cluster/agents'] })),
  ]);
  const files = t.testdir({
    'ca.pem': authority.ca,
    'cert.pem': ours.cert,
    'key.pem': ours.key,
    'client.pem': sidecar.cert,
    'client-key.pem': sidecar.key,
  });
  const at = (name: string) => join(files, name);
  // A real server behind TLS that asks for a certificate.
  const server = await startCounting(t, {});
  const seen: (string | undefined)[] = [];
  const front = createTlsServer(
    { cert: ours.cert, key: ours.key, ca: authority.ca, requestCert: true, rejectUnauthorized: true },
    (socket) => {
      seen.push(socket.getPeerX509Certificate()?.subjectAltName);
      const to = connect(server.port, '127.0.0.1');
      socket.pipe(to).pipe(socket);
      for (const one of [socket, to]) one.on('error', () => {});
    },
  );
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  t.teardown(() => front.close());
  const url = `https://127.0.0.1:${(front.address() as AddressInfo).port}/mcp`;
  // A connection for each call.
  const headers = { connection: 'close' };
  const own = { cert: at('client.pem'), key: at('client-key.pem') };
  const mcp = await startMcp({
    tls: { cert: at('cert.pem'), key: at('key.pem'), client_ca: at('ca.pem') },
    servers: {
      tools: { url, ca: at('ca.pem'), ...own, headers },
      nameless: { url, ca: at('ca.pem'), headers },
    },
  });
  t.teardown(() => mcp.close());
  const call = (name: string, shown: object) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const body = JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'write', arguments: {}, _meta: META },
      });
      const request = httpsRequest(
        {
          port: mcp.url(name).port,
          host: '127.0.0.1',
          path: `/mcp/${name}`,
          method: 'POST',
          ca: authority.ca,
          agent: false,
          headers: {
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            'mcp-protocol-version': META['io.modelcontextprotocol/protocolVersion'],
            'mcp-method': 'tools/call',
            'mcp-name': 'write',
          },
          ...shown,
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
          response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  t.match(await call('tools', agent), { status: 200, text: /write 1/ });
  t.match(await call('nameless', agent), {
    status: 200,
    text: /outcome of this call is unknown|nothing was sent/,
  });
  for (const [shown, reason] of [
    [{}, 'tls_no_certificate'],
    [stranger, 'tls_'],
  ] as const) {
    const refused = await call('tools', shown);
    t.equal(refused.status, 401);
    t.match(JSON.parse(refused.text), {
      jsonrpc: '2.0',
      error: { data: { 'outrigger/reason': new RegExp(reason) } },
    });
  }
  const plain = await callTool(mcp.url('tools'), 'write');
  t.equal(plain.status, 400, 'nor in plain text');
  t.match(plain.error, { message: /accepts TLS only/ });
  t.equal(server.effects.of('write'), 1);
  writeFileSync(own.key, next.key);
  writeFileSync(own.cert, next.cert);
  t.match(await call('tools', agent), { status: 200, text: /write 2/ });
  t.same(seen.filter(Boolean), ['URI:spiffe://cluster/first', 'URI:spiffe://cluster/second'], 'renewed');
});

t.test('slow readers, many streams and a silent server cost their neighbours nothing', async (t) => {
  const EVENT = Buffer.from(
    `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'x/y', params: { p: 'p'.repeat(65_536) } })}\n\n`,
  );
  const OFFERED = 64 * 1024 * 1024;
  const taken = new Map<string, number>();
  const streams = new Set<ServerResponse>();
  const endless = createServer((request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    if (request.method === 'GET') {
      response.flushHeaders();
      streams.add(response);
      response.on('close', () => streams.delete(response));
      return;
    }
    const id = String(request.headers['x-reader']);
    taken.set(id, 0);
    const offer = (): void => {
      while (taken.get(id)! < OFFERED && !response.destroyed) {
        taken.set(id, taken.get(id)! + EVENT.length);
        if (!response.write(EVENT)) return void response.once('drain', offer);
      }
    };
    offer();
  });
  const silent = createTcpServer((socket) => socket.on('error', () => {}).resume());
  for (const one of [endless, silent]) {
    await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve));
    t.teardown(() => one.close());
  }
  const urlOf = (one: { address(): unknown }) =>
    `http://127.0.0.1:${(one.address() as AddressInfo).port}/mcp`;
  const good = await startCounting(t, {});
  const mcp = await startMcp({
    servers: { endless: { url: urlOf(endless) }, silent: { url: urlOf(silent) }, good: { url: good.url } },
    first_byte_timeout: '500ms',
    retry: { max_attempts: 1 },
  });
  t.teardown(() => mcp.close());
  const sockets: Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const open = (text: string): void => {
    const url = mcp.url('endless');
    const socket = connect(Number(url.port), url.hostname, () => socket.write(text));
    sockets.push(socket.on('error', () => {}));
    // It reads nothing.
    socket.pause();
  };
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'any' } });
  const READERS = 20;
  for (let reader = 0; reader < READERS; reader++)
    open(
      `POST /mcp/endless HTTP/1.1\r\nhost: localhost\r\nx-reader: ${reader}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
  const STREAMS = 200;
  for (let stream = 0; stream < STREAMS; stream++)
    open('GET /mcp/endless HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n');
  await waitUntil('all streams are open', () => streams.size === STREAMS && taken.size === READERS);
  const calls = Array.from({ length: 20 }, (_, n) => callTool(mcp.url('good'), 'write', { n }));
  for (const said of await Promise.all(calls)) t.match(said.result, { content: [{ text: 'write 1' }] });
  let before = -1;
  const sum = (): number => [...taken.values()].reduce((all, one) => all + one, 0);
  await waitUntil('nothing more is taken from the server', () => {
    const now = sum();
    const isStill = now === before;
    before = now;
    return isStill && now > 0;
  });
  t.ok(sum() < (READERS * OFFERED) / 2, `${sum()} bytes of ${READERS * OFFERED} were taken`);
  t.match(await callTool(mcp.url('silent'), 'write'), { result: { isError: true } });
  t.equal((await ask(mcp.url('silent'), 'tools/list')).status, 504);
  for (const socket of sockets) socket.destroy();
  await waitUntil('nothing is left', () => mcp.listener.activeRequests === 0 && streams.size === 0);
  t.equal(mcp.listener.stats.streams, 0);
});

t.test('`check` names what is wrong with servers', async (t) => {
  const at = (mcp: object): string => {
    const validated = validate({ mcp });
    const findings = 'findings' in validated ? validated.findings : findWarnings(validated.file, { mcp });
    return findings.map(({ path, message }) => `${path.join('.')} ${message}`).join('\n');
  };
  const url = 'http://tools:8000/mcp';
  t.match(
    at({ servers: { a: { url: 'http://127.0.0.1:15003/mcp/a' } } }),
    /mcp.servers.a.url is our own mcp.listen/,
  );
  t.match(at({ listen: '0.0.0.0:15003', servers: { a: { url } } }), /mcp.listen is open beyond this machine/);
  const tls = { cert: 'no-file', key: 'no-file' };
  t.match(
    at({ listen: '0.0.0.0:15003', tls, servers: { a: { url } } }),
    /mcp.listen is open beyond this machine/,
  );
  t.notMatch(
    at({ listen: '0.0.0.0:15003', tls: { ...tls, client_ca: 'no-file' }, servers: { a: { url } } }),
    /is open beyond/,
    'callers show a certificate',
  );
  t.match(at({ tls, servers: { a: { url } } }), /mcp.tls.cert is not the path of a readable file/);
  t.match(at({ servers: { a: { url, cert: 'no-file' } } }), /servers.a.cert has no use without key/);
  t.match(at({ listen: '127.0.0.1:15002', servers: { a: { url } } }), /also the address of llm.listen/);
  t.equal(at({ listen: '127.0.0.1:15002' }), '', 'without a server nothing listens');
  t.match(
    at({ servers: { a: { url, tools: ['read_*', 'read_file'] } } }),
    /mcp.servers.a.tools.1 adds no tool/,
  );
  t.match(at({ servers: { a: { url, tools: [] } } }), /sees no tool/);
});

t.test('`check --live` asks each server for its tools', async (t) => {
  const sessions = await startCounting(t, { kind: 'sessions', answers: 'sse' });
  const stateless = await startCounting(t, {});
  const locked = await startCounting(t, {
    before: (request, response) => {
      if (request.headers.authorization === 'Bearer the-key') return false;
      response.writeHead(401).end();
      return true;
    },
  });
  const file = join(t.testdir({ 'outrigger.yaml': '' }), 'outrigger.yaml');
  const dead = `http://127.0.0.1:${await freePort()}/mcp`;
  const servers = {
    sessions: { url: sessions.url },
    stateless: { url: stateless.url, tools: ['re*', 'nothing'] },
    locked: { url: locked.url },
    open: { url: locked.url, api_key_env: 'TOOL_KEY' },
    dead: { url: dead },
  };
  writeFileSync(file, JSON.stringify({ inbound: { app: 'none' }, mcp: { servers } }));
  const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
  const args = [main, 'check', '--config', file, '--live', '--output', 'json'];
  const { output } = await runProcess(t, process.execPath, args, { env: { TOOL_KEY: 'the-key' } });
  const { results } = JSON.parse(output.slice(output.indexOf('{\n'))) as {
    results: { path: string; level: string; message: string }[];
  };
  const of = (name: string) => results.find(({ path }) => path.startsWith(`mcp.servers.${name}`));
  t.match(of('sessions'), { level: 'ok', message: /7 of its 7 tools/ });
  t.equal(sessions.sessions, 0, 'the session is ended');
  t.match(of('stateless'), { level: 'warning', message: /no tool for nothing; it has write, put/ });
  t.match(of('locked'), { level: 'problem', message: /refuses us \(401\)/ });
  t.match(of('open'), { level: 'ok' });
  t.match(of('dead'), { level: 'problem', message: /ECONNREFUSED/ });
  t.notMatch(output, 'the-key');
});

const traceparentOf = (digit: string): string => `00-${digit.repeat(32)}-${digit.repeat(16)}-01`;

t.test('a sidecar tells of its tool servers, and moves with its configuration', async (t) => {
  const server = await startCounting(t, {
    before: (request, response) => {
      const isCut = request.headers['mcp-name'] === 'put';
      if (isCut) response.destroy();
      return isCut;
    },
  });
  const listen = `127.0.0.1:${await freePort()}`;
  const servers = { tools: { url: server.url } };
  const config = {
    mcp: { listen, servers, circuit_breaker: { failure_percent: 0 } },
    log: { access: true },
  };
  const receiver = await startOtlpReceiver(t);
  const sidecar = await startSidecar(t, config, { until: 'live', env: tracingTo(receiver) });
  const url = new URL(`http://${listen}/mcp/tools`);
  t.match((await callTool(url, 'write', {}, { 'x-task-id': 'a-task' })).result, {
    content: [{ text: 'write 1' }],
  });
  await callTool(url, 'fail');
  const page = async (path: string) => (await fetch(`http://127.0.0.1:${sidecar.adminPort}${path}`)).text();
  const metrics = await page('/metrics');
  t.match(metrics, /outrigger_tool_runs_total\{server="tools",tool="write",outcome="success"\} 1/);
  t.match(metrics, /outrigger_tool_runs_total\{server="tools",tool="fail",outcome="tool_error"\} 1/);
  t.match(metrics, /outrigger_mcp_circuit_state\{server="tools"\} 0/);
  t.match(JSON.parse(await page('/stats')), {
    mcp: { address: listen, servers: [{ name: 'tools', state: 'closed' }] },
  });
  t.notMatch(metrics, /tool_server_fails/);
  for (let call = 0; call < 3; call++) await callTool(url, 'put');
  await waitUntil('"Now" names the server that fails', async () =>
    /outrigger_findings\{kind="tool_server_fails",severity="bad".*tool_server="tools".*\} 1/.test(
      await page('/metrics'),
    ),
  );
  await callTool(url, 'write');
  await waitUntil(
    'an answer ends the finding',
    async () => !/tool_server_fails.* 1/.test(await page('/metrics')),
  );
  // The context of the agent, in a header and in `_meta`.
  await callTool(url, 'write', { secret: 'never-in-a-span' }, { traceparent: traceparentOf('a') });
  await ask(url, 'tools/call', { name: 'fail', _meta: { traceparent: traceparentOf('b') } });
  await callTool(url, 'put', {}, { traceparent: traceparentOf('c') });
  await ask(url, 'tools/list', {}, { traceparent: traceparentOf('d') });
  const inTrace = (digit: string) => receiver.spans.find(({ traceId }) => traceId === digit.repeat(32));
  await receiver.until('the spans of four requests', () => ['a', 'b', 'c', 'd'].every(inTrace));
  const [host, port] = new URL(server.url).host.split(':');
  t.match(inTrace('a'), {
    name: 'execute_tool write',
    kind: CLIENT,
    parentSpanId: 'a'.repeat(16),
    attributes: {
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': 'write',
      'mcp.method.name': 'tools/call',
      'mcp.protocol.version': '2026-07-28',
      'server.address': host,
      'server.port': Number(port),
      'outrigger.mcp.server': 'tools',
    },
  });
  const sent = server.heads.find(({ headers }) => headers.traceparent?.includes('a'.repeat(32)));
  t.match(sent?.headers.traceparent, inTrace('a')!.spanId, 'the server goes on below our span');
  t.match(inTrace('b'), {
    name: 'execute_tool fail',
    parentSpanId: 'b'.repeat(16),
    attributes: { 'error.type': 'tool_error' },
  });
  t.match(inTrace('c'), { parentSpanId: 'c'.repeat(16), attributes: { 'error.type': 'outcome_unknown' } });
  t.match(inTrace('d'), { name: 'tools/list', parentSpanId: 'd'.repeat(16) });
  const text = JSON.stringify(receiver.spans, (_, value) => (typeof value === 'bigint' ? `${value}` : value));
  t.notMatch(text, /never-in-a-span/, 'without arguments');
  await waitUntil('the line is written', () => sidecar.logs().includes('"tool":"write"'));
  t.match(
    sidecar.logs(),
    /"listener":"mcp","server":"tools","method":"tools\/call","tool":"write".*"task_id":"a-task"/,
  );
});
