// The egress as a service: whom it serves, and what no provider, no other caller and no log may see.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { answerWhole, chatAnswer, sendJson } from '../scripts/harness/llm/provider.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);
const RESEARCH = 'sk-research-0123456789';
const WRITING = 'sk-writing-9876543210';
process.env['SERVICE_TEST_RESEARCH'] = RESEARCH;
process.env['SERVICE_TEST_PROVIDER'] = 'sk-of-the-provider';
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const folder = mkdtempSync(join(tmpdir(), 'outrigger-service-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const keyFile = join(folder, 'writing.key');
writeFileSync(keyFile, `${WRITING}\n`);

const research = (more: object = {}) => ({ name: 'research', key_env: 'SERVICE_TEST_RESEARCH', ...more });

async function start(t: Test, llm: object) {
  const egress = await startEgress({ retry: { backoff: { base: '1ms', max: '2ms' } }, ...llm });
  t.teardown(() => egress.close());
  const root = egress.baseUrl.replace(/\/v1$/, '');
  const ask = async (path: string, body: string | undefined, headers: Record<string, string>) => {
    const answer = await send(root, path, body, headers).answer;
    const text = answer.body.toString();
    return { ...answer, text, json: text.startsWith('{') ? JSON.parse(text) : {} };
  };
  return { ...egress, root, ask };
}

t.test('a key is taken where each client puts its own, and goes no further', async (t) => {
  const url = provider.script('s-keys', answerWhole);
  const { ask } = await start(t, {
    upstreams: [{ name: 'p', kind: 'compatible', url }],
    callers: [research(), { name: 'writing', key_file: keyFile }],
  });
  const forms: [string, string, Record<string, string>][] = [
    ['authorization', '/v1/chat/completions', bearer(RESEARCH)],
    ['x-api-key', '/v1/chat/completions', { 'x-api-key': RESEARCH }],
    ['api-key', '/openai/deployments/m/chat/completions?api-version=1', { 'api-key': RESEARCH }],
    ['x-goog-api-key', '/v1beta/openai/chat/completions', { 'x-goog-api-key': RESEARCH }],
    ['the query', `/v1/chat/completions?key=${RESEARCH}&x=1`, {}],
    ['a key file', '/v1/chat/completions', bearer(WRITING)],
    ['beside another secret', '/v1/chat/completions', { ...bearer(RESEARCH), cookie: 'sk-cookie' }],
  ];
  for (const [name, path, headers] of forms) t.equal((await ask(path, chat(), headers)).status, 200, name);
  const seen = JSON.stringify(provider.requests('s-keys').map(({ path, headers }) => ({ path, headers })));
  t.equal(provider.requests('s-keys').length, forms.length);
  t.notMatch(seen, /sk-/, 'the provider sees no secret of a caller');
  t.match(seen, /x=1/, 'the rest of the query stays');
});

t.test('a request of nobody is refused in the form of its API, and asks no provider', async (t) => {
  const url = provider.script('s-nobody', answerWhole);
  const { ask } = await start(t, {
    upstreams: [{ name: 'p', url, api_key_env: 'SERVICE_TEST_PROVIDER' }],
    callers: [research()],
  });
  const wrong = 'sk-wrong-0123456789';
  const openai = await ask('/v1/chat/completions', chat(), bearer(wrong));
  t.match(openai, { status: 401, headers: { 'outrigger-reason': 'unauthorized', connection: 'close' } });
  t.match(openai.json, { error: { code: 'unauthorized', message: /of no caller/ } });
  t.notMatch(openai.text, wrong);
  const anthropic = await ask('/v1/messages', chat(), { 'x-api-key': wrong, 'anthropic-version': '1' });
  t.match(anthropic.json, { type: 'error', error: { type: 'authentication_error' } });
  const gemini = await ask('/v1beta/models/m:generateContent', '{}', { 'x-goog-api-key': wrong });
  t.match(gemini.json, { error: { code: 401, status: 'UNAUTHENTICATED' } });
  t.match((await ask('/v1/models', undefined, {})).json, {
    error: { message: /has no key for this service/ },
  });
  t.equal(provider.requests('s-nobody').length, 0);

  t.equal((await ask('/v1/chat/completions', chat(), bearer(RESEARCH))).status, 200);
  t.match(provider.requests('s-nobody'), [{ headers: { authorization: 'Bearer sk-of-the-provider' } }]);
});

t.test('a caller names its own models, and sees no others', async (t) => {
  const list = { object: 'list', data: ['gpt-5', 'gpt-5-mini', 'o9'].map((id) => ({ id, object: 'model' })) };
  const url = provider.script('s-models', (request, response) =>
    request.path.endsWith('/models') ? sendJson(response, 200, list) : answerWhole(request, response),
  );
  const { ask } = await start(t, {
    upstreams: [{ name: 'p', url }],
    callers: [research({ models: ['gpt-5*'] }), { name: 'writing', key_file: keyFile }],
  });
  const chatOf = (body: string) => ask('/v1/chat/completions', body, bearer(RESEARCH));
  t.equal((await chatOf(chat({ model: 'gpt-5-mini' }))).status, 200);
  const denied = await chatOf(chat({ model: 'o9' }));
  t.match(denied, { status: 404, headers: { 'outrigger-reason': 'unknown_model' } });
  t.match(denied.json.error.message, /"o9" for the caller research; there are gpt-5\*/);
  for (const body of [
    '{"model":"gpt-5","model":"o9","messages":[]}',
    '{"model":"o9","model":"gpt-5","messages":[]}',
    '{"Model":"o9","model":"gpt-5","messages":[]}',
    '{"model":"gpt-5","models":["o9"],"messages":[]}',
    '{"model":"gpt-5","fallbacks":["o9"],"messages":[]}',
    '{"model":"gpt-5","preset":"o9","messages":[]}',
    '{"messages":[]}',
    'model: o9',
  ])
    t.ok((await chatOf(body)).status >= 400, body);
  const folded = await chatOf('{"Model":"o9","model":"gpt-5","messages":[]}');
  t.match(folded.json.error.message, /its key "Model" is another one to a server that ignores case/);
  for (const [key, value] of Object.entries({
    tools: [{ type: 'image_generation', model: 'o9' }],
    previous_response_id: 'resp_of_another_caller',
    conversation: 'conv_1',
    prompt: { id: 'pmpt_1' },
  })) {
    const body = JSON.stringify({ model: 'gpt-5', input: 'x', [key]: value });
    t.match(await ask('/v1/responses', body, bearer(RESEARCH)), { status: 403 }, key);
  }
  t.match((await ask('/v1/files', undefined, bearer(RESEARCH))).status, 403, 'files are of all callers');
  t.equal((await ask('/v1/models/o9', undefined, bearer(RESEARCH))).status, 404);
  const asked = provider.requests('s-models').filter(({ method }) => method === 'POST');
  t.strictSame(
    asked.map(({ json }) => json?.['model']),
    ['gpt-5-mini'],
  );

  const ids = ({ json }: { json: typeof list }) => json.data.map(({ id }) => id);
  t.strictSame(ids(await ask('/v1/models', undefined, bearer(RESEARCH))), ['gpt-5', 'gpt-5-mini']);
  t.strictSame(ids(await ask('/v1/models', undefined, bearer(WRITING))), ['gpt-5', 'gpt-5-mini', 'o9']);
});

t.test('a limit is of one caller, and says when to come back', async (t) => {
  const open: (() => void)[] = [];
  const url = provider.script('s-limits', (request, response) => {
    if (request.headers['x-hold'] === undefined) answerWhole(request, response);
    else open.push(() => answerWhole(request, response));
  });
  const callers = [
    research({ limits: { requests_per_minute: 3, concurrent: 2 } }),
    { name: 'writing', key_file: keyFile, limits: { tokens_per_minute: 6_000 } },
  ];
  const llm = { upstreams: [{ name: 'p', url }], callers };
  const { ask, root, apply } = await start(t, llm);
  const held = [1, 2].map(() =>
    send(root, '/v1/chat/completions', chat(), { ...bearer(RESEARCH), 'x-hold': '1' }),
  );
  await waitUntil('two run', () => open.length === 2);
  const third = await ask('/v1/chat/completions', chat(), bearer(RESEARCH));
  t.match(third, { status: 429, headers: { 'outrigger-reason': 'rate_limited', 'retry-after': '1' } });
  t.match(third.json.error.message, /the caller research has 2 requests running/);
  t.notOk('x-should-retry' in third.headers, 'its client decides');
  for (const answer of open) answer();
  for (const { answer } of held) t.equal((await answer).status, 200);
  // A minute may end in between, and then three more are let in.
  let last = await ask('/v1/chat/completions', chat(), bearer(RESEARCH));
  for (let i = 0; i < 6 && last.status === 200; i++)
    last = await ask('/v1/chat/completions', chat(), bearer(RESEARCH));
  t.match(last, { status: 429 });
  t.match(last.json.error.message, /used its 3 requests of this minute/);
  t.ok(Number(last.headers['retry-after']) <= 60);

  // Each reserves its input and 4,096 tokens, and uses 12.
  for (let i = 0; i < 5; i++)
    t.equal(
      (await ask('/v1/chat/completions', chat(), bearer(WRITING))).status,
      200,
      'what is unused comes back',
    );
  apply({ ...llm, callers: [callers[0], { ...callers[1], limits: { tokens_per_minute: 6_000 } }] });
  t.equal((await ask('/v1/chat/completions', chat({ max_tokens: 9_000 }), bearer(WRITING))).status, 429);
});

t.test('a certificate names a caller, over HTTP/1.1 and HTTP/2, and new files are taken', async (t) => {
  const url = provider.script('s-tls', answerWhole);
  const authority = await TestAuthority.make('service');
  const stranger = await TestAuthority.make('strange');
  const server = await authority.issue({ names: ['localhost', '127.0.0.1'] });
  const files = new SecretVolume(t, { ...server, ca: authority.ca });
  const agentOf = await authority.issue({ names: ['spiffe://example.org/ns/agents/sa/research'] });
  const otherOf = await authority.issue({ names: ['spiffe://example.org/ns/agents/sa/other'] });
  const { root, apply } = await start(t, {
    upstreams: [{ name: 'p', url }],
    tls: { cert: files.cert, key: files.key, client_ca: files.ca },
    callers: [
      { name: 'research', identity: 'spiffe://example.org/ns/*/sa/research', models: ['m'] },
      { name: 'writing', key_file: keyFile },
    ],
  });
  const port = new URL(root).port;
  const ask = (with_: { cert?: string; key?: string }, headers = {}, body = chat(), ca = authority.ca) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const agent = new Agent({ ...with_, ca, maxCachedSessions: 0 });
      const request = httpsRequest(`https://localhost:${port}/v1/chat/completions`, {
        agent,
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
      });
      request.on('error', reject);
      request.on('response', (response) => {
        let text = '';
        response.on('data', (part) => {
          text += part;
        });
        response.on('end', () => {
          agent.destroy();
          resolve({ status: response.statusCode ?? 0, text });
        });
      });
      request.end(body);
    });
  t.match(await ask(agentOf, bearer('placeholder')), { status: 200 });
  t.match(await ask(agentOf, {}, chat({ model: 'o9' })), { status: 404, text: /for the caller research/ });
  t.match(await ask(otherOf, bearer('placeholder')), { status: 401, text: /of no caller/ });
  t.match(await ask(otherOf, bearer(WRITING)), { status: 200 }, 'a key beside a certificate');
  t.match(await ask({}), { status: 401, text: /tls_no_certificate/ });
  t.match(await ask(await stranger.issue({ names: ['spiffe://example.org/ns/agents/sa/research'] })), {
    status: 401,
    text: /tls_/,
  });
  t.match((await send(root, '/v1/chat/completions', chat(), bearer(WRITING)).answer).status, 400);

  const session = connectHttp2(`https://localhost:${port}`, { ...agentOf, ca: authority.ca });
  const stream = session.request({ ':method': 'POST', ':path': '/v1/chat/completions' });
  stream.end(chat());
  let status = 0;
  stream.on('response', (headers) => {
    status = headers[':status'] ?? 0;
  });
  stream.resume();
  await new Promise((resolve) => stream.on('end', resolve));
  t.equal(status, 200);
  t.equal(session.alpnProtocol, 'h2');
  session.close();

  const next = await TestAuthority.make('next');
  const renewed = await next.issue({ names: ['localhost'] });
  files.replace({ ...renewed, ca: next.ca });
  const nextAgent = await next.issue({ names: ['spiffe://example.org/ns/agents/sa/research'] });
  await waitUntil('the new certificate is served', async () => {
    const answer = await ask(nextAgent, {}, chat(), next.ca).catch(() => undefined);
    return answer?.status === 200;
  });
  t.notMatch(JSON.stringify(provider.requests('s-tls').map(({ headers }) => headers)), /sk-/);
  void apply;
});

