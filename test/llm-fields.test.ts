// What policies add to requests: only what a provider takes, and never at its caller's expense.
import t from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import {
  answerWhole,
  type ProviderRequest,
  type Script,
  sendJson,
  WHOLE,
} from '../scripts/harness/llm/provider.ts';
import { fieldsOfHost } from '../sidecar/llm/shared/addable-fields.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

const BUDGET = { 'outrigger-token-budget': '20000', 'x-task-id': 'fields' };

const keysOf = ({ json }: ProviderRequest): string[] => Object.keys(json ?? {}).sort();

/** Refuses what it does not know, as Mistral does. */
const strict: Script = (request, response) => {
  const known = new Set(['model', 'messages', 'stream', 'max_tokens', 'temperature']);
  const extra = keysOf(request).filter((key) => !known.has(key));
  if (extra.length === 0) return answerWhole(request, response);
  const detail = extra.map((key) => ({
    type: 'extra_forbidden',
    loc: ['body', key],
    msg: 'Extra inputs are not permitted',
  }));
  sendJson(response, 422, { detail });
  return undefined;
};

t.test(
  'the egress learns that a provider does not know an added field, at no cost to the caller',
  async (t) => {
    const url = provider.script('strict', strict);
    const egress = await startEgress({ upstreams: [{ name: 'one', url }], retry: { max_attempts: 1 } });
    t.teardown(() => egress.close());
    const ask = (more: object) => send(egress.baseUrl, '/chat/completions', chat(more), BUDGET).answer;
    const first = await ask({ stream: true });
    t.equal(first.status, 200);
    t.match(first.body.toString(), /\[DONE\]/);
    t.equal(first.headers['outrigger-attempts'], '1', 'it was not run, so it was not tried');
    const [refused, taken] = provider.requests('strict');
    t.strictSame(keysOf(refused!), ['max_tokens', 'messages', 'model', 'stream', 'stream_options']);
    t.strictSame(keysOf(taken!), ['max_tokens', 'messages', 'model', 'stream']);
    t.equal((await ask({ stream: true })).status, 200);
    t.equal(provider.requests('strict').length, 3, 'the next one is sent once');
    const own = await ask({ stream: true, logit_bias: {} });
    t.equal(own.status, 422, "what is the caller's own is the caller's to know");
    t.match(own.body.toString(), /"logit_bias"/);
    const asked = await ask({ stream: true, stream_options: {} });
    t.equal(asked.status, 422);
    t.equal(provider.requests('strict').length, 5);
    t.equal(egress.listener.egress?.upstreams[0]?.breaker.state, 'closed');
  },
);

t.test('reasoning models get their own name of the maximum', async (t) => {
  const url = provider.script('reasons', (request, response) => {
    if (request.json?.['max_tokens'] === undefined) return answerWhole(request, response);
    const message =
      "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    sendJson(response, 400, {
      error: { message, type: 'invalid_request_error', param: 'max_tokens', code: 'unsupported_parameter' },
    });
    return undefined;
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  for (let i = 0; i < 2; i++)
    t.equal((await send(egress.baseUrl, '/chat/completions', chat(), BUDGET).answer).status, 200);
  const seen = provider.requests('reasons').map(keysOf);
  t.strictSame(
    seen.map((keys) => keys[0]),
    ['max_tokens', 'max_completion_tokens', 'max_completion_tokens'],
  );
  const other = chat({ model: 'other' });
  t.equal((await send(egress.baseUrl, '/chat/completions', other, BUDGET).answer).status, 200);
  t.equal(provider.requests('reasons').length, 5, 'another model may take what this one does not');
});

t.test('a maximum that is too large for the model is omitted, and tried again later', async (t) => {
  const url = provider.script('small', (request, response) => {
    if (request.json?.['max_tokens'] === undefined) return answerWhole(request, response);
    sendJson(response, 400, {
      error: {
        message: 'max_tokens is too large: 4096. This model has at most 2048.',
        param: 'max_tokens',
      },
    });
    return undefined;
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url, adds: ['max_tokens'] }] });
  t.teardown(() => egress.close());
  for (let i = 0; i < 2; i++) {
    const answer = await send(egress.baseUrl, '/chat/completions', chat(), BUDGET).answer;
    t.equal(answer.status, 200);
    t.match(answer.body.toString(), WHOLE);
  }
  t.equal(provider.requests('small').length, 4);
});

t.test('the egress adds no field to other operations, or without need', async (t) => {
  const url = provider.script('bare', answerWhole);
  const egress = await startEgress({
    upstreams: [{ name: 'one', url, model: 'chatty', adds: [] }],
    stream_usage: 'always',
  });
  t.teardown(() => egress.close());
  const body = '{"model":"chatty", "stream":true, "messages":[]}';
  t.equal((await send(egress.baseUrl, '/chat/completions', body, BUDGET).answer).status, 200);
  const vectors = '{"model":"embed-1","input":"x","stream":true}';
  for (const path of ['/embeddings', '/images/generations', '/moderations'])
    await send(egress.baseUrl, path, vectors, BUDGET).answer;
  const [text, ...others] = provider.requests('bare');
  t.equal(text?.body.toString(), body);
  t.equal(others.length, 3);
  for (const { path, body: sent } of others) t.equal(sent.toString(), vectors, path);
});

t.test('the host of a provider determines its known fields', async (t) => {
  t.strictSame(fieldsOfHost('api.mistral.ai'), ['max_tokens']);
  for (const host of ['api.openai.com', 'eu.api.openai.com', 'me.openai.azure.com'])
    t.equal(fieldsOfHost(host)[0], 'max_completion_tokens', host);
  for (const host of ['127.0.0.1', 'api.anthropic.com', 'notopenai.com', 'openai.com.example'])
    t.equal(fieldsOfHost(host)[0], 'max_tokens', host);
});
