// What a provider says of its limits: for each of its models, for as long as it says, whatever the status; and what no
// wait can help.
import OpenAI from 'openai';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { answerWhole, sendError, sendJson } from '../scripts/harness/llm/provider.ts';
import { startRawServer } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { untilFound } from './support/now.ts';
import { untilLogged } from './support/until-logged.ts';

const provider = await providerFor(t);

async function start(t: Test, llm: object) {
  const egress = await startEgress(llm);
  t.teardown(() => egress.close());
  const ask = (model = 'm', more: object = {}) =>
    send(egress.baseUrl, '/chat/completions', chat({ model, ...more })).answer;
  return Object.assign(ask, { egress });
}

const models = (name: string) => provider.requests(name).map(({ json }) => json?.['model']);

t.test('a 429 for one model delays no other model, also of the same upstream', async (t) => {
  const url = provider.script('by-model', (request, response) => {
    if (request.json?.['model'] === 'busy' || request.path === '/v1/files')
      sendError(response, 429, { 'retry-after': '3600' });
    else return answerWhole(request, response);
  });
  const ask = await start(t, { upstreams: [{ name: 'one', url }] });
  t.match(await ask('busy'), { status: 429, headers: { 'retry-after': '3600', 'x-should-retry': 'false' } });
  t.match(await ask('idle'), { status: 200, headers: { 'outrigger-attempts': '1' } });
  t.equal((await send(ask.egress.baseUrl, '/models', undefined).answer).status, 200, 'nor what has no model');
  const file = () => send(ask.egress.baseUrl, '/files', 'no JSON').answer;
  t.match(await file(), { status: 429, headers: { 'outrigger-attempts': '1' } });
  t.match(
    await file(),
    { status: 429, headers: { 'outrigger-attempts': '1' } },
    'nobody knows what it is about',
  );
  t.equal((await send(ask.egress.baseUrl, '/audio/speech', 'no JSON').answer).status, 200);
  const held = await ask('busy');
  t.match(held, { status: 429, headers: { 'outrigger-reason': 'throttled', 'outrigger-attempts': '0' } });
  t.match(held.headers['retry-after'], /^3(600|59\d)$/, 'at once, and with the time that is left');
  const asked = ['busy', 'idle', undefined, undefined, undefined, undefined];
  t.strictSame(models('by-model'), asked, 'nobody was asked too early');

  const renamed = await start(t, { upstreams: [{ name: 'one', url, model: 'busy' }] });
  await renamed('idle');
  t.match((await renamed('other')).headers, { 'outrigger-attempts': '0' }, 'all names are one model there');
});

t.test('the egress learns limits for each model', async (t) => {
  const url = provider.script('learned-by-model', ({ json }, response) => {
    // Refilled steadily: the next one of the small model is there in half an hour.
    const [limit, left] = json?.['model'] === 'small' ? ['2', '0'] : ['100', '100'];
    const headers = {
      'x-ratelimit-limit-requests': limit,
      'x-ratelimit-remaining-requests': left,
      'x-ratelimit-reset-requests': '1h',
    };
    sendJson(response, 200, {}, headers);
  });
  const ask = await start(t, { upstreams: [{ name: 'one', url }] });
  await ask('small');
  await ask('large');
  t.match((await ask('small')).headers, { 'outrigger-reason': 'throttled' });
  t.equal((await ask('large')).status, 200);
  t.strictSame(models('learned-by-model'), ['small', 'large', 'large']);
});

t.test('the egress keeps a requested pause, whatever the retried status', async (t) => {
  for (const [status, headers] of [
    [429, { 'retry-after': '2' }],
    [503, { 'retry-after': '2' }],
    [500, { 'retry-after-ms': '2000' }],
    [529, { 'retry-after': new Date(Date.now() + 2_000).toUTCString(), date: new Date().toUTCString() }],
    [408, { 'retry-after': '2' }],
    [409, { 'retry-after-ms': '2000' }],
    [400, { 'retry-after': '2', 'x-should-retry': 'true' }],
  ] as const) {
    const name = `pause-${status}`;
    const url = provider.script(name, (request, response) => {
      if (request.count === 1) sendError(response, status, { ...headers });
      else return answerWhole(request, response);
    });
    const retry = { backoff: { base: '5ms', max: '10ms' } };
    const ask = await start(t, { upstreams: [{ name: 'one', url }], retry });
    const [first, second] = await Promise.all([
      ask(),
      waitUntil('the first has been asked', () => provider.requests(name).length === 1).then(() => ask()),
    ]);
    t.match([first.status, second.status], [200, 200], `${status}`);
    const [refused, ...later] = provider.requests(name).map(({ atMs }) => atMs);
    t.ok(
      later.every((atMs) => atMs - refused! > 950),
      `${status}: others keep it as well`,
    );
  }
});