t.test('only whole lines are keys, each of one caller, and what is wrong with a file is said', async (t) => {
  const url = provider.script('s-lines', answerWhole);
  const file = join(folder, 'lines.key');
  writeFileSync(file, '# the keys of bob\nbob-old-key-11111111\nbob-new-key-22222222\n');
  const said: string[] = [];
  const events = {
    onBreaker() {},
    onCooldown() {},
    onOutOfCredit() {},
    onCallerKeys: (caller: string, problem: string) => void said.push(`${caller}: ${problem}`),
  };
  const egress = await startEgress(
    { upstreams: [{ name: 'p', url }], callers: [research(), { name: 'bob', key_file: file }] },
    { events },
  );
  t.teardown(() => egress.close());
  const ask = async (key: string) =>
    (await send(egress.baseUrl, '/models', undefined, bearer(key)).answer).status;
  t.equal(await ask('bob-old-key-11111111'), 200);
  t.equal(await ask('bob-new-key-22222222'), 200);
  for (const word of ['the', '#', 'bob', 'keys']) t.equal(await ask(word), 401, word);
  writeFileSync(file, `bob and more 3333333333\nshort\n${RESEARCH}\nbob-third-key-333333\n`);
  await waitUntil('the file is read again', async () => (await ask('bob-third-key-333333')) === 200);
  t.equal(await ask('short'), 401);
  t.match(said, [
    /bob: line 1 has white space/,
    /bob: line 2 has fewer than 16/,
    /bob: it has a key of research, whose it stays/,
  ]);
  t.notMatch(said.join(), /sk-/);
  writeFileSync(file, '');
  await waitUntil('an empty file is reported', async () => {
    await ask(RESEARCH);
    return said.includes('bob: it has no key');
  });
  const twice = join(folder, 'twice.key');
  writeFileSync(twice, 'a-key-of-both-0000001\n');
  for (const [callers, words] of [
    [
      [
        { name: 'a', key_file: twice },
        { name: 'b', key_file: twice },
      ],
      /has a key of another caller/,
    ],
    [[research(), { ...research(), name: 'b' }], /is the key of another caller/],
    [[{ name: 'a', key_file: file }], /can not be used: it has no key/],
  ] as const)
    await t.rejects(startEgress({ callers }), words);
});

