// The egress between real sockets: what passes unchanged, who is asked, what is held back, and what ends when.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import OpenAI from 'openai';
import t from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { asker } from '../scripts/harness/llm/asker.ts';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import {
  answerWhole,
  beginStream,
  chatAnswer,
  chatChunk,
  DONE,
  PIECES,
  sendError,
  sendJson,
  USAGE_CHUNK,
  WHOLE,
} from '../scripts/harness/llm/provider.ts';
import { resetSocket } from '../scripts/harness/net.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { OwnerCall } from '../sidecar/llm/shared/owner-call.ts';
import { TokenBudget } from '../sidecar/policy/token-budget.ts';
import { type Answer, chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

t.test('requests and answers pass byte for byte', async (t) => {
  const body =
    '{ "messages" : [{"role":"user","content":"\\u00e9 é 𝄞"}],\r\n "model":"m", "seed": 12345678901234567890 }';
  const stream = Buffer.from(
    `: hello\r\n\r\nevent: x\r\ndata: {"choices":[{"delta":{"content":"é"}}]}\r\nid: 7\r\n\r\n` +
      `data:{"choices":[],\ndata: "more": 1.50}\n\nretry: 10\n\n: bye\n\n${DONE}trailing: 1\n\n`,
  );
  const plain = '{"b": 1.0,\n "a": [ 1e2 ] }\n';
  const url = provider.script('bytes', ({ path }, response) => {
    if (path.startsWith('/v1/models')) {
      response.writeHead(200, {
        'content-type': 'application/json',
        'x-request-id': 'r-1',
        connection: 'x-hop',
        'x-hop': '1',
      });
      response.end(plain);
      return;
    }
    beginStream(response, { 'x-request-id': 'r-2' });
    // Cut at every place that could matter.
    let at = 0;
    const next = (): void => {
      const size = 1 + (at % 7);
      response.write(stream.subarray(at, at + size));
      at += size;
      if (at < stream.length) setImmediate(next);
      else response.end();
    };
    next();
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url: `${url}?api-version=3` }] });
  t.teardown(() => egress.close());
  const streamed = await send(egress.baseUrl, '/chat/completions?x=1', body, {
    authorization: 'Bearer mine',
    'x-custom': 'kept',
    'accept-encoding': 'gzip',
    'proxy-authorization': 'no',
  }).answer;
  t.equal(streamed.body.toString(), stream.toString());
  t.notOk(streamed.broken);
  t.match(streamed.headers, {
    'x-request-id': 'r-2',
    'outrigger-upstream': 'one',
    'outrigger-attempts': '1',
  });
  const models = await send(egress.baseUrl, '/models', undefined).answer;
  t.equal(models.body.toString(), plain);
  t.equal(models.headers['x-request-id'], 'r-1');
  t.notOk('x-hop' in models.headers, 'hop-by-hop headers end here');
  const [first, second] = provider.requests('bytes');
  t.equal(first?.body.toString(), body);
  t.equal(first?.path, '/v1/chat/completions?api-version=3&x=1');
  t.match(first?.headers, {
    authorization: 'Bearer mine',
    'x-custom': 'kept',
    'accept-encoding': 'identity',
  });
  t.notOk('proxy-authorization' in (first?.headers ?? {}) || 'forwarded' in (first?.headers ?? {}));
  t.equal(first?.headers.host, `127.0.0.1:${provider.port}`);
  t.equal(second?.path, '/v1/models?api-version=3');
});

t.test('large answers and requests pass unchanged, and those above the limits are refused', async (t) => {
  const large = JSON.stringify({
    data: [{ embedding: randomBytes(3_000_000).toString('base64') }],
    usage: { prompt_tokens: 1 },
  });
  const url = provider.script('large', async ({ body }, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'x-received': String(body.length) });
    response.end(large);
  });
  const egress = await startEgress({
    upstreams: [{ name: 'one', url }],
    limits: { max_request_bytes: 2_000_000 },
  });
  t.teardown(() => egress.close());
  const fits = JSON.stringify({ model: 'm', input: 'x'.repeat(1_900_000) });
  const answer = await send(egress.baseUrl, '/embeddings', fits).answer;
  t.equal(answer.headers['x-received'], String(fits.length));
  t.ok(answer.body.equals(Buffer.from(large)));
  const sent = send(egress.baseUrl, '/embeddings', JSON.stringify({ input: 'x'.repeat(2_100_000) }));
  const refused = await sent.answer;
  t.equal(refused.status, 413);
  t.match(refused.headers, { 'outrigger-reason': 'request_too_large', 'x-should-retry': 'false' });
  t.equal(provider.requests('large').length, 1);
});

