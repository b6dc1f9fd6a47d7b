// Routing by model: rules, chains with weights and fallbacks, one list of models, and what is said of a model that nobody has.
import OpenAI from 'openai';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { answerWhole, type Script, sendError, sendJson } from '../scripts/harness/llm/provider.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);
const CLAUDE = { 'anthropic-version': '2023-06-01', 'x-api-key': 'placeholder' };
const GEMINI = { 'x-goog-api-key': 'placeholder' };

async function start(t: Test, llm: object) {
  const egress = await startEgress({ retry: { backoff: { base: '1ms', max: '2ms' } }, ...llm });
  t.teardown(() => egress.close());
  return { ...egress, root: egress.baseUrl.replace(/\/v1$/, '') };
}

/** A script with the list of its models, in the form of its API. */
const listing =
  (list: object, otherwise: Script = answerWhole): Script =>
  (request, response) =>
    /\/models(?:\?|$)/.test(request.path) ? sendJson(response, 200, list) : otherwise(request, response);

const models = (...ids: string[]) => ({ object: 'list', data: ids.map((id) => ({ id, object: 'model' })) });

t.test('rules lead models to chains, and an unknown model is named with those there are', async (t) => {
  const openai = provider.script('r-openai', listing(models('gpt-5', 'gpt-5-mini', 'whisper')));
  const vllm = provider.script('r-vllm', listing(models('llama', 'gpt-oss')));
  const claudeList = {
    data: [
      { type: 'model', id: 'claude-x' },
      { type: 'model', id: 'other' },
    ],
    has_more: false,
  };
  const claude = provider.script(
    'r-claude',
    listing(claudeList, (_request, response) =>
      sendJson(response, 200, { type: 'message', content: [], usage: { input_tokens: 1, output_tokens: 1 } }),
    ),
  );
  const { root, baseUrl } = await start(t, {
    upstreams: [
      { name: 'openai', kind: 'openai', url: openai },
      { name: 'vllm', kind: 'compatible', url: vllm },
      { name: 'claude', kind: 'anthropic', url: claude },
    ],
    models: [
      { match: 'fast', operations: ['embeddings'], use: [{ upstream: 'vllm', model: 'embedder' }] },
      {
        match: 'fast',
        use: [
          { upstream: 'openai', model: 'gpt-5-mini' },
          { upstream: 'vllm', model: 'llama' },
        ],
      },
      { match: 'gpt-*', use: [{ upstream: 'openai' }, { upstream: 'vllm' }] },
      { match: 'claude-*', use: [{ upstream: 'claude' }] },
      { match: 'whisper', use: [{ upstream: 'openai' }] },
    ],
  });
  const ask = async (path: string, body: object, headers = {}) => {
    const answer = await send(root, path, JSON.stringify(body), headers).answer;
    return { ...answer, text: answer.body.toString() };
  };
  const modelAt = (name: string) => provider.requests(name).at(-1)?.json?.['model'];

  t.match((await ask('/v1/chat/completions', { model: 'fast' })).headers, { 'outrigger-upstream': 'openai' });
  t.equal(modelAt('r-openai'), 'gpt-5-mini');
  t.match((await ask('/v1/embeddings', { model: 'fast', input: 'x' })).headers, {
    'outrigger-upstream': 'vllm',
  });
  t.equal(modelAt('r-vllm'), 'embedder', 'an alias has its own meaning for each operation');
  t.match((await ask('/v1/chat/completions', { model: 'gpt-5' })).headers, {
    'outrigger-upstream': 'openai',
  });
  t.equal(modelAt('r-openai'), 'gpt-5', 'a pattern leaves the name');
  t.equal((await ask('/v1/messages', { model: 'claude-x', max_tokens: 1 }, CLAUDE)).status, 200);

  const client = new OpenAI({ baseURL: baseUrl, apiKey: 'x', logLevel: 'off' });
  const error = await client.chat.completions
    .create({ model: 'gtp-5', messages: [] })
    .catch((caught) => caught);
  t.match(error, {
    status: 404,
    code: 'unknown_model',
    message: /no model "gtp-5" here; there are fast, gpt-\*, claude-\*, whisper/,
  });
  const unknown = await ask('/v1/messages', { model: 'nobody', max_tokens: 1 }, CLAUDE);
  t.match(JSON.parse(unknown.text), {
    type: 'error',
    error: { type: 'not_found_error', message: /claude-\*/ },
  });
  const alien = await ask('/v1/messages', { model: 'whisper', max_tokens: 1 }, CLAUDE);
  t.equal(alien.status, 404);
  t.match(alien.text, /no upstream of the chain of \\"whisper\\" speaks Anthropic's API; it has openai/);
  t.equal(
    (await ask('/v1/files', {})).status,
    200,
    'a request without a model goes to the upstreams in order',
  );

  const list = async (path: string, headers = {}) =>
    JSON.parse((await send(root, path, undefined, headers).answer).body.toString());
  t.strictSame(
    (await list('/v1/models')).data.map(({ id }: { id: string }) => id),
    ['fast', 'gpt-5', 'gpt-5-mini', 'gpt-oss', 'whisper'],
    'aliases, and what the patterns take of the lists',
  );
  t.match(await list('/v1/models', CLAUDE), {
    data: [
      { type: 'model', id: 'fast' },
      { type: 'model', id: 'claude-x' },
    ],
    has_more: false,
    first_id: 'fast',
    last_id: 'claude-x',
  });
});

t.test('a chain goes on after faults, and after refusals where it says so', async (t) => {
  const tooLong = {
    error: { message: 'too long', type: 'invalid_request_error', code: 'context_length_exceeded' },
  };
  const first = provider.script('r-first', (request, response) => {
    const model = String(request.json?.['model']);
    if (/^\d+$/.test(model)) sendError(response, Number(model));
    else if (model === 'long') sendJson(response, 400, tooLong);
    else return answerWhole(request, response);
  });
  const second = provider.script('r-second', answerWhole);
  const chain = { use: [{ upstream: 'first' }, { upstream: 'second', model: 'large' }] };
  const { baseUrl, apply, listener } = await start(t, {
    upstreams: [
      { name: 'first', url: first },
      { name: 'second', url: second },
    ],
    models: [{ match: '*', ...chain, fall_back_on: ['unauthorized', 'not_found', 'context_length'] }],
  });
  const served = async (model: string) => {
    const { status, headers } = await send(baseUrl, '/chat/completions', chat({ model })).answer;
    return `${status} ${headers['outrigger-upstream']} ${headers['outrigger-attempts']}`;
  };
  t.equal(await served('503'), '200 second 2');
  t.equal(await served('401'), '200 second 2');
  t.equal(await served('404'), '200 second 2');
  t.equal(await served('long'), '200 second 2');
  t.equal(await served('403'), '403 first 1', 'not in the list');
  t.equal(await served('400'), '400 first 1');
  t.equal(provider.requests('r-second').at(-1)?.json?.['model'], 'large');
  t.equal(listener.egress!.upstreams[0]!.breaker.state, 'closed');
  // The last place has nothing behind it: what it says is passed on.
  const alone = { match: '*', use: [{ upstream: 'first' }], fall_back_on: ['unauthorized'] };
  apply({ upstreams: [{ name: 'first', url: first }], models: [alone] });
  t.equal(await served('401'), '401 first 1');
});

t.test('weights draw the first place of a chain', async (t) => {
  const [a, b] = ['r-a', 'r-b'].map((name) => provider.script(name, answerWhole));
  const use = [
    { upstream: 'a', weight: 75 },
    { upstream: 'b', model: 'canary', weight: 25 },
  ];
  const { baseUrl } = await start(t, {
    upstreams: [
      { name: 'a', url: a },
      { name: 'b', url: b },
    ],
    models: [{ match: 'm', use }],
  });
  const asked = 400;
  for (let at = 0; at < asked; at += 20)
    await Promise.all(Array.from({ length: 20 }, () => send(baseUrl, '/chat/completions', chat()).answer));
  const share = provider.requests('r-b').length / asked;
  t.equal(provider.requests('r-a').length + provider.requests('r-b').length, asked);
  // Six standard deviations: a right draw fails once in hundreds of millions of runs.
  t.ok(Math.abs(share - 0.25) < 0.13, `a share of ${share}`);
});

t.test('without rules the lists of all upstreams of the API are one', async (t) => {
  const one = provider.script('r-one', listing(models('a', 'b')));
  const two = provider.script('r-two', listing(models('b', 'c')));
  const down = provider.script('r-down', (_request, response) => sendError(response, 500));
  const gemini = provider.script('r-gemini', listing({ models: [{ name: 'models/gemini-x' }] }));
  const { root } = await start(t, {
    upstreams: [
      { name: 'one', url: one },
      { name: 'down', url: down },
      { name: 'two', url: two },
      { name: 'gemini', kind: 'gemini', url: gemini.replace(/\/v1$/, '') },
    ],
  });
  const { body, headers } = await send(root, '/v1/models', undefined).answer;
  t.strictSame(
    JSON.parse(body.toString()).data.map(({ id }: { id: string }) => id),
    ['a', 'b', 'c'],
  );
  t.equal(headers['outrigger-missing'], 'down', 'and says whose list is missing');
  const ofGemini = await send(root, '/v1beta/models', undefined, GEMINI).answer;
  t.match(JSON.parse(ofGemini.body.toString()), { models: [{ name: 'models/gemini-x' }] });
  t.equal(provider.requests('r-gemini').at(-1)?.path, '/v1beta/models');
});

t.test('a provider that lacks something does not get it', async (t) => {
  const small = provider.script('r-small', answerWhole);
  const large = provider.script('r-large', answerWhole);
  const { baseUrl, apply } = await start(t, {
    upstreams: [
      { name: 'small', url: small, lacks: ['responses', 'prompt_cache_key'] },
      { name: 'large', url: large },
    ],
  });
  const upstreamOf = async (path: string, more = {}) =>
    (await send(baseUrl, path, chat(more)).answer).headers['outrigger-upstream'];
  t.equal(await upstreamOf('/chat/completions'), 'small');
  t.equal(await upstreamOf('/chat/completions', { prompt_cache_key: 'x' }), 'large');
  t.equal(await upstreamOf('/responses'), 'large');
  apply({ upstreams: [{ name: 'small', url: small, lacks: ['prompt_cache_key'] }] });
  const refused = await send(baseUrl, '/chat/completions', chat({ prompt_cache_key: 'x' })).answer;
  t.equal(refused.status, 404);
  t.match(refused.body.toString(), /small can't take prompt_cache_key/);
});

t.test(
  'a conversation stays where its prompt is in a cache, and a stored response where it is stored',
  async (t) => {
    let broken = false;
    const [one, two] = ['r-near', 'r-far'].map((name) =>
      provider.script(name, (request, response) => {
        if (broken && name === 'r-near') sendError(response, 503);
        else if (request.path.endsWith('/responses'))
          sendJson(response, 200, {
            id: `resp-${name}-${request.count}`,
            object: 'response',
            status: 'completed',
          });
        else return answerWhole(request, response);
      }),
    );
    const clock = new TestClock();
    const egress = await startEgress(
      {
        upstreams: [
          { name: 'near', url: one },
          { name: 'far', url: two },
        ],
        circuit_breaker: { failure_percent: 0 },
        retry: { max_attempts: 2, backoff: { base: '1ms', max: '2ms' } },
      },
      { testClock: clock },
    );
    t.teardown(() => egress.close());
    const ask = async (path: string, body: object) => {
      const answer = await send(egress.baseUrl, path, JSON.stringify(body)).answer;
      return { at: answer.headers['outrigger-upstream'], json: JSON.parse(answer.body.toString()) };
    };
    const prompt = (name: string) => ({
      model: 'm',
      messages: [{ role: 'user', content: name.repeat(2_000) }],
    });
    const cached = (key: string) => ({ ...prompt('short '), prompt_cache_key: key });
    t.equal((await ask('/chat/completions', prompt('old '))).at, 'near');
    const stored = await ask('/responses', { model: 'm', input: 'x' });
    t.equal(stored.at, 'near');
    broken = true;
    t.equal((await ask('/chat/completions', prompt('new '))).at, 'far');
    t.equal((await ask('/chat/completions', cached('k'))).at, 'far');
    const far = await ask('/responses', { model: 'm', input: 'x' });
    broken = false;
    t.equal(
      (await ask('/chat/completions', prompt('new '))).at,
      'far',
      'it does not go back while the cache there has it',
    );
    t.equal((await ask('/chat/completions', cached('k'))).at, 'far');
    t.equal((await ask('/chat/completions', cached('other'))).at, 'near');
    t.equal((await ask('/chat/completions', prompt('old '))).at, 'near', 'its own prompt is there');
    t.equal((await ask('/responses', { model: 'm', previous_response_id: far.json.id })).at, 'far');
    broken = true;
    let kept: { json: object } | undefined;
    void ask('/responses', { model: 'm', previous_response_id: stored.json.id }).then((answer) => {
      kept = answer;
    });
    // The second attempt waits for its back-off.
    await waitUntil('the request has failed', () => {
      clock.advance(20);
      return kept;
    });
    t.match(kept?.json, { error: Object }, 'no other upstream has the response');
    t.equal(provider.requests('r-far').at(-1)?.json?.['previous_response_id'], far.json.id);
    broken = false;
    clock.advance(301_000);
    t.equal(
      (await ask('/chat/completions', prompt('new '))).at,
      'near',
      'after five minutes it is in no cache',
    );
  },
);