t.test(
  'a budget of a day sees all that costs, believes no count of nothing, and survives a reload',
  async (t) => {
    const url = provider.script('s-day', (request, response) =>
      request.json?.['user'] === 'zero'
        ? sendJson(response, 200, {
            ...chatAnswer('x'.repeat(400)),
            usage: { prompt_tokens: 0, completion_tokens: 0 },
          })
        : answerWhole(request, response),
    );
    const caller = research({ budget: { tokens_per_day: 1_000 } });
    const llm = { upstreams: [{ name: 'p', url }], callers: [caller] };
    const { ask, apply, listener } = await start(t, llm);
    for (const path of [
      '/images/edits',
      '/audio/speech',
      '/fine_tuning/jobs',
      '/videos',
      '/moderations',
      '/batches',
    ])
      t.equal((await ask(`/v1${path}`, '{"model":"m"}', bearer(RESEARCH))).status, 400, path);
    t.equal((await ask('/v1/files', '{}', bearer(RESEARCH))).status, 200, 'files cost nothing');
    const zero = () => ask('/v1/chat/completions', chat({ user: 'zero', max_tokens: 200 }), bearer(RESEARCH));
    const statuses = [];
    for (let i = 0; i < 8; i++) statuses.push((await zero()).status);
    t.ok(
      statuses.filter((status) => status === 200).length <= 4,
      `${statuses}: each counts what it reserved`,
    );
    t.equal(statuses.at(-1), 429);
    apply({ ...llm, callers: [{ name: 'writing', key_file: keyFile }] });
    apply(llm);
    t.equal((await zero()).status, 429, 'a caller that was gone has no new day');
    t.ok(listener.egress);
  },
);