t.test(
  'HTTP/2 without TLS carries many plain and streamed answers on one connection, and resets a truncated stream',
  async (t) => {
    let open = 0;
    let most = 0;
    const url = provider.script('h2', async ({ json, count }, response) => {
      if (json?.['cut'] === true) {
        beginStream(response);
        response.write(chatChunk('one'));
        setTimeout(() => response.destroy(), 30);
        return;
      }
      most = Math.max(most, ++open);
      await waitUntil('all have come', () => most >= 20);
      open--;
      await answerWhole({ ...provider.requests('h2')[count - 1]! }, response);
    });
    const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
    t.teardown(() => egress.close());
    const session = connectHttp2(egress.baseUrl.replace(/\/v1$/, ''));
    t.teardown(() => session.destroy());
    const ask = (body: string) =>
      new Promise<{ status: number; text: string; code: number }>((resolve) => {
        const stream = session.request({
          ':method': 'POST',
          ':path': '/v1/chat/completions',
          'content-type': 'application/json',
        });
        let status = 0;
        let text = '';
        stream.on('response', (headers) => {
          status = headers[':status'] ?? 0;
        });
        stream.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        stream.on('error', () => {});
        stream.on('close', () => resolve({ status, text, code: stream.rstCode }));
        stream.end(body);
      });
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => ask(chat({ stream: i % 2 === 0 }))),
    );
    for (const [i, { status, text, code }] of answers.entries()) {
      t.match({ status, code }, { status: 200, code: 0 });
      t.ok(i % 2 === 0 ? text.endsWith(DONE) : JSON.parse(text).choices[0].message.content === WHOLE);
    }
    const cut = await ask(chat({ stream: true, cut: true }));
    t.match(cut.text, /"code":"stream_cut"/);
    t.equal(cut.code, 2, 'INTERNAL_ERROR: no clean end');
  },
);

t.test(
  'fallback covers refusing, failing, throttled and silent upstreams, and the answer names the upstream',
  async (t) => {
    const failing = provider.script('failing', (_request, response) => sendError(response, 500));
    const throttled = provider.script('throttled', (_request, response) =>
      sendError(response, 429, { 'retry-after': '30' }),
    );
    const good = provider.script('good', answerWhole);
    const egress = await startEgress({
      upstreams: [
        { name: 'gone', url: `http://127.0.0.1:${await freePort()}/v1` },
        { name: 'failing', url: failing },
        { name: 'throttled', url: throttled },
        { name: 'good', url: good, model: 'another "model"' },
      ],
      retry: { max_attempts: 4 },
      circuit_breaker: { min_calls: 3 },
    });
    t.teardown(() => egress.close());
    const first = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.match(first.headers, { 'outrigger-upstream': 'good', 'outrigger-attempts': '4' });
    t.equal(provider.requests('good')[0]?.body.toString(), chat().replace('"m"', '"another \\"model\\""'));
    const second = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.match(
      second.headers,
      { 'outrigger-upstream': 'good', 'outrigger-attempts': '3' },
      'the throttled one is left alone',
    );
    t.equal(provider.requests('throttled').length, 1);
    await send(egress.baseUrl, '/chat/completions', chat()).answer;
    const fourth = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.match(
      fourth.headers,
      { 'outrigger-upstream': 'good', 'outrigger-attempts': '1' },
      'and so are the open ones',
    );
    t.equal(provider.requests('failing').length, 3);
  },
);

