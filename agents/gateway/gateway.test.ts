// The REST API of the gateway: requests, streams, errors, health and shutdown, against scripted agents.
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { agentService } from '../protocol/definitions.ts';
import type { TaskRequest } from '../protocol/messages.ts';
import { testAgent, until } from '../test-support.ts';
import { createGateway, type Gateway } from './app.ts';
import { readGatewaySettings } from './settings.ts';

interface Running extends Gateway {
  url: string;
  log: string[];
}

/** A gateway for agents at these addresses. */
async function gateway(
  test: Test,
  addresses: Record<string, string>,
  env: Record<string, string> = {},
): Promise<Running> {
  const log: string[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void log.push(line) });
  const started = await createGateway(readGatewaySettings({ ...addresses, ...env }), logger);
  test.teardown(() => started.stop(0));
  return { ...started, log, url: await started.app.listen({ host: '127.0.0.1', port: 0 }) };
}

function post(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<Response> {
  return fetch(`${url}/api/v1/tasks`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}

const asStream = { accept: 'text/event-stream' };

/** The events of a finished stream. */
async function eventsOf(response: Response): Promise<{ event: string; data: object }[]> {
  const blocks = (await response.text()).split('\n\n').filter((block) => block.startsWith('event: '));
  return blocks.map((block) => {
    const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(block)!;
    return { event: event!, data: JSON.parse(data!) };
  });
}

type Callback = (error: object | null, answer?: object, trailers?: Metadata) => void;

/** A server that ends every call as its input says, after some chunks, like sidecars and agents. */
async function scriptedAgent(test: Test): Promise<string> {
  const ending = ({ request }: { request: TaskRequest }) => {
    const { code, details = 'as scripted', trailers = {}, chunks = 0, answer } = JSON.parse(request.input);
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(trailers)) metadata.set(name, String(value));
    return { error: { code: status[code as 'OK'], details, metadata }, chunks, answer, metadata };
  };
  const server = new Server();
  server.addService(agentService, {
    ProcessTask: (call: ServerUnaryCall<TaskRequest, unknown>, callback: Callback) => {
      const { error, answer, metadata } = ending(call);
      if (answer === undefined) callback(error);
      else callback(null, answer, metadata);
    },
    StreamProcess: (call: ServerWritableStream<TaskRequest, object>) => {
      const { error, chunks } = ending(call);
      for (let index = 0; index < chunks; index += 1) call.write({ chunk: `${index}` });
      call.emit('error', error);
    },
  });
  test.teardown(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return `127.0.0.1:${port}`;
}

t.test('the gateway answers a task as JSON and as a stream', async (t) => {
  const seen: { task: TaskRequest; metadata: Metadata; timeLeftMs: number }[] = [];
  const { server } = await testAgent(t, {
    async processTask(task, context) {
      seen.push({ task, metadata: context.metadata, timeLeftMs: context.timeLeftMs() });
      return { output: `answer to ${task.input}`, status: 'PARTIAL', tokens_used: 7 };
    },
    async *streamProcess(task) {
      yield 'answer\nto ';
      yield task.input;
    },
  });
  const { url } = await gateway(t, {
    RESEARCH_AGENT_ADDR: server.address,
    MY_OWN_AGENT_ADDR: server.address,
  });

  const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const answered = await post(url, { input: 'é?' }, { traceparent: trace });
  t.equal(answered.status, 200);
  const answer = (await answered.json()) as Record<string, string>;
  t.match(answer, { output: 'answer to é?', status: 'PARTIAL', latency_ms: Number, tokens_used: 7 });
  t.match(answer['task_id'], /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/, 'a UUIDv7');
  t.match(answer['correlation_id'], /^[0-9a-f-]{36}$/, 'made up');
  const [first] = seen;
  t.equal(first!.task.task_id, answer['task_id']);
  t.equal(first!.task.agent_type, 'research', 'by default');
  t.same(first!.metadata.get('traceparent'), [trace]);
  t.ok(first!.timeLeftMs > 50_000 && first!.timeLeftMs <= 60_000, 'the usual deadline');

  const asked = {
    input: 'x',
    agent_type: 'my-own',
    correlation_id: 'mine',
    metadata: { a: 'b' },
    max_tokens: 9,
  };
  const other = (await (await post(url, asked)).json()) as Record<string, string>;
  t.not(other['task_id'], answer['task_id']);
  t.match(seen[1]!.task, {
    correlation_id: 'mine',
    agent_type: 'my-own',
    metadata: { a: 'b' },
    max_tokens: 9,
  });

  const streamed = await post(url, { input: 'x', correlation_id: 'mine' }, asStream);
  t.equal(streamed.status, 200);
  t.match(streamed.headers.get('content-type'), /^text\/event-stream/);
  const events = await eventsOf(streamed);
  t.match(events, [
    { event: 'chunk', data: { chunk: 'answer\nto ', is_final: false } },
    { event: 'chunk', data: { chunk: 'x', is_final: false } },
    { event: 'chunk', data: { chunk: '', is_final: true } },
    { event: 'done', data: { task_id: /-7/, correlation_id: 'mine', latency_ms: Number } },
  ]);
  t.equal(events.length, 4);
  const json = await post(url, { input: 'x' }, { accept: 'application/json, text/event-stream;q=0.5' });
  t.match(json.headers.get('content-type'), /json/, 'the form with the higher weight wins');
});

t.test('bad requests name their field and never reach an agent', async (t) => {
  let runs = 0;
  const { server } = await testAgent(t, {
    processTask: async () => {
      runs += 1;
      return { output: '' };
    },
  });
  const { url } = await gateway(
    t,
    { RESEARCH_AGENT_ADDR: server.address },
    { GATEWAY_MAX_INPUT_CHARS: '100' },
  );
  const cases: [unknown, string][] = [
    [{}, 'input'],
    [{ input: '' }, 'input'],
    [{ input: '  \n ' }, 'input'],
    [{ input: 7 }, 'input'],
    [{ input: 'x'.repeat(101) }, 'input'],
    [{ input: 'x', agent_type: 5 }, 'agent_type'],
    [{ input: 'x', correlation_id: null }, 'correlation_id'],
    [{ input: 'x', metadata: { a: 1 } }, 'metadata.a'],
    [{ input: 'x', temperature: 3 }, 'temperature'],
    [{ input: 'x', max_tokens: 1.5 }, 'max_tokens'],
    [{ input: 'x', agenttype: 'code' }, 'agenttype'],
    [[], 'body'],
  ];
  for (const [body, field] of cases) {
    const refused = await post(url, body);
    t.equal(refused.status, 422, JSON.stringify(body).slice(0, 60));
    const { error } = (await refused.json()) as { error: Record<string, string> };
    t.match(error, { code: 'INVALID_ARGUMENT', field, task_id: /-7/ });
    t.match(error['message'], new RegExp(`^${field}`));
  }
  t.equal((await post(url, { input: '' }, asStream)).status, 422, 'also for a stream');
  for (const headers of [{}, asStream]) {
    const unknown = await post(url, { input: 'x', agent_type: 'reserch' }, headers);
    t.equal(unknown.status, 404);
    t.match(await unknown.json(), {
      error: {
        code: 'NOT_FOUND',
        field: 'agent_type',
        message: 'unknown agent type "reserch"; the known ones are research, writing, code',
        task_id: /-7/,
      },
    });
  }
  t.equal((await post(url, '{"input": ')).status, 400);
  t.equal((await post(url, 'input=x', { 'content-type': 'text/plain' })).status, 415);
  t.equal((await post(url, { input: 'x'.repeat(11 * 1024 * 1024) })).status, 413);
  const nowhere = await fetch(`${url}/api/v1/nothing`);
  t.equal(nowhere.status, 404);
  t.match(await nowhere.json(), { error: { code: 'NOT_FOUND', task_id: String } });
  t.equal(runs, 0);
});

t.test('the end of a call determines the HTTP status, whole and streamed', async (t) => {
  const { url, log } = await gateway(t, { RESEARCH_AGENT_ADDR: await scriptedAgent(t) });
  const pushback = (ms: number) => ({ 'grpc-retry-pushback-ms': ms });
  const cases: [
    object,
    number,
    { retryAfter?: string; reason?: string; field?: string; message?: string },
  ][] = [
    [{ code: 'UNAVAILABLE' }, 503, { retryAfter: '1' }],
    [
      { code: 'UNAVAILABLE', trailers: { 'outrigger-reason': 'circuit_open', ...pushback(12_300) } },
      503,
      { retryAfter: '13', reason: 'circuit_open' },
    ],
    [{ code: 'UNAVAILABLE', trailers: pushback(-1) }, 503, { retryAfter: '1' }],
    [{ code: 'CANCELLED' }, 503, { retryAfter: '1' }],
    [
      { code: 'RESOURCE_EXHAUSTED', trailers: pushback(7000) },
      429,
      { retryAfter: '7', message: 'as scripted' },
    ],
    [
      { code: 'RESOURCE_EXHAUSTED', trailers: { 'outrigger-reason': 'overloaded' } },
      503,
      { retryAfter: '1' },
    ],
    [{ code: 'RESOURCE_EXHAUSTED', trailers: { 'outrigger-reason': 'message_too_large' } }, 413, {}],
    [{ code: 'DEADLINE_EXCEEDED' }, 504, {}],
    [{ code: 'INVALID_ARGUMENT', trailers: { 'agent-error-field': 'input' } }, 422, { field: 'input' }],
    [{ code: 'FAILED_PRECONDITION' }, 409, {}],
    [{ code: 'UNIMPLEMENTED', details: 'text' }, 502, { message: 'no process serves the research agent' }],
    [
      { code: 'UNIMPLEMENTED', details: 'use a or b', trailers: { 'outrigger-reason': 'no_route' } },
      502,
      { reason: 'no_route', message: 'no process serves the research agent: use a or b' },
    ],
    [{ code: 'INTERNAL', details: 'secret text' }, 502, { message: 'the research agent failed' }],
    [{ code: 'UNKNOWN', details: 'Exception: secret text' }, 502, { message: 'the research agent failed' }],
  ];
  for (const [script, expected, { retryAfter = null, ...body }] of cases) {
    const name = JSON.stringify(script);
    const input = JSON.stringify(script);
    const whole = await post(url, { input });
    t.equal(whole.status, expected, name);
    t.equal(whole.headers.get('retry-after'), retryAfter, name);
    const { code } = script as { code: string };
    t.match(await whole.json(), { error: { code, task_id: String, ...body } }, name);

    const streamed = await post(url, { input }, asStream);
    t.equal(streamed.status, expected, `${name} before the first chunk`);
    t.equal(streamed.headers.get('retry-after'), retryAfter, name);
    t.match(
      await eventsOf(streamed),
      [{ event: 'error', data: { error: { code, task_id: String, ...body } } }],
      name,
    );

    const late = await post(url, { input: JSON.stringify({ ...script, chunks: 2 }) }, asStream);
    t.equal(late.status, 200, 'the head with the status has gone out');
    const events = await eventsOf(late);
    t.same(
      events.map(({ event }) => event),
      ['chunk', 'chunk', 'error'],
    );
    t.match(events.at(-1)!.data, { error: { code } });
  }
  t.match(log.join(''), /secret text/, 'the log has the message that the client does not receive');
});

t.test("every kind of failure includes the model's failure that a sidecar or an agent reports", async (t) => {
  const { url } = await gateway(t, { RESEARCH_AGENT_ADDR: await scriptedAgent(t) });
  const model = {
    status: 401,
    reason: '',
    upstream: 'openai',
    path: '/v1/chat/completions',
    model: 'gpt-x',
    message: 'é: no such key',
    way: ['research-1', 'writing-1'],
  };
  const said = JSON.stringify({ ...model, reason: undefined }).replaceAll('é', '\\u00e9');
  const words = 'the model provider openai answered HTTP 401 to /v1/chat/completions (gpt-x): é: no such key';
  for (const [code, message] of [
    ['INTERNAL', `the research agent failed: ${words}`],
    ['UNKNOWN', `the research agent failed: ${words}`],
    ['UNAVAILABLE', `the research agent is not available; try again later: ${words}`],
    ['DEADLINE_EXCEEDED', `the research agent did not answer in time: ${words}`],
    ['RESOURCE_EXHAUSTED', `as scripted: ${words}`],
    ['INVALID_ARGUMENT', `as scripted: ${words}`],
  ] as const) {
    const input = JSON.stringify({ code, trailers: { 'outrigger-model-failure': said } });
    t.match(await (await post(url, { input })).json(), { error: { code, message, model } }, code);
    const [told] = await eventsOf(await post(url, { input }, asStream));
    t.match(told, { event: 'error', data: { error: { message, model } } });
  }
  const own = { code: 'INTERNAL', trailers: { 'agent-error-model': '{"status":404,"message":"m"}' } };
  t.match(await (await post(url, { input: JSON.stringify(own) })).json(), {
    error: {
      message: 'the research agent failed: the model provider answered HTTP 404: m',
      model: { status: 404 },
    },
  });
  for (const text of ['x', 'null', '[]', '{"status":"x","way":5}', `{"message":"${'x'.repeat(5000)}"}`]) {
    const input = JSON.stringify({ code: 'INTERNAL', trailers: { 'outrigger-model-failure': text } });
    t.equal(
      (await post(url, { input })).status,
      502,
      `the gateway ignores malformed metadata: ${text.slice(0, 20)}`,
    );
  }

  const trailers = { 'outrigger-model-failure': said };
  for (const [taskStatus, told] of [
    ['FAILED', model],
    ['TIMEOUT', model],
    ['SUCCESS', undefined],
  ] as const) {
    const answer = { task_id: 't', output: 'sorry', status: taskStatus };
    const answered = await post(url, { input: JSON.stringify({ trailers, answer }) });
    t.equal(answered.status, 200);
    const body = (await answered.json()) as { status: string; model?: object };
    t.equal(body.status, taskStatus);
    t.same(body.model, told, `${taskStatus}: an answer whose status is a failure`);
  }
});

t.test('an unreachable agent gives 503, a slow one 504', async (t) => {
  let aborted = 0;
  const slow = await testAgent(t, {
    processTask: (_, { signal }) =>
      new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          aborted += 1;
          reject(signal.reason);
        }),
      ),
    async *streamProcess(_, { signal }) {
      yield 'first';
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  });
  const addresses = { RESEARCH_AGENT_ADDR: '127.0.0.1:1', CODE_AGENT_ADDR: slow.server.address };
  const { url } = await gateway(t, addresses, { GATEWAY_TIMEOUT: '1s' });
  const gone = await post(url, { input: 'x' });
  t.equal(gone.status, 503);
  t.equal(gone.headers.get('retry-after'), '1');
  t.notMatch(await gone.text(), /127\.0\.0\.1/, 'the client receives no addresses');

  const late = await post(url, { input: 'x', agent_type: 'code' });
  t.equal(late.status, 504);
  t.match(await late.json(), { error: { code: 'DEADLINE_EXCEEDED' } });
  await until(() => aborted === 1);
  const events = await eventsOf(await post(url, { input: 'x', agent_type: 'code' }, asStream));
  t.match(events, [{ event: 'chunk' }, { event: 'error', data: { error: { code: 'DEADLINE_EXCEEDED' } } }]);
});

