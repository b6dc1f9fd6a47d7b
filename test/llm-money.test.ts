// Money: what requests cost, and budgets that no order of requests, faults or fallbacks passes.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { chatAnswer, sendError, sendJson } from '../scripts/harness/llm/provider.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

/** USD for a million tokens: cheap is 1 and 2, dear is 10 and 20. */
const PRICES = {
  as_of: '2026-11-30',
  prices: [
    { models: ['cheap'], usd_per_million: { input: 1, output: 2 } },
    { models: ['dear'], usd_per_million: { input: 10, output: 20 } },
  ],
};

const NANOS = { cheap: [1_000, 2_000], dear: [10_000, 20_000] } as const;
type Priced = keyof typeof NANOS;

/** A provider that bills what a request may use at most: its bytes, and all of its `max_tokens`. */
function billing(name: string, share = 1) {
  const bill = { nanos: 0, requests: 0 };
  const url = provider.script(name, ({ json, body }, response) => {
    const model = String(json?.['model']) as Priced;
    const most = Number(json?.['max_completion_tokens'] ?? json?.['max_tokens']);
    const [input, output] = [Math.ceil(body.length * share), Math.ceil(most * share)];
    bill.requests++;
    bill.nanos += input * NANOS[model][0] + output * NANOS[model][1];
    const usage = { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
    sendJson(response, 200, { ...chatAnswer('x'), model, usage });
  });
  return { url, bill };
}

async function start(t: Test, llm: object) {
  const prices = join(t.testdir({}), 'prices.yaml');
  writeFileSync(prices, JSON.stringify(PRICES));
  const egress = await startEgress({ prices_file: prices, ...llm });
  t.teardown(() => egress.close());
  const ask = async (body: object, headers: Record<string, string> = {}) => {
    const answer = await send(egress.baseUrl, '/chat/completions', chat(body), headers).answer;
    return {
      ...answer,
      reason: String(answer.headers['outrigger-reason'] ?? ''),
      text: answer.body.toString(),
    };
  };
  const spent = () => {
    let nanos = 0;
    for (const { costs } of egress.listener.stats.pairs.values())
      for (const cost of costs.values()) nanos += cost;
    return nanos;
  };
  return { ...egress, ask, spent, prices };
}

t.test('each request is counted at the price of where it was answered', async (t) => {
  const { url, bill } = billing('m-count', 0.5);
  const { ask, spent, listener } = await start(t, { upstreams: [{ name: 'p', url }] });
  for (const model of ['cheap', 'dear', 'cheap'])
    t.equal((await ask({ model, max_tokens: 10 }, { 'x-task-id': 'task-1' })).status, 200);
  t.equal(spent(), bill.nanos, 'to the nano-dollar');
  t.same(listener.stats.tasks.top(1), [{ name: 'task-1', nanos: bill.nanos }]);
  const other = provider.script('m-unpriced', (_request, response) =>
    sendJson(response, 200, { ...chatAnswer('x'), usage: { prompt_tokens: 5, completion_tokens: 5 } }),
  );
  const unknown = await start(t, { upstreams: [{ name: 'p', url: other }] });
  t.equal((await unknown.ask({ model: 'nobody-knows-it' })).status, 200, 'a model without a price is served');
  const [pair] = unknown.listener.stats.pairs.values();
  t.match({ unpriced: pair!.unpriced, costs: [...pair!.costs] }, { unpriced: 1, costs: [] }, 'and not free');
});

t.test('a task spends no more than its money, however many requests it makes at once', async (t) => {
  const { url, bill } = billing('m-task');
  const { ask } = await start(t, { upstreams: [{ name: 'p', url }], limits: { usd_per_task: 0.01 } });
  const headers = { 'x-task-id': 'greedy' };
  const models = ['cheap', 'dear'] as const;
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, at) => ask({ model: models[at % 2]!, max_tokens: 40 + at }, headers)),
  );
  const refused = answers.filter(({ status }) => status === 429);
  t.ok(refused.length > 0);
  t.ok(bill.requests > 0);
  t.ok(bill.nanos <= 10_000_000, `${bill.nanos} of 10,000,000 nano-dollars`);
  for (const { reason, text } of refused) {
    t.equal(reason, 'budget_exhausted');
    t.match(text, /the task has 0\.\d+ USD left, and the request may cost more/);
  }
  t.equal((await ask({ model: 'cheap', max_tokens: 1 }, { 'x-task-id': 'another' })).status, 200);
});