t.test('outrigger llm serves alone, turns slow clients away, rereads keys and drains', async (t) => {
  const url = provider.script('s-command', answerWhole);
  const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
  const [llmPort, admin, metrics, health] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  const file = join(folder, 'outrigger.yaml');
  const rotating = join(folder, 'rotating.key');
  writeFileSync(rotating, 'sk-first-0123456789');
  const config = {
    llm: {
      listen: `0.0.0.0:${llmPort}`,
      upstreams: [{ name: 'p', url }],
      callers: [{ name: 'research', key_file: rotating }],
    },
    admin: { listen: `127.0.0.1:${admin}` },
    metrics: { listen: `127.0.0.1:${metrics}` },
    health: { listen: `127.0.0.1:${health}` },
  };
  writeFileSync(file, JSON.stringify({ ...config, llm: { ...config.llm, callers: [] } }));
  const args = [main, 'llm', '--config', file];
  const refused = await runProcess(t, process.execPath, args);
  t.equal(refused.code, 64);
  t.match(refused.output, /llm\.listen: is open beyond this machine.*\n.*llm\.callers with a key each/);

  writeFileSync(file, JSON.stringify(config));
  const service = startProcess(t, process.execPath, args, { env: { NODE_ENV: 'test' } });
  const root = `http://127.0.0.1:${llmPort}`;
  await waitUntil(
    'the service is ready',
    async () => (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok,
  );
  const ask = (key: string) => send(root, '/v1/chat/completions', chat(), bearer(key)).answer;
  const slow = createConnection(llmPort, '127.0.0.1');
  const closed = new Promise((resolve) => slow.on('close', resolve));
  slow.on('error', () => {});
  slow.write('POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n');
  const drip = setInterval(() => slow.write('x-a: b\r\n'), 500);
  t.teardown(() => clearInterval(drip));
  t.equal((await ask('sk-first-0123456789')).status, 200);
  writeFileSync(rotating, 'sk-second-0123456789\nsk-first-0123456789\n');
  await waitUntil('the new key is taken', async () => (await ask('sk-second-0123456789')).status === 200);
  t.equal((await ask('sk-first-0123456789')).status, 200, 'a file may hold the old key for a while');
  t.match(
    await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text(),
    /outrigger_llm_requests_total\{/,
  );
  t.match(await (await fetch(`http://127.0.0.1:${admin}/stats`)).json(), { llm: {} });
  await closed;
  service.kill('SIGTERM');
  t.equal(await service.ended, 0);
  t.notMatch(service.logs(), /sk-/, 'no key is in the log');
});