t.test('all upstreams together share the limit of attempts', async (t) => {
  const urls = ['a', 'b', 'c', 'd'].map((name) =>
    provider.script(`all-${name}`, (_request, response) => sendError(response, 503)),
  );
  const egress = await startEgress({
    upstreams: urls.map((url, i) => ({ name: `u${i}`, url })),
    retry: { max_attempts: 3, backoff: { base: '10ms', max: '10ms' } },
  });
  t.teardown(() => egress.close());
  // The client's own retries collapse, though it has them: the header says so.
  const client = new OpenAI({ baseURL: egress.baseUrl, apiKey: 'x', maxRetries: 5, logLevel: 'off' });
  const failed = await client.chat.completions.create({ model: 'm', messages: [] }).catch((error) => error);
  t.equal(failed.status, 503);
  const requests = ['a', 'b', 'c', 'd'].map((name) => provider.requests(`all-${name}`).length);
  t.strictSame(requests, [1, 1, 1, 0]);
});

t.test('the breaker opens on failures, not on throttling, probes, and reports its state', async (t) => {
  let mode: 'fail' | 'throttle' | 'work' = 'throttle';
  const url = provider.script('breaker', (request, response) => {
    if (mode === 'work') return answerWhole(request, response);
    sendError(response, mode === 'fail' ? 500 : 429, { 'retry-after-ms': '1' });
  });
  const told: string[] = [];
  const egress = await startEgress(
    {
      upstreams: [{ name: 'one', url }],
      retry: { max_attempts: 1 },
      circuit_breaker: { min_calls: 5, window: '60s', recovery_timeout: '3s' },
    },
    {
      events: {
        onBreaker: (upstream, from, to) => told.push(`${upstream}: ${from} → ${to}`),
        onCooldown: () => {},
        onOutOfCredit: () => {},
      },
    },
  );
  t.teardown(() => egress.close());
  const ask = () => send(egress.baseUrl, '/chat/completions', chat()).answer;
  for (let i = 0; i < 10; i++) t.equal((await ask()).status, 429);
  t.strictSame(told, [], 'throttling is no failure');
  mode = 'fail';
  for (let i = 0; i < 5; i++) t.equal((await ask()).status, 500);
  const open = await ask();
  t.equal(open.status, 503);
  t.match(open.headers, {
    'outrigger-reason': 'circuit_open',
    'x-should-retry': 'false',
    'retry-after': /\d/,
  });
  const before = provider.requests('breaker').length;
  await waitUntil('it is half-open', () => told.length === 2);
  mode = 'work';
  t.equal((await ask()).status, 200);
  await waitUntil('it is closed', () => told.length === 3);
  t.strictSame(told, ['one: closed → open', 'one: open → half_open', 'one: half_open → closed']);
  t.equal(provider.requests('breaker').length, before + 1, 'one probe');
  t.equal((await ask()).status, 200);
});

t.test('the egress obeys Retry-After up to its cap and within the deadline', async (t) => {
  const url = provider.script('after', ({ path, count }, response) => {
    if (path.includes('models') || count > 1) sendJson(response, 200, {});
    else sendError(response, 429, { 'retry-after': '45' });
  });
  for (const [why, settings] of [
    ['longer than the cap', { retry: { max_retry_after: '10s' } }],
    ['longer than the request may take', { timeout: '2s' }],
  ] as const) {
    provider.script('after', (_request, response) => sendError(response, 429, { 'retry-after': '45' }));
    const egress = await startEgress({ upstreams: [{ name: 'one', url }], ...settings });
    const startedMs = performance.now();
    const answer = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.equal(answer.status, 429, why);
    t.match(answer.headers, { 'x-should-retry': 'false', 'retry-after': '45' });
    t.ok(performance.now() - startedMs < 8_000, 'nobody waits for what can not be');
    t.equal(provider.requests('after').length, 1);
    egress.close();
  }
});