t.test('a request without a maximum gets one that the money pays for', async (t) => {
  // The field that the egress adds is no prompt.
  const { url, bill } = billing('m-added', 0.9);
  const { ask } = await start(t, { upstreams: [{ name: 'p', url }], limits: { usd_per_task: 0.02 } });
  t.equal((await ask({ model: 'dear' }, { 'x-task-id': 'open' })).status, 200);
  const sent = provider.requests('m-added').at(-1)!.json!;
  t.ok(Number(sent['max_completion_tokens'] ?? sent['max_tokens']) > 0);
  t.ok(bill.nanos <= 20_000_000, `${bill.nanos} of 20,000,000 nano-dollars`);
});

t.test('a fallback is paid at its own price, or not made', async (t) => {
  const down = provider.script('m-down', (_request, response) => sendError(response, 503, 'down'));
  const { url, bill } = billing('m-fallback');
  const chain = {
    upstreams: [
      { name: 'first', url: down },
      { name: 'second', url },
    ],
    models: [{ match: 'cheap', use: [{ upstream: 'first' }, { upstream: 'second', model: 'dear' }] }],
    retry: { max_attempts: 2, backoff: { base: '5ms', max: '5ms' } },
  };
  // Enough for the request at the price of cheap, and not at that of dear.
  const poor = await start(t, { ...chain, limits: { usd_per_task: 0.002 } });
  const refused = await poor.ask({ model: 'cheap', max_tokens: 300 }, { 'x-task-id': 'a' });
  t.match(refused, { status: 429, reason: 'budget_exhausted' });
  t.equal(bill.requests, 0);
  const rich = await start(t, { ...chain, limits: { usd_per_task: 0.1 } });
  t.equal((await rich.ask({ model: 'cheap', max_tokens: 300 }, { 'x-task-id': 'a' })).status, 200);
  t.equal(rich.spent(), bill.nanos);
});

t.test('what a budget in money can not bound is refused, and says why', async (t) => {
  const { url, bill } = billing('m-unbound');
  const { ask, baseUrl } = await start(t, { upstreams: [{ name: 'p', url }], limits: { usd_per_task: 1 } });
  const headers = { 'x-task-id': 'b' };
  t.match(await ask({ model: 'unknown' }, headers), {
    status: 403,
    reason: 'no_price',
    text: /p\/unknown has no price; add one to llm\.prices_file/,
  });
  const tools = [{ type: 'function', function: { name: 'web_search', parameters: { type: 'object' } } }];
  t.equal(
    (await ask({ model: 'cheap', max_tokens: 5, tools }, headers)).status,
    200,
    "a tool of the agent's own",
  );
  const before = bill.requests;
  for (const [path, body, message] of [
    [
      '/responses',
      { model: 'cheap', input: 'x', tools: [{ type: 'web_search' }] },
      /its tool "web_search" is run by/,
    ],
    [
      '/responses',
      '{"model":"cheap","input":"x","tools":[{"type":"web_s\\u0065arch"}]}',
      /is run by the provider/,
    ],
    [
      '/responses',
      { model: 'cheap', input: 'x', previous_response_id: 'resp_1' },
      /"previous_response_id" names/,
    ],
    ['/responses', { model: 'cheap', input: 'x', prompt: { id: 'pmpt_1' } }, /"prompt" names/],
    [
      '/chat/completions',
      { model: 'cheap', messages: [], web_search_options: {} },
      /"web_search_options" names/,
    ],
  ] as const) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const answer = await send(baseUrl, path, text, headers).answer;
    t.equal(answer.status, 400);
    t.match(JSON.parse(answer.body.toString()).error.message, message);
  }
  const continued = { model: 'cheap', input: 'x', max_output_tokens: 5, previous_response_id: null };
  const answer = await send(baseUrl, '/responses', JSON.stringify(continued), headers).answer;
  t.not(answer.status, 400, 'null continues nothing');
  t.ok(bill.requests <= before + 1);
});

