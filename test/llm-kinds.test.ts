// Providers of different kinds behind one egress: each is asked in its own way, and its answers, errors and limits are read in its
// own form. The providers here behave as the real ones do on the wire.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { beginStream, PIECES, type Script, sendJson, WHOLE } from '../scripts/harness/llm/provider.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answer } from './llm/model-answers.ts';
import { send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

const CLAUDE = { 'anthropic-version': '2023-06-01', 'x-api-key': 'placeholder' };
const KEY = 'sk-ant-api03-for-the-tests';
process.env['TEST_ANTHROPIC_KEY'] = KEY;

async function start(t: Test, llm: object) {
  const egress = await startEgress({ retry: { backoff: { base: '1ms', max: '2ms' } }, ...llm });
  t.teardown(() => egress.close());
  return { ...egress, root: egress.baseUrl.replace(/\/v1$/, '') };
}

const whole: Script = (request, response) => answer(request, response, { pieces: PIECES });
const messages = (more: object = {}): string =>
  JSON.stringify({
    model: 'claude-x',
    max_tokens: 50,
    messages: [{ role: 'user', content: 'count' }],
    ...more,
  });
const overloaded = { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } };

t.test("Anthropic's API: its own paths, key, errors and limits", async (t) => {
  const isFirst = (model: string) =>
    provider.requests('claude').filter(({ json }) => json?.['model'] === model).length === 1;
  const url = provider.script('claude', (request, response) => {
    const model = String(request.json?.['model'] ?? '');
    if (request.path.endsWith('/count_tokens')) sendJson(response, 200, { input_tokens: 14 });
    else if (request.path.startsWith('/v1/models'))
      sendJson(response, 200, { data: [{ type: 'model', id: 'claude-x' }], has_more: false });
    else if (model === 'busy' && isFirst(model))
      sendJson(response, 529, overloaded, { 'x-should-retry': 'true' });
    else if (model === 'busy-inside' && request.count % 2 === 0) {
      beginStream(response);
      response.end(`event: error\ndata: ${JSON.stringify(overloaded)}\n\n`);
    } else if (model === 'cut') {
      beginStream(response);
      response.write(
        'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{}}}\n\n',
      );
      response.end('event: ping\ndata: {"type":"ping"}\n\n');
    } else if (model === 'limited') {
      const reset = new Date(Date.now() + 3_600_000).toISOString();
      sendJson(
        response,
        200,
        { type: 'message', usage: { input_tokens: 1, output_tokens: 1 } },
        {
          'anthropic-ratelimit-requests-limit': '50',
          'anthropic-ratelimit-requests-remaining': '7',
          'anthropic-ratelimit-requests-reset': reset,
          'anthropic-ratelimit-tokens-limit': '90000',
          'anthropic-ratelimit-tokens-remaining': '80000',
          'anthropic-ratelimit-tokens-reset': reset,
        },
      );
    } else return whole(request, response);
  });
  const openai = provider.script('not-claude', (_request, response) =>
    sendJson(response, 200, { object: 'list', data: [{ id: 'gpt', object: 'model' }] }),
  );
  const { root, listener } = await start(t, {
    upstreams: [
      { name: 'openai', kind: 'openai', url: openai },
      {
        name: 'claude',
        kind: 'anthropic',
        url: url.replace(/\/v1$/, ''),
        api_key_env: 'TEST_ANTHROPIC_KEY',
        headers: { 'X-Team': 'blue' },
      },
    ],
  });
  const asked = () => provider.requests('claude').at(-1)!;
  const ask = (path: string, body: string | undefined, headers = {}) =>
    send(root, path, body, { ...CLAUDE, authorization: 'Bearer own', ...headers }).answer;

  const plain = await ask('/v1/messages?beta=true', messages());
  t.equal(plain.status, 200);
  t.match(JSON.parse(plain.body.toString()), { type: 'message', content: [{ text: WHOLE }] });
  t.match(plain.headers, { 'outrigger-upstream': 'claude' });
  t.match(asked(), { path: '/v1/messages?beta=true' }, 'below the base URL without /v1');
  t.match(asked().headers, { 'x-api-key': KEY, 'anthropic-version': '2023-06-01', 'x-team': 'blue' });
  t.equal(asked().headers['authorization'], undefined, 'one credential, and not the own one of the caller');

  const counted = await ask('/v1/messages/count_tokens', messages());
  t.match(JSON.parse(counted.body.toString()), { input_tokens: 14 });
  t.match(asked().path, '/v1/messages/count_tokens');

  t.match((await ask('/v1/models', undefined)).body.toString(), /claude-x/);
  t.match((await send(root, '/v1/models', undefined).answer).body.toString(), /gpt/, "to OpenAI's clients");

  for (const model of ['busy', 'busy-inside']) {
    const again = await ask('/v1/messages', messages({ model, stream: true }));
    t.equal(again.status, 200, model);
    t.match(again.body.toString(), /"five"[\s\S]*event: message_stop/, 'an overload is tried again');
    t.match(again.headers, { 'outrigger-attempts': '2' });
  }

  const cut = await ask('/v1/messages', messages({ model: 'cut', stream: true }));
  t.ok(cut.broken, 'no end that looks like one');
  const [, last = ''] = /event: error\ndata: (.*)\n\n$/.exec(cut.body.toString()) ?? [];
  t.match(JSON.parse(last), { type: 'error', error: { type: 'api_error', message: /its last event/ } });
  t.match(cut.body.toString(), /^event: message_start\n/, 'what came before passes');

  await ask('/v1/messages', messages({ model: 'limited' }));
  const upstream = listener.egress!.upstreams.find(({ name }) => name === 'claude')!;
  t.match(upstream.models.get('limited')!.learned.left(0), { requests: Number, tokens: Number });
  t.equal(upstream.breaker.state, 'closed');

  const nowhere = await start(t, { upstreams: [{ name: 'openai', kind: 'openai', url: openai }] });
  const refused = await send(nowhere.root, '/v1/messages', messages(), CLAUDE).answer;
  t.equal(refused.status, 404);
  t.match(JSON.parse(refused.body.toString()), {
    type: 'error',
    error: { type: 'not_found_error', message: /no upstream speaks Anthropic's API; .*openai \(openai\)/ },
  });
  t.match(refused.headers, { 'outrigger-reason': 'no_route', 'x-should-retry': 'false' });
});

t.test("Anthropic's tokens count for a budget, with those that its cache reads and writes", async (t) => {
  const usage = {
    input_tokens: 3,
    cache_read_input_tokens: 1_000,
    cache_creation_input_tokens: 500,
    cache_creation: { ephemeral_5m_input_tokens: 300, ephemeral_1h_input_tokens: 200 },
    output_tokens: 1,
  };
  const url = provider.script('claude-budget', (request, response) => {
    const named = (value: { type: string }) => `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
    if (request.json?.['stream'] !== true) {
      sendJson(response, 200, { type: 'message', model: 'claude-x-1', stop_reason: 'end_turn', usage });
      return;
    }
    beginStream(response);
    const message = { id: 'm', type: 'message', model: 'claude-x-1', content: [], usage };
    response.write(named({ type: 'message_start', message } as { type: string }));
    // The last usage may leave out what the first one told.
    response.write(
      named({ type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 40 } } as {
        type: string;
      }),
    );
    response.end(named({ type: 'message_stop' }));
  });
  const { root, listener } = await start(t, {
    upstreams: [{ name: 'claude', kind: 'anthropic', url, api_key_env: 'TEST_ANTHROPIC_KEY' }],
  });
  const ask = (more: object, budget: number) =>
    send(root, '/v1/messages', messages(more), { ...CLAUDE, 'outrigger-token-budget': String(budget) })
      .answer;
  const tokens = () => ({ ...listener.stats.of('claude', 'claude-x').tokens });
  await ask({}, 10_000);
  t.strictSame(tokens(), { input: 1_503, output: 1, wasted: 0 });
  await ask({ stream: true }, 10_000);
  t.strictSame(tokens(), { input: 3_006, output: 41, wasted: 0 });
  const refused = await ask({}, 60);
  t.equal(refused.status, 429);
  t.match(JSON.parse(refused.body.toString()), { type: 'error', error: { type: 'rate_limit_error' } });
  t.equal(provider.requests('claude-budget').length, 2);
});

t.test('a key from a file is read again when the file changes', async (t) => {
  const file = join(t.testdir({ key: 'sk-ant-first-key\n' }), 'key');
  const url = provider.script('claude-file', whole);
  const { root } = await start(t, {
    upstreams: [{ name: 'claude', kind: 'anthropic', url, api_key_file: file }],
  });
  const keyNow = async () => {
    await send(root, '/v1/messages', messages(), CLAUDE).answer;
    return provider.requests('claude-file').at(-1)!.headers['x-api-key'];
  };
  t.equal(await keyNow(), 'sk-ant-first-key');
  writeFileSync(file, 'sk-ant-second-key');
  await waitUntil('the new key is sent', async () => (await keyNow()) === 'sk-ant-second-key');
});

const gemini = (more: object = {}): string =>
  JSON.stringify({ contents: [{ role: 'user', parts: [{ text: 'count' }] }], ...more });

t.test(
  "Gemini's API: its paths name the model, its streams end with their bytes, its errors say when to come again",
  async (t) => {
    const isFirst = (model: string) =>
      provider.requests('gemini').filter(({ path }) => path.includes(`/${model}:`)).length === 1;
    const busy = (delay: string) => ({
      error: {
        code: 429,
        message: 'Quota exceeded',
        status: 'RESOURCE_EXHAUSTED',
        details: [{ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: delay }],
      },
    });
    const url = provider.script('gemini', (request, response) => {
      const [, model = ''] = /\/models\/([^/:]+):/.exec(request.path) ?? [];
      if (request.path.includes(':countTokens')) sendJson(response, 200, { totalTokens: 9 });
      else if (request.path.includes(':embedContent'))
        sendJson(response, 200, { embedding: { values: [0.5] } });
      else if (model === 'busy' && isFirst(model)) sendJson(response, 429, busy('0.05s'));
      else if (model === 'resting')
        sendJson(response, 429, request.path.includes('alt=sse') ? [busy('3600s')] : busy('3600s'));
      else if (model === 'cut' && request.path.includes('alt=sse')) {
        beginStream(response);
        response.end('data: {"candidates":[{"content":{"parts":[{"text":"one "}]},"index":0}]}\r\n\r\n');
      } else if (model === 'cut') {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end('[{"candidates":[{"content":{"parts":[{"text":"one "}]},"index":0}]}\r\n,{"cand');
      } else if (model === 'blocked') {
        beginStream(response);
        response.end(
          'data: {"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4}}\r\n\r\n',
        );
      } else return whole(request, response);
    });
    process.env['TEST_GEMINI_KEY'] = 'AIza-for-the-tests';
    const { root, listener } = await start(t, {
      upstreams: [
        { name: 'openai', kind: 'openai', url: provider.script('not-gemini', whole) },
        { name: 'gemini', kind: 'gemini', url: url.replace(/\/v1$/, ''), api_key_env: 'TEST_GEMINI_KEY' },
      ],
      models: [
        { match: 'alias', use: [{ upstream: 'gemini', model: 'gemini-x' }] },
        { match: '*', use: [{ upstream: 'gemini' }] },
      ],
    });
    const asked = () => provider.requests('gemini').at(-1)!;
    const ask = async (model: string, verb: string, body = gemini(), headers = {}) => {
      const path = `/v1beta/models/${model}:${verb}`;
      const answer = await send(root, path, body, { 'x-goog-api-key': 'own', ...headers }).answer;
      return { ...answer, text: answer.body.toString() };
    };

    t.match(JSON.parse((await ask('alias', 'generateContent')).text), {
      candidates: [{ finishReason: 'STOP' }],
    });
    t.equal(asked().path, '/v1beta/models/gemini-x:generateContent');
    t.equal(asked().body.toString(), gemini(), 'the body has no model');
    t.match(asked().headers, { 'x-goog-api-key': 'AIza-for-the-tests', authorization: undefined });
    t.match((await ask('m', 'countTokens')).text, /9/);
    t.match((await ask('m', 'embedContent')).text, /0\.5/);

    const events = await ask('m', 'streamGenerateContent?alt=sse');
    t.match([...events.text.matchAll(/"text":"(\w+ ?)"/g)].map(([, text]) => text).join(''), WHOLE);
    t.notOk(events.broken);
    const array = await ask('m', 'streamGenerateContent');
    t.match(
      JSON.parse(array.text).map(({ candidates }: { candidates: unknown[] }) => candidates.length),
      [1, 1, 1, 1, 1],
    );
    const stats = listener.stats.of('gemini', 'm').tokens;
    t.match(stats, { wasted: 0 });
    t.ok(stats.output >= 10, `thoughts are output: ${stats.output}`);

    const cut = await ask('cut', 'streamGenerateContent?alt=sse');
    t.ok(cut.broken);
    t.match(
      cut.text,
      /data: \{"error":\{"code":502,"message":"gemini: the stream ended [^}]*"status":"INTERNAL"/,
    );
    const cutArray = await ask('cut', 'streamGenerateContent');
    t.ok(cutArray.broken);
    t.match(JSON.parse(cutArray.text), [{ candidates: [{}] }, { error: { code: 502, status: 'INTERNAL' } }]);
    t.notOk(
      (await ask('blocked', 'streamGenerateContent?alt=sse')).broken,
      'a blocked prompt is a whole answer',
    );

    t.match((await ask('busy', 'generateContent')).headers, { 'outrigger-attempts': '2' });
    const resting = await ask('resting', 'generateContent');
    t.equal(resting.status, 429);
    const upstream = listener.egress!.upstreams.find(({ name }) => name === 'gemini')!;
    t.ok(
      upstream.models.get('resting')!.restsUntilMs > performance.now() + 3_000_000,
      'as long as RetryInfo says',
    );
    t.match(JSON.parse((await ask('resting', 'generateContent')).text), {
      error: { code: 429, status: 'RESOURCE_EXHAUSTED', details: [{ reason: 'throttled' }] },
    });

    const budgeted = async (body: string, budget: number) =>
      (await ask('m', 'generateContent', body, { 'outrigger-token-budget': String(budget) })).status;
    t.equal(await budgeted(gemini({ generationConfig: { temperature: 0.5 } }), 1_000), 200);
    const sent = asked().json as { generationConfig: { temperature: number; maxOutputTokens: number } };
    t.equal(sent.generationConfig.temperature, 0.5, 'what else stands there stays');
    t.ok(sent.generationConfig.maxOutputTokens > 0 && sent.generationConfig.maxOutputTokens <= 1_000);
    t.equal(await budgeted(gemini({ generationConfig: { maxOutputTokens: 5_000 } }), 1_000), 429);
    t.equal(
      await budgeted(gemini({ generationConfig: { maxOutputTokens: 50, candidateCount: 40 } }), 1_000),
      429,
    );
    t.equal(
      await budgeted(gemini({ cachedContent: 'cachedContents/x' }), 1_000),
      400,
      'its size is not known',
    );
    const file = { contents: [{ parts: [{ fileData: { fileUri: 'https://x/files/y' } }] }] };
    t.equal(await budgeted(gemini(file), 1_000), 400);
  },
);

t.test('Azure: deployments stand in the path, or in the body of its version 1', async (t) => {
  const url = provider.script('azure', whole).replace(/\/v1$/, '');
  const openai = provider.script('azure-other', whole);
  process.env['TEST_AZURE_KEY'] = '0123456789abcdef0123456789abcdef';
  const azure = { name: 'azure', kind: 'azure', url, api_key_env: 'TEST_AZURE_KEY' };
  const { root, apply } = await start(t, {
    upstreams: [{ name: 'openai', kind: 'openai', url: openai }, azure],
  });
  const asked = () => provider.requests('azure').at(-1)!;
  const ask = (path: string, model: string | undefined) =>
    send(root, path, JSON.stringify({ model, messages: [] }), { 'api-key': 'own' }).answer;
  const ofClient = '/openai/deployments/gpt-x/chat/completions?api-version=2024-10-21';

  const answered = await ask(ofClient, 'gpt-x');
  t.match(answered.headers, { 'outrigger-upstream': 'azure' }, 'and not the first upstream');
  t.equal(asked().path, ofClient);
  t.match(asked().headers, { 'api-key': process.env['TEST_AZURE_KEY'], authorization: undefined });
  // Two deployments, asked at once in the same words under one key, are two requests.
  const before = provider.requests('azure').length;
  const equal = { 'api-key': 'own', 'idempotency-key': 'k' };
  await Promise.all(
    ['a', 'b'].map(
      (name) => send(root, ofClient.replace('gpt-x', name), JSON.stringify({ messages: [] }), equal).answer,
    ),
  );
  t.equal(provider.requests('azure').length, before + 2);
  await ask('/openai/v1/chat/completions', 'gpt-x');
  t.equal(asked().path, '/openai/v1/chat/completions');

  const models = [
    {
      match: 'fast',
      use: [
        { upstream: 'azure', model: 'my-deployment' },
        { upstream: 'openai', model: 'gpt-5' },
      ],
    },
  ];
  apply({ upstreams: [{ name: 'openai', kind: 'openai', url: openai }, azure], models });
  await ask('/v1/chat/completions', 'fast');
  t.match(asked(), { path: '/openai/v1/chat/completions', json: { model: 'my-deployment' } });
  const versioned = { ...azure, api_version: '2025-04-01-preview' };
  apply({ upstreams: [{ name: 'openai', kind: 'openai', url: openai }, versioned], models });
  await ask('/v1/chat/completions', 'fast');
  t.equal(asked().path, '/openai/deployments/my-deployment/chat/completions?api-version=2025-04-01-preview');
  apply({
    upstreams: [{ name: 'openai', kind: 'openai', url: openai }],
    models: [{ match: 'gpt-x', use: [{ upstream: 'openai', model: 'gpt-5' }] }],
  });
  await ask(ofClient, undefined);
  t.match(provider.requests('azure-other').at(-1), {
    path: '/v1/chat/completions',
    json: { model: 'gpt-5' },
  });
});
