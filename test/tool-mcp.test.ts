// The tool runner by MCP: official clients at each revision, cancellation, progress, traces, and who may call.
import { writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startOtlpReceiver } from './support/otlp-receiver.ts';
import { processesWith, startToolRunner, ToolRunnerClient } from './support/tool-runner.ts';

t.setTimeout(180_000);
const skip =
  skipWithout('bwrap', 'confine', 'mcp-node', 'mcp-node-v1', 'mcp-python') ||
  (process.getuid?.() !== 0 && 'needs root to become another user');

const key = 'a-key-of-sixteen-characters-or-more';
const bearer = { authorization: `Bearer ${key}` };
const env = { MCP_KEY: key, MCP_OTHER: `${key}-too` };
const keys = [
  { name: 'agents', env: 'MCP_KEY' },
  { name: 'others', env: 'MCP_OTHER' },
];
const sleeping = (mark: string) => `: ${mark}; sleep 300; :`;
const runs = (mark: string) => waitUntil(`${mark} runs`, () => processesWith(mark, '/bin/sh').length > 0);
const gone = (mark: string) =>
  waitUntil(`${mark} is gone`, () => processesWith(mark, '/bin/sh').length === 0);

async function scene(t: Test, mcp: object = {}, more: object = {}, moreEnv: Record<string, string> = {}) {
  const listen = `127.0.0.1:${await freePort()}`;
  const runner = await startToolRunner(t, { mcp: { listen, keys, ...mcp }, ...more }, { ...env, ...moreEnv });
  return { runner, url: `http://${listen}/mcp`, listen };
}

interface Answer {
  content: { type: string; text?: string }[];
  isError?: boolean;
  _meta?: Record<string, unknown>;
}

/** What these tests use of both official clients in TypeScript. */
interface Client {
  listTools(): Promise<{
    tools: { name: string; annotations?: object; inputSchema: object }[];
    ttlMs?: number;
  }>;
  call(
    params: object,
    options?: { signal?: AbortSignal; onprogress?: (progress: { message?: string }) => void },
  ): Promise<Answer>;
  revision(): string | undefined;
  close(): Promise<void>;
}

type Connect = (url: string, headers?: Record<string, string>) => Promise<Client>;