t.test('an answer that breaks off costs all that was reserved for it', async (t) => {
  const url = provider.script('m-cut', (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n');
    setImmediate(() => response.destroy());
  });
  const { ask } = await start(t, { upstreams: [{ name: 'p', url }], limits: { usd_per_task: 0.01 } });
  const statuses: number[] = [];
  for (let i = 0; i < 6; i++) {
    const cut = await ask({ model: 'dear', max_tokens: 100, stream: true }, { 'x-task-id': 'cut' }).catch(
      () => undefined,
    );
    statuses.push(cut?.status ?? 0);
  }
  t.equal(statuses[0], 200);
  t.equal(statuses.at(-1), 429, 'the money is gone, as far as anybody knows');
});

t.test('a caller of the service spends no more than its money of a day', async (t) => {
  const { url, bill } = billing('m-day', 0.7);
  process.env['MONEY_KEY'] = 'sk-money-0123456789';
  t.teardown(() => delete process.env['MONEY_KEY']);
  const { ask, listener } = await start(t, {
    upstreams: [{ name: 'p', url }],
    callers: [{ name: 'shop', key_env: 'MONEY_KEY', budget: { usd_per_day: 0.02 } }],
  });
  const headers = { authorization: 'Bearer sk-money-0123456789' };
  const answers = await Promise.all(
    Array.from({ length: 80 }, () => ask({ model: 'dear', max_tokens: 30 }, headers)),
  );
  const refused = answers.find(({ status }) => status === 429);
  t.match(refused, {
    reason: 'budget_exhausted',
    text: /the caller shop has used its 0\.02 USD of this day/,
  });
  t.ok(Number(refused?.headers['retry-after']) > 0);
  t.ok(bill.requests > 0);
  t.ok(bill.nanos <= 20_000_000, `${bill.nanos} of 20,000,000 nano-dollars`);
  t.same(listener.stats.topCallers(3), [{ name: 'shop', nanos: bill.nanos }]);
});

t.test('a usage of 0 beside a text is no usage: the answer costs all that was reserved', async (t) => {
  const usage = { prompt_tokens: 5, completion_tokens: 0 };
  const chatUrl = provider.script('m-zero', (_request, response) =>
    sendJson(response, 200, { ...chatAnswer('a text of some words'), model: 'dear', usage }),
  );
  const messages = { type: 'message', model: 'dear', content: [{ type: 'text', text: 'words' }] };
  const claudeUrl = provider.script('m-zero-claude', (_request, response) =>
    sendJson(response, 200, { ...messages, usage: { input_tokens: 5, output_tokens: 0 } }),
  );
  const limits = { usd_per_task: 0.01 };
  const chats = await start(t, { upstreams: [{ name: 'p', url: chatUrl }], limits });
  const claude = await start(t, { upstreams: [{ name: 'c', kind: 'anthropic', url: claudeUrl }], limits });
  const message = JSON.stringify({
    model: 'dear',
    max_tokens: 200,
    messages: [{ role: 'user', content: 'x' }],
  });
  const headers = { 'x-task-id': 'zero', 'anthropic-version': '2023-06-01' };
  for (const ask of [
    () => chats.ask({ model: 'dear', max_tokens: 200 }, headers),
    () => send(claude.baseUrl, '/messages', message, headers).answer,
  ]) {
    const statuses: number[] = [];
    for (let i = 0; i < 6; i++) statuses.push((await ask()).status);
    t.equal(statuses[0], 200);
    t.equal(statuses.at(-1), 429, 'the money is gone, as far as anybody knows');
  }
});