t.test(
  'a disconnect ends the request: in the queue, before the first byte, in the middle of a stream',
  async (t) => {
    const url = provider.script('leave', ({ json }, response) => {
      if (json?.['mode'] === 'throttle') sendError(response, 429, { 'retry-after': '20' });
      else if (json?.['mode'] === 'stream') {
        beginStream(response);
        response.write(chatChunk('one'));
      }
    });
    const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
    t.teardown(() => egress.close());
    const gone = (count: number) =>
      waitUntil('the provider sees it', () => provider.requests('leave')[count - 1]?.aborted === true);
    const silent = send(egress.baseUrl, '/chat/completions', chat({ mode: 'silent' }));
    await waitUntil('it has come', () => provider.requests('leave').length === 1);
    silent.abort();
    await gone(1);
    const streamed = send(egress.baseUrl, '/chat/completions', chat({ mode: 'stream', stream: true }));
    await streamed.until('one');
    streamed.abort();
    await gone(2);
    const waiting = send(egress.baseUrl, '/chat/completions', chat({ mode: 'throttle' }));
    await waitUntil('it has come', () => provider.requests('leave').length === 3);
    await sleep(100);
    t.equal(egress.listener.activeRequests, 1);
    waiting.abort();
    await waitUntil('nothing is left', () => egress.listener.activeRequests === 0);
    const { outcomes } = egress.listener.stats.of('one', 'm');
    t.equal(outcomes.get('cancelled'), 3);
  },
);

t.test('a request ends with its owner, and at its deadline', async (t) => {
  const ends = new Set<(late?: boolean) => void>();
  let spent = 0;
  const call: OwnerCall = {
    deadlineMs: Number.POSITIVE_INFINITY,
    callerScope: '',
    taskId: 'task-1',
    budget: undefined,
    onEnd: (listener) => {
      ends.add(listener);
      return () => ends.delete(listener);
    },
    spend: (tokens) => {
      spent += tokens;
    },
  };
  let deadlineMs = call.deadlineMs;
  const url = provider.script('inbound', ({ json }, response) => {
    if (json?.['stream'] !== true) return;
    beginStream(response);
    response.write(chatChunk('one'));
  });
  const ownerCalls = { find: () => ({ ...call, deadlineMs }) };
  const testClock = new TestClock();
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] }, { ownerCalls, testClock });
  const come = (count: number) =>
    waitUntil('it has come', () => provider.requests('inbound').length === count);
  t.teardown(() => egress.close());
  const streamed = send(egress.baseUrl, '/chat/completions', chat({ stream: true }));
  await streamed.until('one');
  t.equal(ends.size, 1);
  for (const end of [...ends]) end();
  const answer = await streamed.answer;
  t.match(answer.body.toString(), /"code":"call_ended"/);
  t.ok(answer.broken);
  await waitUntil('the provider sees it', () => provider.requests('inbound')[0]?.aborted);
  t.equal(ends.size, 0, 'and nothing is left behind');
  t.ok(spent > 0, 'its tokens are counted for the call');
  const { outcomes } = egress.listener.stats.of('one', 'm');
  t.equal(outcomes.get('cancelled'), 1);

  const inTime = send(egress.baseUrl, '/chat/completions', chat({ stream: true }));
  await inTime.until('one');
  for (const end of [...ends]) end(true);
  t.match((await inTime.answer).body.toString(), /"code":"deadline"/, 'at the end of its time');
  t.equal(outcomes.get('timeout'), 1);
  const gaveUp = send(egress.baseUrl, '/chat/completions', chat(), { 'x-stainless-timeout': '0.5' });
  gaveUp.answer.catch(() => {});
  await come(3);
  testClock.advance(490);
  gaveUp.abort();
  await waitUntil('it is over', () => egress.listener.activeRequests === 0);
  t.equal(outcomes.get('timeout'), 2, 'a client that leaves when its own time is up');

  deadlineMs = testClock.nowMs + 400;
  const asked = send(egress.baseUrl, '/chat/completions', chat());
  await come(4);
  testClock.advance(410);
  const late = await asked.answer;
  t.equal(late.status, 504);
  t.equal(late.headers['outrigger-reason'], 'deadline');
  await waitUntil('the provider sees it', () => provider.requests('inbound')[3]?.aborted);
  t.equal(ends.size, 0);
});