/** The client of today, which speaks to servers of all revisions. */
const inNode =
  (options: object): Connect =>
  async (url, headers = bearer) => {
    const sdk = await import(requireTool('mcp-node'));
    const client = new sdk.Client({ name: 'test', version: '1.0.0' }, options);
    await client.connect(new sdk.StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
    return {
      listTools: () => client.listTools(),
      call: (params, more) => client.callTool(params, more),
      revision: () => client.getNegotiatedProtocolVersion(),
      close: () => client.close(),
    };
  };

const inNodeBefore: Connect = async (url, headers = bearer) => {
  const file = requireTool('mcp-node-v1');
  const { Client } = await import(file);
  const { StreamableHTTPClientTransport } = await import(join(dirname(file), 'streamableHttp.js'));
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  const client = new Client({ name: 'test', version: '1.0.0' });
  await client.connect(transport);
  return {
    listTools: () => client.listTools(),
    call: (params, more) => client.callTool(params, undefined, more),
    revision: () => transport.protocolVersion,
    close: () => client.close(),
  };
};

const clients: Record<string, [revision: string, Connect]> = {
  'TypeScript, 2026-07-28': ['2026-07-28', inNode({ versionNegotiation: { mode: 'auto' } })],
  'TypeScript, 2025-11-25': ['2025-11-25', inNode({ versionNegotiation: { mode: 'legacy' } })],
  'TypeScript, 2025-06-18': ['2025-06-18', inNode({ supportedProtocolVersions: ['2025-06-18'] })],
  'TypeScript before 2026': ['2025-11-25', inNodeBefore],
};

t.test('official clients run tools at each revision', { skip }, async (t) => {
  const greet = {
    name: 'greet',
    description: 'Greets',
    command: ['/bin/echo', 'hello {name}'],
    idempotent: true,
    read_only: true,
  };
  const schema = { properties: { name: { type: 'string' } } };
  const { url } = await scene(
    t,
    {},
    { run: { wall: '60s', memory: '64MiB' }, defined: [{ ...greet, schema }] },
  );
  const typescript = Object.entries(clients).map(([name, [revision, connect]]) =>
    t.test(name, async (t) => {
      const client = await connect(url);
      t.equal(client.revision(), revision);
      const { tools, ttlMs } = await client.listTools();
      t.equal(ttlMs, revision === '2026-07-28' ? 60_000 : undefined);
      const hints = Object.fromEntries(tools.map(({ name, annotations }) => [name, annotations]));
      const unsafe = {
        readOnlyHint: false,
        destructiveHint: true,
        idempotentHint: false,
        openWorldHint: true,
      };
      const safe = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false };
      t.match(hints, {
        python: unsafe,
        read_file: safe,
        greet: safe,
        write_file: { idempotentHint: true, readOnlyHint: false },
      });
      t.match(tools.find(({ name }) => name === 'greet')!.inputSchema, { type: 'object', ...schema });

      const call = (name: string, args: object, more: object = {}) =>
        client.call({ name, arguments: args, ...more });
      t.match(await call('python', { code: 'print(6 * 7)' }), {
        content: [{ type: 'text', text: '42\n' }],
        isError: false,
      });
      t.match(await call('greet', { name: 'you' }), { content: [{ text: 'hello you\n' }] });
      t.match(await call('shell', { code: 'exit 3' }), {
        isError: true,
        _meta: { 'dev.outrigger/exit_code': 3 },
      });
      const wrong = await call('python', { kode: 'x' });
      t.match(wrong, {
        isError: true,
        content: [{ text: /code/ }],
        _meta: { 'dev.outrigger/status': 'INVALID_ARGUMENT' },
      });
      const full = await call('python', { code: 'x = b"x"\nwhile True: x += x' });
      t.match(full, {
        isError: true,
        content: [{ text: /limit of memory/ }],
        _meta: { 'dev.outrigger/limit': 'memory' },
      });
      await t.rejects(call('other', {}), { code: -32_602, message: /there is no tool "other"/ });

      const pieces: (string | undefined)[] = [];
      const onprogress = ({ message }: { message?: string }) => pieces.push(message);
      const code = "printf 'one \\303'; sleep 0.3; printf '\\244 two'";
      await client.call({ name: 'shell', arguments: { code } }, { onprogress });
      t.equal(pieces.join(''), 'one ä two', 'pieces of characters are put together');
      t.ok(pieces.length >= 2);

      const mark = `mark-mcp-${name.replace(/\W/g, '')}`;
      const aborter = new AbortController();
      const id = { _meta: { 'dev.outrigger/call_id': mark } };
      const args = { code: sleeping(mark) };
      const cancelled = client.call({ name: 'shell', arguments: args, ...id }, { signal: aborter.signal });
      await runs(mark);
      aborter.abort();
      await t.rejects(cancelled);
      await gone(mark);
      const again = await call('shell', args, id);
      t.match(again, {
        isError: true,
        content: [{ text: /nobody knows whether shell has done its work/ }],
        _meta: { 'dev.outrigger/reason': 'outcome_unknown' },
      });
      const left = client.call({ name: 'shell', arguments: { code: sleeping(`${mark}-left`) } });
      await runs(`${mark}-left`);
      await client.close();
      await t.rejects(left);
      await gone(`${mark}-left`);
    }),
  );
  const python = ['auto', 'legacy'].map(async (mode) => {
    const mark = `mark-mcp-python-${mode}`;
    const given = JSON.stringify({ url, key, mode, mark });
    const client = startProcess(
      t,
      requireTool('mcp-python'),
      [`${import.meta.dirname}/support/python/mcp_client.py`, given],
      {
        stdin: true,
      },
    );
    const said = (text: string) =>
      waitUntil(
        `${mode} says "${text}"`,
        () => client.logs().includes(text) || client.child.exitCode !== null,
      );
    await said('calling');
    await runs(mark);
    client.child.stdin!.write('\n');
    await said('cancelled');
    await gone(mark);
    client.child.stdin!.write('\n');
    t.equal(await client.ended, 0, client.logs());
    const seen = JSON.parse(client.logs().slice(client.logs().lastIndexOf('\n{') + 1));
    t.equal(seen.revision, mode === 'auto' ? '2026-07-28' : '2025-11-25');
    t.match(seen, { result: ['42\n', false], cancelled: true, progress: ['one\n', 'two\n'] });
    t.match(seen.failed, [/one\ntwo\n\[ended with code 3\]/, true]);
    t.ok(seen.tools.includes('http_fetch'));
  });
  await Promise.all([...typescript, ...python]);
});