t.test('a model with a pause above the cap rests for that time, and requests go elsewhere', async (t) => {
  const resting = provider.script('rests', (_request, response) =>
    sendError(response, 503, { 'retry-after': '7200' }),
  );
  const good = provider.script('serves', answerWhole);
  const two = await start(t, {
    upstreams: [
      { name: 'one', url: resting },
      { name: 'two', url: good },
    ],
  });
  for (let i = 0; i < 3; i++) t.match(await two(), { status: 200, headers: { 'outrigger-upstream': 'two' } });
  t.equal(provider.requests('rests').length, 1);

  const one = await start(t, {
    upstreams: [{ name: 'one', url: resting }],
    circuit_breaker: { failure_percent: 0 },
  });
  t.match(await one(), { status: 503, headers: { 'retry-after': '7200', 'outrigger-attempts': '1' } });
  const next = await one();
  t.match(next, { status: 429, headers: { 'outrigger-reason': 'throttled', 'x-should-retry': 'false' } });
  t.match(next.headers['retry-after'], /^7(200|19\d)$/);
  t.equal(provider.requests('rests').length, 2);
});

t.test('a demand for payment is final for that model of that upstream, and is reported', async (t) => {
  let paid = false;
  const unpaid = [
    [
      429,
      {
        error: {
          message: 'You exceeded your current quota',
          type: 'insufficient_quota',
          code: 'insufficient_quota',
        },
      },
    ],
    [402, { error: { message: 'Insufficient credits', code: 402 } }],
    [400, { error: { message: 'Billing hard limit has been reached', code: 'billing_hard_limit_reached' } }],
    [
      400,
      {
        type: 'error',
        error: { type: 'invalid_request_error', message: 'Your credit balance is too low to …' },
      },
    ],
    [403, { error: { type: 'billing_error', message: 'x' } }],
  ] as const;
  for (const [i, [status, body]] of unpaid.entries()) {
    paid = false;
    const name = `unpaid-${i}`;
    const url = provider.script(name, (request, response) => {
      if (paid || request.json?.['model'] === 'free') return answerWhole(request, response);
      sendJson(response, status, body, { 'retry-after': '1' });
    });
    const alone = await start(t, { upstreams: [{ name: 'one', url }] });
    const client = new OpenAI({ baseURL: alone.egress.baseUrl, apiKey: 'x', maxRetries: 2, logLevel: 'off' });
    const failed = await client.chat.completions.create({ model: 'm', messages: [] }).catch((error) => error);
    t.equal(failed.status, status);
    t.match(failed.error, body.error, "the provider's own words reach the caller");
    t.equal(provider.requests(name).length, 1, `${status}: once, by us and by the client`);
    t.equal((await alone('free')).status, 200, 'other models are served');
    t.equal((await alone('m')).status, status, 'the next request is not held');
    paid = true;
    t.equal((await alone('m')).status, 200, 'and is served once it is paid');
    paid = false;
    const good = provider.script(`${name}-good`, answerWhole);
    const two = await start(t, {
      upstreams: [
        { name: 'one', url },
        { name: 'two', url: good },
      ],
    });
    const before = provider.requests(name).length;
    for (let turn = 0; turn < 3; turn++)
      t.match(await two('m'), { status: 200, headers: { 'outrigger-upstream': 'two' } });
    t.equal(provider.requests(name).length, before + 1, 'the other one serves meanwhile');
  }
  const url = provider.script('slow-error', (_request, response) => {
    response.writeHead(400, { 'content-type': 'application/json' });
    response.write('{"error": ');
    setTimeout(() => response.end('{"message":"bad"}}'), 300);
  });
  const ask = await start(t, { upstreams: [{ name: 'one', url }] });
  t.equal((await ask()).body.toString(), '{"error": {"message":"bad"}}', 'other errors pass byte for byte');
});

t.test('the admin page and the metrics name model and provider', async (t) => {
  const url = provider.script('named', ({ json }, response) => {
    if (json?.['model'] === 'unpaid')
      sendJson(response, 429, { error: { type: 'insufficient_quota', code: 'insufficient_quota' } });
    else sendError(response, 429, { 'retry-after': '7200' });
  });
  const app = await startRawServer(t);
  const inbound = { app: app.address };
  const sidecar = await startSidecar(t, { inbound, llm: { upstreams: [{ name: 'one', url }] } });
  for (const model of ['unpaid', 'long'])
    await send(`http://127.0.0.1:${sidecar.llmPort}/v1`, '/chat/completions', chat({ model })).answer;
  const page = await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`);
  const { llm } = (await page.json()) as { llm: { upstreams: { models: object[] }[] } };
  t.match(llm.upstreams[0]?.models, [
    { model: 'unpaid', out_of_credit: 'insufficient_quota', cooling_for_ms: 0 },
    { model: 'long', out_of_credit: null, cooling_because: '429', waited_for: false },
  ]);
  const metrics = await (await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`)).text();
  t.match(metrics, /outrigger_llm_out_of_credit\{upstream="one",model="unpaid"\} 1/);
  t.match(metrics, /outrigger_llm_cooldown_seconds\{upstream="one",model="long"\} 7[12]\d\d/);
  await untilLogged(t, sidecar, /one demands payment for the model unpaid \(insufficient_quota\)/);
  const { findings } = await untilFound(sidecar, 'provider_unpaid', /insufficient_quota/);
  t.match(findings, [
    { severity: 'warn', text: 'The model provider one refuses unpaid until it is paid: insufficient_quota.' },
    {
      severity: 'bad',
      text: 'The model provider one asked for a pause of long that is too long to wait for.',
    },
  ]);
});