t.test(
  '50 simultaneous requests never exceed a token budget, with a provider that uses all it may',
  async (t) => {
    const total = 20_000;
    let used = 0;
    let refusedOnes = 0;
    const url = provider.script('budget', async ({ json, body }, response) => {
      const most = Number(json?.['max_completion_tokens'] ?? json?.['max_tokens']);
      await sleep(20 + Math.random() * 50);
      // As many tokens as a prompt can have, and all of the output that was asked for.
      const usage = { prompt_tokens: Math.floor(body.length / 2), completion_tokens: most, total_tokens: 0 };
      if (Math.random() < 0.2) {
        sendError(response, 500);
        return;
      }
      used += usage.prompt_tokens + usage.completion_tokens;
      if (json?.['stream'] !== true) sendJson(response, 200, { ...chatAnswer(), usage });
      else {
        beginStream(response);
        response.write(chatChunk('x') + chatChunk(undefined, 'stop'));
        response.end(
          USAGE_CHUNK.replace('"prompt_tokens":7', `"prompt_tokens":${usage.prompt_tokens}`).replace(
            '"completion_tokens":5',
            `"completion_tokens":${most}`,
          ) + DONE,
        );
      }
    });
    const egress = await startEgress({
      upstreams: [{ name: 'one', url }],
      limits: { tokens_per_task: total, default_output_tokens: 700 },
      retry: { backoff: { base: '5ms', max: '10ms' } },
      circuit_breaker: { failure_percent: 0 },
    });
    t.teardown(() => egress.close());
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(
        Array.from(
          { length: 50 },
          (_, i) =>
            send(
              egress.baseUrl,
              '/chat/completions',
              chat({ stream: i % 2 === 0, ...(i % 3 === 0 ? { max_tokens: 300 } : {}) }),
              { 'x-task-id': 'task-b' },
            ).answer,
        ),
      );
      for (const { status, headers } of answers) {
        if (status !== 429) continue;
        refusedOnes++;
        t.match(headers, { 'outrigger-reason': 'budget_exhausted', 'x-should-retry': 'false' });
      }
      t.ok(used <= total, `${used} of ${total} tokens after round ${round + 1}`);
    }
    t.ok(used > total * 0.9, `${used}: what was reserved and not used came back`);
    t.ok(refusedOnes > 50);
    const other = await send(egress.baseUrl, '/chat/completions', chat(), { 'x-task-id': 'task-c' }).answer;
    t.not(other.headers['outrigger-reason'], 'budget_exhausted', 'another task has its own');
    const asked = provider.requests('budget').filter(({ json }) => json?.['stream'] === true);
    t.ok(
      asked.every(({ json }) => (json?.['stream_options'] as { include_usage?: boolean })?.include_usage),
      'usage was asked for',
    );
  },
);