t.test('callers by MCP need a key or a certificate, and are told apart', { skip }, async (t) => {
  const authority = await TestAuthority.make();
  const [server, client, stranger] = [
    await authority.issue({ names: ['127.0.0.1'] }),
    await authority.issue({ names: ['spiffe://cluster/agents'] }),
    await (await TestAuthority.make('other')).issue({ names: ['spiffe://cluster/agents'] }),
  ];
  const { runner, url } = await scene(t);
  const post = (headers: Record<string, string>, body: object, to = url) =>
    fetch(to, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...headers,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...body }),
    });
  const ping = { method: 'ping' };
  t.equal((await post({}, ping)).status, 401);
  t.equal((await post({ authorization: 'Bearer wrong' }, ping)).status, 401);
  t.match((await post({}, ping)).headers.get('www-authenticate'), /Bearer/);
  t.equal((await post(bearer, ping)).status, 200);
  t.equal((await post({ 'x-api-key': key }, ping)).status, 200);
  t.equal(
    (await post({ ...bearer, origin: 'https://evil.example' }, ping)).status,
    403,
    'a page of a browser',
  );
  t.equal((await post(bearer, ping, url.replace('/mcp', '/other'))).status, 404);
  const params = {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  };
  const opened = await post(bearer, { method: 'initialize', params });
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id')! };
  await opened.text();
  t.equal((await post({ ...bearer, ...session }, ping)).status, 200);
  const other = { authorization: `Bearer ${env.MCP_OTHER}` };
  t.equal((await post({ ...other, ...session }, ping)).status, 404, "another caller's session");
  t.equal((await post({ ...bearer, 'mcp-session-id': 'unknown' }, ping)).status, 404);
  const twice = { method: 'tools/call', params: { name: 'shell', arguments: { code: 'sleep 1; echo one' } } };
  const both = await Promise.all([1, 2].map(() => post({ ...bearer, ...session }, twice)));
  t.same(
    both.map(({ status }) => status).sort(),
    [200, 400],
    'two calls with one id do not wait for each other',
  );
  t.match(await both.find(({ status }) => status === 200)!.text(), /one/);
  t.equal((await post({ ...bearer, ...session }, twice)).status, 200, 'a later one may have it');
  t.equal(
    (await post(bearer, { method: 'tools/list' })).status,
    200,
    'a client without sessions is served, too',
  );

  const [mine, theirs] = await Promise.all([inNode({})(url), inNode({})(url, other)]);
  const task = { _meta: { 'dev.outrigger/task_id': 'task' } };
  const write = { name: 'write_file', arguments: { path: 'a', content: 'kept' } };
  await mine.call({ ...write, ...task });
  const read = { name: 'read_file', arguments: { path: 'a' } };
  t.match(await mine.call({ ...read, ...task }), { content: [{ text: 'kept' }] });
  t.match(
    await theirs.call({ ...read, ...task }),
    { isError: true },
    'each caller has workspaces of its own',
  );
  await mine.call(write);
  t.match(await mine.call(read), { content: [{ text: 'kept' }] }, 'a session has a workspace');
  await Promise.all([mine.close(), theirs.close()]);

  const stopped = mine
    .call({ name: 'shell', arguments: { code: sleeping('mark-mcp-stop') } })
    .catch(() => {});
  const calling = await inNode({ versionNegotiation: { mode: 'auto' } })(url);
  const last = calling.call({
    name: 'shell',
    arguments: { code: `: mark-mcp-last; read x < /dev/null; sleep 1; echo done` },
  });
  await runs('mark-mcp-last');
  runner.kill('SIGTERM');
  t.match(await last, { content: [{ text: 'done\n' }] }, 'a runner that ends waits for its calls');
  await stopped;
  t.equal(await runner.ended, 0);

  const files = { cert: server.cert, key: server.key, ca: authority.ca };
  const tls = Object.fromEntries(
    Object.entries(files).map(([name, text]) => {
      const path = join(runner.folder, `${name}.pem`);
      writeFileSync(path, text);
      return [name, path];
    }),
  );
  const mutual = await scene(t, { keys: [], tls });
  const status = (own: object) =>
    new Promise<number | string>((resolve) => {
      const options = { ca: authority.ca, method: 'GET', agent: false, ...own };
      const asked = httpsRequest(mutual.url.replace('http:', 'https:'), options, (answer) => {
        answer.resume();
        resolve(answer.statusCode!);
      });
      asked.on('error', ({ message }) => resolve(message)).end();
    });
  t.match(await status({}), /certificate required|ECONNRESET|hang up|alert/i);
  t.match(await status(stranger), /unknown ca|ECONNRESET|hang up|alert/i);
  t.equal(await status(client), 405, 'a GET without a session');

  for (const [mcp, problem] of [
    [{ keys: [] }, /tools\.mcp\.listen needs tools\.mcp\.keys, or tools\.mcp\.tls with ca/],
    [{ keys: [{ name: 'x', env: 'MCP_MISSING' }] }, /MCP_MISSING, the key of .*x.*, is not set/],
  ] as const)
    await t.rejects(scene(t, mcp), { message: problem }, 'it does not open to everyone');
});