t.test('a disconnected client ends the call, and a slow reader slows the agent', async (t) => {
  let ended = 0;
  let started = 0;
  let produced = 0;
  const total = 2000;
  const { server } = await testAgent(t, {
    processTask: (_, { signal }) => {
      started += 1;
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          ended += 1;
          reject(signal.reason);
        }),
      );
    },
    async *streamProcess({ input }, { signal }) {
      started += 1;
      signal.addEventListener('abort', () => (ended += 1));
      if (input === 'flood') {
        for (; produced < total; produced += 1) yield 'x'.repeat(32 * 1024);
      } else {
        yield 'first';
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      }
    },
  });
  const { url } = await gateway(t, { RESEARCH_AGENT_ADDR: server.address });
  const leave = new AbortController();
  const left = post(url, { input: 'x' }, {}, leave.signal).catch((error) => error.name);
  await until(() => started === 1);
  leave.abort();
  t.equal(await left, 'AbortError');
  await until(() => ended === 1);

  const leaveStream = new AbortController();
  const streamed = await post(url, { input: 'x' }, asStream, leaveStream.signal);
  t.match(Buffer.from((await streamed.body!.getReader().read()).value!).toString(), /"first"/);
  leaveStream.abort();
  await until(() => ended === 2);

  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const body = JSON.stringify({ input: 'flood' });
  socket.write(
    'POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n' +
      `accept: text/event-stream\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await once(socket, 'readable');
  let before = -1;
  while (before !== produced) {
    before = produced;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  t.ok(produced < total, `${produced} of ${total} chunks for a client that reads none`);
  socket.destroy();
  await until(() => ended === 3);
});

t.test('the gateway serves health, the API description and the page', async (t) => {
  const { server } = await testAgent(t, {});
  const addresses = {
    RESEARCH_AGENT_ADDR: server.address,
    WRITING_AGENT_ADDR: '127.0.0.1:1',
    CODE_AGENT_ADDR: server.address,
  };
  const { url } = await gateway(t, addresses, { GATEWAY_LINKS: 'Sidecar=http://127.0.0.1:15000/?a=b' });
  const health = await fetch(`${url}/api/v1/health`);
  t.equal(health.status, 200);
  const works = { healthy: true, agent_name: 'test-agent', version: '1.2.3', checks: { runtime: 'serving' } };
  const states = (await health.json()) as Record<string, { error: string }>;
  const { error } = states['writing']!;
  t.match(error, /^UNAVAILABLE/);
  t.strictSame(
    states,
    {
      research: works,
      writing: { healthy: false, agent_name: '', version: '', checks: {}, error },
      code: works,
    },
    'each agent at the top level',
  );
  const none = await gateway(t, {
    RESEARCH_AGENT_ADDR: '127.0.0.1:1',
    WRITING_AGENT_ADDR: '127.0.0.1:1',
    CODE_AGENT_ADDR: '127.0.0.1:1',
  });
  const noneWorks = await fetch(`${none.url}/api/v1/health`);
  t.equal(noneWorks.status, 503);
  t.match(await noneWorks.json(), { research: { healthy: false }, writing: { healthy: false } });

  const description = (await (await fetch(`${url}/docs/json`)).json()) as {
    paths: Record<string, { post: { responses: object }; get: { responses: Record<string, object> } }>;
  };
  const described = { schema: { additionalProperties: { properties: { healthy: { type: 'boolean' } } } } };
  t.match(description.paths['/api/v1/health']!.get.responses, {
    200: { content: { 'application/json': described } },
    503: { content: { 'application/json': described } },
  });
  t.same(Object.keys(description.paths), [
    '/api/v1/tasks',
    '/api/v1/tasks/{id}',
    '/api/v1/tasks/{id}/events',
    '/api/v1/health',
  ]);
  t.same(Object.keys(description.paths['/api/v1/tasks']!.post.responses), [
    '200',
    '202',
    '404',
    '422',
    '429',
    '501',
    '502',
    '503',
    '504',
  ]);
  const docs = await fetch(`${url}/docs`);
  t.match(docs.headers.get('content-security-policy'), /default-src 'none'/);
  const api = await docs.text();
  for (const path of Object.keys(description.paths)) t.match(api, `</span> ${path}</h2>`);
  t.match(api, '<code>error.field</code>');
  t.match(api, '<code>idempotency-key</code></th><td>header, string');

  const page = await fetch(`${url}/`);
  t.match(page.headers.get('content-security-policy'), /default-src 'self'/);
  t.match(await page.text(), /<form id="task">/);
  t.equal((await fetch(`${url}/page.js`)).status, 200);
  t.same(await (await fetch(`${url}/page/links`)).json(), [
    { name: 'Sidecar', url: 'http://127.0.0.1:15000/?a=b' },
  ]);
  for (const file of (await (await fetch(`${url}/`)).text()).matchAll(/(?:src|href)="(\/[a-z]+\.[a-z]+)"/g))
    t.equal((await fetch(`${url}${file[1]}`)).status, 200, file[1]!);
});

t.test('the gateway breaks no agents outside of a local system', async (t) => {
  const { url } = await gateway(t, {});
  t.same(await (await fetch(`${url}/local/state`)).json(), { local: false });
  const kill = '/local/replicas/research-1/kill';
  t.equal((await fetch(`${url}${kill}`, { method: 'POST' })).status, 404);

  const nobody = await gateway(t, {}, { GATEWAY_LOCAL_SYSTEM: join(t.testdir(), 'nobody.sock') });
  t.match(await (await fetch(`${nobody.url}/local/state`)).json(), {
    error: { code: 'UNAVAILABLE', message: 'the local system does not answer' },
  });
  const elsewhere = await fetch(`${nobody.url}${kill}`, {
    method: 'POST',
    headers: { origin: 'http://evil.example' },
  });
  t.equal(elsewhere.status, 403);
});

t.test('stop waits for running requests within the limit and ends the rest with 503', async (t) => {
  let finish: (() => void) | undefined;
  const { server } = await testAgent(t, {
    processTask: ({ input }) =>
      input === 'short'
        ? new Promise((resolve) => (finish = () => resolve({ output: 'done' })))
        : new Promise(() => {}),
    async *streamProcess() {
      yield 'first';
      await new Promise(() => {});
    },
  });
  const patient = await gateway(t, { RESEARCH_AGENT_ADDR: server.address });
  const short = post(patient.url, { input: 'short' });
  await until(() => finish !== undefined);
  const stopping = patient.stop(10_000);
  finish!();
  t.equal((await short).status, 200);
  await stopping;

  const hasty = await gateway(t, { RESEARCH_AGENT_ADDR: server.address });
  const endless = post(hasty.url, { input: 'endless' });
  const streamed = await post(hasty.url, { input: 'endless' }, asStream);
  await hasty.stop(100);
  t.equal((await endless).status, 503);
  t.match(await eventsOf(streamed), [
    { event: 'chunk' },
    { event: 'error', data: { error: { message: /stopping/ } } },
  ]);
});

t.test('pages of other sites cannot use a gateway on this machine', async (t) => {
  const { server } = await testAgent(t, {});
  const { app } = await gateway(
    t,
    { RESEARCH_AGENT_ADDR: server.address },
    { GATEWAY_HOSTS: 'Tasks.example, b' },
  );
  const ask = async (headers: Record<string, string>) => {
    const answered = await app.inject({
      method: 'POST',
      url: '/api/v1/tasks',
      headers,
      payload: { input: 'x' },
    });
    return answered.statusCode;
  };
  for (const host of [
    'localhost:8080',
    '127.0.0.1',
    '[::1]:8080',
    'app.localhost',
    'tasks.example:443',
    'B',
  ]) {
    t.equal(await ask({ host }), 200, host);
  }
  for (const host of ['evil.example:8080', '127.0.0.1.evil.example', 'localhost.evil.example']) {
    t.equal(await ask({ host }), 403, `DNS rebinding: "${host}"`);
  }
  const host = 'localhost';
  t.equal(await ask({ host, 'sec-fetch-site': 'same-origin' }), 200, "the gateway's own page");
  t.equal(await ask({ host, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }), 403);
  const link = { host, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
  t.equal(await ask(link), 403, 'a form of another site');
  t.equal((await app.inject({ url: '/', headers: link })).statusCode, 200, 'a link from elsewhere');
  const open = await gateway(t, { RESEARCH_AGENT_ADDR: server.address }, { HOST: '0.0.0.0' });
  const anywhere = await open.app.inject({ url: '/api/v1/health', headers: { host: 'gateway.example' } });
  t.equal(anywhere.statusCode, 200, 'a gateway on another address accepts any name');
});

t.test('the error for an invalid setting names the variable', async (t) => {
  t.throws(() => readGatewaySettings({ PORT: 'http' }), /PORT must be a whole number/);
  t.throws(() => readGatewaySettings({ CODE_AGENT_ADDR: 'nowhere' }), /CODE_AGENT_ADDR must be host:port/);
  t.throws(() => readGatewaySettings({ GATEWAY_TIMEOUT: '60' }), /GATEWAY_TIMEOUT must be a duration/);
  t.throws(() => readGatewaySettings({ GATEWAY_LINKS: 'a=javascript:x' }), /GATEWAY_LINKS/);
  t.same(
    [...readGatewaySettings({}).agents.values()].map(({ address }) => address),
    Array(3).fill('127.0.0.1:15001'),
  );
});