t.test(
  'the egress removes the usage that it requested, and a lost answer counts with its maximum',
  async (t) => {
    const url = provider.script('usage', (request, response) => {
      if (request.json?.['cut'] !== true) return answerWhole(request, response);
      beginStream(response);
      response.write(chatChunk('one'));
      setTimeout(() => response.destroy(), 20);
    });
    const budget = new TokenBudget(10_000);
    const ownerCalls = {
      find: () => ({
        deadlineMs: Number.POSITIVE_INFINITY,
        callerScope: '',
        taskId: 't',
        budget,
        onEnd: () => () => {},
        spend() {},
      }),
    };
    const egress = await startEgress({ upstreams: [{ name: 'one', url }] }, { ownerCalls });
    t.teardown(() => egress.close());
    const silent = await send(egress.baseUrl, '/chat/completions', chat({ stream: true, max_tokens: 100 }))
      .answer;
    t.notMatch(silent.body.toString(), /usage/);
    t.equal(budget.spent, 12);
    const asking = chat({ stream: true, max_tokens: 100, stream_options: { include_usage: true } });
    const told = await send(egress.baseUrl, '/chat/completions', asking).answer;
    t.match(told.body.toString(), /"usage":\{"prompt_tokens":7/);
    t.equal(provider.requests('usage')[1]?.body.toString(), asking);
    t.equal(budget.spent, 24);
    const cut = chat({ stream: true, max_tokens: 100, cut: true });
    await send(egress.baseUrl, '/chat/completions', cut).answer;
    await waitUntil('it is settled', () => budget.reserved === 0);
    t.equal(budget.spent, 24 + cut.length + 100);
    const { tokens } = egress.listener.stats.of('one', 'm');
    t.match(tokens, { input: 14, output: 10 });
    t.ok(tokens.wasted > 0);
  },
);

t.test('limits per minute queue or refuse requests, and a flood does not delay another caller', async (t) => {
  const url = provider.script('minute', answerWhole);
  const llm = {
    upstreams: [{ name: 'one', url }],
    limits: { requests_per_minute: 120, max_wait: '4s' },
  };
  const testClock = new TestClock();
  const egress = await startEgress(llm, { testClock });
  t.teardown(() => egress.close());
  const ask = (name: string) =>
    send(egress.baseUrl, '/chat/completions', chat(), { 'x-task-id': name }).answer;
  const burst = await Promise.all(Array.from({ length: 120 }, () => ask('flood')));
  t.ok(burst.every(({ status }) => status === 200));
  // The bucket is as good as empty: two a second come back.
  const order: string[] = [];
  const answers: { name: string; answer: Answer }[] = [];
  const asked = [...Array.from({ length: 45 }, () => 'flood'), 'single'].map(async (name) => {
    const answer = await ask(name);
    if (answer.status === 200) order.push(name);
    answers.push({ name, answer });
  });
  const inHand = () => egress.listener.activeRequests + answers.length;
  await waitUntil('all have come', () => inHand() === asked.length);
  for (let ms = 0; ms < 10_000 && answers.length < asked.length; ms += 100) {
    testClock.advance(100);
    const sent = provider.requests('minute').length;
    await waitUntil('those that were let go are answered', () => order.length + 120 === sent);
  }
  await Promise.all(asked);
  const turnedAway = answers.filter(({ answer }) => answer.status === 429);
  t.ok(turnedAway.length > 0, 'not all fit into max_wait');
  for (const { answer } of turnedAway)
    t.match(answer.headers, {
      'outrigger-reason': 'rate_limited',
      'x-should-retry': 'false',
      'retry-after': /\d+/,
    });
  t.ok(
    order.indexOf('single') >= 0 && order.indexOf('single') < order.length / 2,
    `its place was ${order.indexOf('single')} of ${order.length}`,
  );
});

t.test('the egress reserves tokens per minute before a request, and returns the unused ones', async (t) => {
  let holding = true;
  const url = provider.script('tokens', async (request, response) => {
    await waitUntil('it may answer', () => !holding);
    await answerWhole(request, response);
  });
  const egress = await startEgress({
    upstreams: [{ name: 'one', url }],
    limits: { tokens_per_minute: 3_000, max_wait: '0s' },
  });
  t.teardown(() => egress.close());
  const ask = () => send(egress.baseUrl, '/chat/completions', chat({ max_tokens: 1_000 })).answer;
  const refused: number[] = [];
  const together = [ask(), ask(), ask(), ask()].map((answer) =>
    answer.then(({ status }) => (status === 200 ? undefined : refused.push(status))),
  );
  await waitUntil('those that do not fit are turned away', () => refused.length === 2);
  t.strictSame(refused, [429, 429], 'two reservations of a thousand and a prompt fit into three thousand');
  holding = false;
  await Promise.all(together);
  t.equal(provider.requests('tokens').length, 2);
  for (let i = 0; i < 20; i++) t.equal((await ask()).status, 200, 'one after the other they use 12 each');
});

t.test("the egress learns the provider's limits from its headers, before a refusal", async (t) => {
  let refusals = 0;
  let left = 2;
  const url = provider.script('learned', (request, response) => {
    if (left <= 0 && request.atMs < emptyAtMs + 900) {
      refusals++;
      sendError(response, 429);
      return;
    }
    left--;
    if (left === 0) emptyAtMs = request.atMs;
    const headers = {
      'x-ratelimit-limit-requests': '2',
      'x-ratelimit-remaining-requests': String(Math.max(0, left)),
      'x-ratelimit-reset-requests': '2s',
    };
    sendJson(response, 200, chatAnswer(), headers);
  });
  let emptyAtMs = 0;
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  for (let i = 0; i < 3; i++)
    t.equal((await send(egress.baseUrl, '/chat/completions', chat()).answer).status, 200);
  t.equal(refusals, 0);
  const [, second, third] = provider.requests('learned');
  t.ok(third!.atMs - second!.atMs > 900, 'the third waited until there was one again');
});

t.test('simultaneous requests with one idempotency key run once', async (t) => {
  // Nobody is answered before all have asked, and streams stand behind their second piece.
  let holding = true;
  let standing = true;
  const url = provider.script('flight', async ({ json, count }, response) => {
    if (json?.['stream'] !== true) {
      await waitUntil('all have asked', () => !holding);
      sendJson(response, 200, { ...chatAnswer(), id: `answer-${count}` });
      return;
    }
    beginStream(response);
    for (const piece of PIECES) {
      response.write(chatChunk(piece));
      if (piece === PIECES[1]) await waitUntil('it continues', () => !standing || response.destroyed);
    }
    response.end(chatChunk(undefined, 'stop') + DONE);
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const ask = (key: string, body = chat()) =>
    send(egress.baseUrl, '/chat/completions', body, key === '' ? {} : { 'idempotency-key': key });
  const once = [ask('k'), ask('k'), ask('k')];
  await waitUntil('all have asked', () => egress.listener.activeRequests === 3);
  holding = false;
  const same = await Promise.all(once.map(({ answer }) => answer));
  t.strictSame(
    same.map(({ body }) => JSON.parse(body.toString()).id),
    ['answer-1', 'answer-1', 'answer-1'],
  );
  await waitUntil('all are over', () => egress.listener.activeRequests === 0);
  holding = true;
  const apart = [ask(''), ask(''), ask('k2'), ask('k2', chat({ n: 1 }))];
  await waitUntil('all have asked', () => egress.listener.activeRequests === 4);
  holding = false;
  await Promise.all(apart.map(({ answer }) => answer));
  t.equal(provider.requests('flight').length, 5, 'without a key, or with another body, each on its own');

  const streamed = chat({ stream: true });
  const first = ask('s', streamed);
  await first.until('two');
  const late = ask('s', streamed);
  await late.until('two');
  first.abort();
  await waitUntil('it has left', () => egress.listener.activeRequests === 1);
  standing = false;
  const answer = await late.answer;
  t.equal(
    answer.body.toString(),
    PIECES.map((piece) => chatChunk(piece)).join('') + chatChunk(undefined, 'stop') + DONE,
  );
  t.equal(
    provider.requests('flight').length,
    6,
    'who joins late gets all of it, also when the first one leaves',
  );
  standing = true;
  const alone = ask('s', streamed);
  await alone.until('one');
  alone.abort();
  await waitUntil('the provider sees it', () => provider.requests('flight')[6]?.aborted);
});

t.test('a truncated plain answer is retried only if configured', async (t) => {
  const url = provider.script('incomplete', (request, response) => {
    if (request.count > 1) return answerWhole(request, response);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end('{"choices": [');
  });
  const retry = { incomplete_answers: true, backoff: { base: '5ms', max: '5ms' } };
  const egress = await startEgress({ upstreams: [{ name: 'one', url }], retry });
  t.teardown(() => egress.close());
  const answer = await send(egress.baseUrl, '/chat/completions', chat()).answer;
  t.equal(answer.status, 200);
  t.equal(provider.requests('incomplete').length, 2);
});

t.test('a connection that the provider closed while idle costs no attempt', async (t) => {
  const url = provider.script('stale', (request, response) => {
    if (request.count !== 2) return answerWhole(request, response);
    // As a server that closes an idle connection just when a request is on its way.
    resetSocket(request.socket);
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }], retry: { max_attempts: 1 } });
  t.teardown(() => egress.close());
  for (let i = 0; i < 2; i++) {
    const answer = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.match(
      { status: answer.status, attempts: answer.headers['outrigger-attempts'] },
      { status: 200, attempts: '1' },
    );
  }
  t.equal(provider.requests('stale').length, 3);
});

t.test("web pages can't send model requests: other origins, host names and paths are refused", async (t) => {
  const url = provider.script('pages', answerWhole);
  const egress = await startEgress({
    upstreams: [{ name: 'one', url }],
    limits: { max_concurrent_requests: 1 },
  });
  t.teardown(() => egress.close());
  const refusal = async (path: string, headers: Record<string, string>) => {
    const answer = await send(egress.baseUrl.replace(/\/v1$/, ''), path, chat(), headers).answer;
    return [answer.status, answer.headers['outrigger-reason']];
  };
  t.strictSame(await refusal('/v1/chat/completions', { origin: 'http://evil.example' }), [403, 'forbidden']);
  t.strictSame(await refusal('/v1/chat/completions', { host: 'rebound.example' }), [403, 'forbidden']);
  t.strictSame(await refusal('/chat/completions', {}), [404, 'no_route']);
  t.strictSame(await refusal('/v1/../control/reset', {}), [404, 'no_route']);
  t.equal(provider.requests('pages').length, 0);
});

t.test('new settings apply to new requests, and running ones keep theirs', async (t) => {
  let goesOn = false;
  const slow = provider.script('reload-a', async (_request, response) => {
    beginStream(response);
    response.write(chatChunk(PIECES[0]));
    await waitUntil('it continues', () => goesOn);
    for (const piece of PIECES.slice(1)) response.write(chatChunk(piece));
    response.end(DONE);
  });
  const fast = provider.script('reload-b', answerWhole);
  const egress = await startEgress({ upstreams: [{ name: 'a', url: slow }] });
  t.teardown(() => egress.close());
  const running = send(egress.baseUrl, '/chat/completions', chat({ stream: true }));
  await running.until('one');
  egress.apply({ upstreams: [{ name: 'b', url: fast }] });
  const next = await send(egress.baseUrl, '/chat/completions', chat()).answer;
  t.equal(next.headers['outrigger-upstream'], 'b');
  goesOn = true;
  const answer = await running.answer;
  t.match(
    { broken: answer.broken, upstream: answer.headers['outrigger-upstream'] },
    { broken: false, upstream: 'a' },
  );
  t.ok(answer.body.toString().endsWith(DONE));
});

t.test('the next small collection frees the memory of a request', async (t) => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as (options?: { type: 'minor' }) => void;
  const oldMiB = (): number =>
    getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')!.space_used_size / 2 ** 20;
  // The scripted provider would keep the requests themselves.
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      if (!Buffer.concat(parts).includes('"stream":true')) {
        sendJson(response, 200, chatAnswer());
        return;
      }
      beginStream(response);
      response.end(chatChunk(WHOLE) + chatChunk(undefined, 'stop') + DONE);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const egress = await startEgress({ upstreams: [{ name: 'churn', url: `http://127.0.0.1:${port}` }] });
  t.teardown(() => {
    egress.close();
    server.close();
  });
  /** How much the old generation grows while requests come and go on kept connections. */
  const growth = async (baseUrl: string): Promise<number> => {
    const ask = asker(t, baseUrl);
    const askMany = async (turns: number): Promise<void> => {
      for (let turn = 0; turn < turns; turn++) {
        await ask(200, turn % 2 === 0);
        gc({ type: 'minor' });
      }
    };
    // Connections, compiled code, and what is remembered of the upstream stay.
    await askMany(4);
    gc();
    gc();
    const before = oldMiB();
    await askMany(8);
    return oldMiB() - before;
  };
  const direct = await growth(`http://127.0.0.1:${port}`);
  const through = await growth(egress.baseUrl);
  t.ok(through < direct + 4, `${direct.toFixed(1)} MiB direct, ${through.toFixed(1)} MiB through the egress`);
});