t.test('each call has a span execute_tool in the trace of its caller', { skip }, async (t) => {
  const receiver = await startOtlpReceiver(t);
  const tracing = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_BSP_SCHEDULE_DELAY: '50' };
  const { runner, url } = await scene(t, {}, { run: { memory: '64MiB' } }, tracing);
  const parent = (digit: string) => ({ trace: digit.repeat(32), span: digit.repeat(16) });
  const traceparent = (digit: string) => `00-${parent(digit).trace}-${parent(digit).span}-01`;
  const grpc = new ToolRunnerClient(t, runner.address);
  await grpc.run({
    tool: 'python',
    args: { code: 'print(1)' },
    callId: 'call-1',
    metadata: { traceparent: traceparent('a') },
  });
  const code = 'x = b"x"\nwhile True: x += x';
  await grpc.failure({ tool: 'python', args: { code }, metadata: { traceparent: traceparent('b') } });
  const modern = await inNode({ versionNegotiation: { mode: 'auto' } })(url);
  await modern.call({
    name: 'shell',
    arguments: { code: 'exit 3' },
    _meta: { traceparent: traceparent('c') },
  });
  const before = await inNodeBefore(url, { ...bearer, traceparent: traceparent('d') });
  await before.call({ name: 'list_files', arguments: {} });
  await Promise.all([modern.close(), before.close()]);
  const spans = await receiver.until('the spans of four calls', (all) => all.length >= 4);
  const of = (digit: string) => spans.find(({ traceId }) => traceId === parent(digit).trace);
  const named = (name: string) => ({
    'gen_ai.operation.name': 'execute_tool',
    'gen_ai.tool.name': name,
    'gen_ai.tool.type': 'function',
  });
  t.match(of('a'), {
    name: 'execute_tool python',
    parentSpanId: parent('a').span,
    kind: 1,
    attributes: { ...named('python'), 'gen_ai.tool.call.id': 'call-1', 'outrigger.tool.exit_code': 0 },
  });
  t.match(of('b'), {
    parentSpanId: parent('b').span,
    status: 2,
    attributes: { 'error.type': 'RESOURCE_EXHAUSTED' },
  });
  t.match(of('c'), {
    name: 'execute_tool shell',
    parentSpanId: parent('c').span,
    attributes: { 'outrigger.tool.exit_code': 3 },
  });
  t.match(of('d'), { name: 'execute_tool list_files', parentSpanId: parent('d').span });
  const text = JSON.stringify(spans, (_, value) => (typeof value === 'bigint' ? `${value}` : value));
  t.notMatch(text, /print\(1\)|while True/, 'without arguments and results');
});
