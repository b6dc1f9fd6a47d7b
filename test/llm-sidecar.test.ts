// The egress of a whole sidecar: its process, configuration file, signals, log, pages and metrics.
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, status } from '@grpc/grpc-js';
import OpenAI from 'openai';
import t from 'tap';
import { selfSigned, TestAuthority } from '../scripts/harness/certificates.ts';
import { type Exposition, parseExposition } from '../scripts/harness/exposition.ts';
import {
  answerWhole,
  beginStream,
  chatAnswer,
  chatChunk,
  DONE,
  PIECES,
  sendError,
  sendJson,
  WHOLE,
} from '../scripts/harness/llm/provider.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, type Sent, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { startOtlpReceiver } from './support/otlp-receiver.ts';
import { tracingTo } from './support/tracing.ts';
import { untilLogged } from './support/until-logged.ts';

const provider = await providerFor(t);

const KEY = 'sk-the-key-that-nobody-may-see';
const baseUrlOf = (sidecar: Sidecar): string => `http://127.0.0.1:${sidecar.llmPort}/v1`;

t.test(
  'the sidecar adds the key; logs, pages, errors and metrics have neither it nor contents',
  async (t) => {
    let fail = false;
    const url = provider.script('secret', (request, response) => {
      if (fail) sendError(response, 503);
      else return answerWhole(request, response);
    });
    const withUser = url.replace('http://', 'http://user:hunter2@');
    const sidecar = await startSidecar(
      t,
      {
        name: 'research-agent',
        llm: {
          upstreams: [{ name: 'one', url: withUser, api_key_env: 'TEST_LLM_KEY' }],
          retry: { max_attempts: 1 },
        },
        log: { level: 'trace', access: true },
      },
      { until: 'live', env: { TEST_LLM_KEY: KEY } },
    );
    const client = new OpenAI({
      baseURL: baseUrlOf(sidecar),
      apiKey: 'placeholder',
      logLevel: 'off',
      maxRetries: 0,
    });
    const question = 'what-the-user-said';
    const ask = (stream: boolean) =>
      client.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: question }], stream });
    await ask(false);
    const chunks = (await ask(true)) as AsyncIterable<{ choices: { delta: { content?: string } }[] }>;
    let text = '';
    for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? '';
    t.equal(text, WHOLE);
    fail = true;
    const failed = await ask(false).catch((error: Error) => error);
    t.ok(provider.requests('secret').every(({ headers }) => headers.authorization === `Bearer ${KEY}`));

    const at = (port: number, path: string) =>
      fetch(`http://127.0.0.1:${port}${path}`).then((page) => page.text());
    const pages = await Promise.all([
      ...['/', '/clusters', '/config', '/stats'].map((path) => at(sidecar.adminPort, path)),
      at(sidecar.metricsPort, '/metrics'),
    ]);
    const everything = [...pages, sidecar.logs(), String(failed)].join('\n');
    for (const secret of [KEY, 'hunter2', 'placeholder', question, WHOLE])
      t.notOk(everything.includes(secret), secret);
    t.match(pages[3], /"state": "closed"/);
    const metrics = pages[4]!;
    const labels = 'agent="research-agent",upstream="one",model="m"';
    t.ok(metrics.includes(`outrigger_llm_requests_total{${labels},outcome="success"} 2`));
    t.ok(metrics.includes(`outrigger_llm_requests_total{${labels},outcome="failed"} 1`));
    t.ok(metrics.includes(`outrigger_llm_time_to_first_token_seconds_count{${labels}} 2`));
    t.ok(metrics.includes(`outrigger_llm_request_duration_seconds_count{${labels}} 3`));
    const lines = sidecar
      .logs()
      .split('\n')
      .filter((line) => line.includes('"listener":"llm"'));
    t.match(JSON.parse(lines[0]!), {
      method: 'chat',
      model: 'm',
      status: 200,
      upstream: 'one',
      input_tokens: 7,
      output_tokens: 5,
    });
  },
);

t.test('HTTPS connections to the provider are reused, and an untrusted provider gets no key', async (t) => {
  const authority = await TestAuthority.make();
  const folder = t.testdir({ 'ca.pem': authority.ca });
  const serve = async (issued: { cert: string; key: string }) => {
    const seen = { connections: 0, requests: 0 };
    const server = createServer(issued, (request, response) => {
      seen.requests++;
      request.resume();
      request.on('end', () => sendJson(response, 200, chatAnswer()));
    });
    server.on('secureConnection', () => seen.connections++);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      server.close();
      server.closeAllConnections();
    });
    return { seen, url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/v1` };
  };
  const good = await serve(await authority.issue({ names: ['127.0.0.1'] }));
  const stranger = await serve(await selfSigned(['127.0.0.1']));
  const upstreams = [
    { name: 'stranger', url: stranger.url, api_key_env: 'TEST_LLM_KEY' },
    { name: 'good', url: good.url },
  ];
  const env = { NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem'), TEST_LLM_KEY: KEY };
  const sidecar = await startSidecar(t, { llm: { upstreams } }, { until: 'live', env });
  for (let i = 0; i < 10; i++) {
    const answer = await send(baseUrlOf(sidecar), '/chat/completions', chat()).answer;
    t.match({ status: answer.status, by: answer.headers['outrigger-upstream'] }, { status: 200, by: 'good' });
  }
  t.strictSame(good.seen, { connections: 1, requests: 10 });
  t.equal(stranger.seen.requests, 0);
});

t.test('the log has bodies only if configured', async (t) => {
  const url = provider.script('bodies', answerWhole);
  const upstreams = [{ name: 'one', url }];
  const sidecar = await startSidecar(t, { llm: { upstreams, log_bodies: true } }, { until: 'live' });
  await send(baseUrlOf(sidecar), '/chat/completions', chat({ user: 'u-1' })).answer;
  await send(baseUrlOf(sidecar), '/chat/completions', chat({ stream: true })).answer;
  await waitUntil('they are logged', () => (sidecar.logs().match(/LLM body/g)?.length ?? 0) === 4);
  await untilLogged(t, sidecar, /u-1/);
  await untilLogged(t, sidecar, /one two three four five/);
});

t.test('a reload of the file under load drops no request', async (t) => {
  const script = async (_request: unknown, response: Parameters<typeof answerWhole>[1]) => {
    beginStream(response);
    for (const piece of PIECES) {
      response.write(chatChunk(piece));
      await sleep(20);
    }
    response.end(DONE);
  };
  const urls = [provider.script('reload-1', script), provider.script('reload-2', script)];
  const sidecar = await startSidecar(
    t,
    { llm: { upstreams: [{ name: 'one', url: urls[0] }] } },
    { until: 'live' },
  );
  let running = true;
  let answered = 0;
  const bad: string[] = [];
  const clients = Array.from({ length: 10 }, async () => {
    while (running) {
      const answer = await send(baseUrlOf(sidecar), '/chat/completions', chat({ stream: true })).answer;
      answered++;
      if (answer.status !== 200 || answer.broken || !answer.body.toString().endsWith(DONE))
        bad.push(`${answer.status}`);
    }
  });
  for (let i = 1; i <= 4; i++) {
    const file = JSON.parse(readFileSync(sidecar.configFile, 'utf8')) as { llm: { upstreams: object[] } };
    file.llm.upstreams = [{ name: i % 2 === 0 ? 'one' : 'two', url: urls[i % 2] }];
    writeFileSync(sidecar.configFile, JSON.stringify(file));
    const before = provider.requests(`reload-${(i % 2) + 1}`).length;
    await waitUntil(
      'the other one is asked',
      () => provider.requests(`reload-${(i % 2) + 1}`).length > before + 5,
    );
  }
  running = false;
  await Promise.all(clients);
  t.strictSame(bad, []);
  t.ok(answered > 20);
});

t.test('a drain waits for streams, and ends late ones with a typed error', async (t) => {
  let finish = false;
  const url = provider.script('drain', async ({ json }, response) => {
    beginStream(response);
    response.write(chatChunk(PIECES[0]));
    await waitUntil('it may end', () => finish || response.destroyed);
    if (json?.['n'] === 1) response.end(DONE);
  });
  const sidecar = await startSidecar(
    t,
    { llm: { upstreams: [{ name: 'one', url }] }, drain: { timeout: '10s' } },
    { until: 'live' },
  );
  const ends = send(baseUrlOf(sidecar), '/chat/completions', chat({ stream: true, n: 1 }));
  const endless = send(baseUrlOf(sidecar), '/chat/completions', chat({ stream: true, n: 2 }));
  await Promise.all([ends.until('one'), endless.until('one')]);
  sidecar.kill('SIGTERM');
  await waitUntil('it drains', () => /"state":"goaway"/.test(sidecar.logs()));
  await waitUntil('no new connection is taken', () =>
    send(baseUrlOf(sidecar), '/models', undefined).answer.then(
      () => false,
      () => true,
    ),
  );
  finish = true;
  const whole = await ends.answer;
  t.notOk(whole.broken);
  t.ok(whole.body.toString().endsWith(DONE));
  const cut = await endless.answer;
  t.ok(cut.broken);
  t.match(cut.body.toString(), /"code":"draining"/);
  t.equal(await sidecar.ended, 0);
});

t.test("an owner's end, deadline and budget apply to its model requests", async (t) => {
  const url = provider.script('call', (request, response) => {
    if (request.json?.['n'] === 1) return answerWhole(request, response);
  });
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  const asked: Sent[] = [];
  let sidecar: Sidecar | undefined;
  // An app that does not pass its caller's end on to what it asks for.
  const app = await startRawServer(t, {
    unary: async (call, callback) => {
      const sent = send(baseUrlOf(sidecar!), '/chat/completions', call.request, {
        traceparent: String(call.metadata.get('traceparent')[0]),
      });
      asked.push(sent);
      const answer = await sent.answer;
      callback(null, answer.body);
    },
  });
  sidecar = await startSidecar(t, {
    inbound: { app: app.address },
    llm: { upstreams: [{ name: 'one', url }] },
  });
  const client = new RawClient(t, sidecar.inboundPort);
  const metadata = new Metadata();
  metadata.set('traceparent', traceparent);

  const cancelled = client.client.makeUnaryRequest(
    '/test.Raw/Unary',
    (x: Buffer) => x,
    (x: Buffer) => x,
    Buffer.from(chat()),
    metadata,
    () => {},
  );
  await waitUntil('the provider is asked', () => provider.requests('call').length === 1);
  t.match(provider.requests('call')[0]?.headers.traceparent, /^00-4bf92f3577b34da6a3ce929d0e0e4736-/);
  cancelled.cancel();
  await waitUntil('the provider sees the end', () => provider.requests('call')[0]?.aborted);

  const late = client.unary(Buffer.from(chat()), { metadata, deadline: Date.now() + 3_000 });
  t.equal((await late).code, status.DEADLINE_EXCEEDED);
  await waitUntil('the provider sees the end', () => provider.requests('call')[1]?.aborted);

  metadata.set('outrigger-token-budget', '500');
  const within = await client.unary(Buffer.from(chat({ n: 1, max_tokens: 50 })), { metadata });
  t.match(within.response?.toString(), /one two three/);
  const above = await client.unary(Buffer.from(chat({ n: 1, max_tokens: 5_000 })), { metadata });
  t.match(above.response?.toString(), /budget_exhausted/);
  t.equal(provider.requests('call').length, 3);
});

t.test('the egress uses OPENAI_BASE_URL, and logs ignored variables', async (t) => {
  const url = provider.script('by-environment', answerWhole);
  const env = { OPENAI_BASE_URL: url, OPENAI_API_KEY: KEY };
  const used = await startSidecar(t, {}, { until: 'live', env });
  t.equal((await send(baseUrlOf(used), '/chat/completions', chat()).answer).status, 200);
  t.equal(provider.requests('by-environment')[0]?.headers.authorization, `Bearer ${KEY}`);
  const upstreams = [
    { name: 'one', url: provider.script('named', answerWhole), api_key_env: 'NOBODY_SET_IT' },
  ];
  const told = await startSidecar(t, { llm: { upstreams } }, { until: 'live', env });
  await untilLogged(
    t,
    told,
    /OPENAI_BASE_URL \(http:[^)]*\) is not used: llm\.upstreams names the providers/,
  );
  await untilLogged(t, told, /llm\.upstreams\[0\]\.api_key_env: the variable NOBODY_SET_IT is not set/);
  t.equal((await send(baseUrlOf(told), '/chat/completions', chat()).answer).status, 200);
  t.equal(provider.requests('by-environment').length, 1);
  t.notMatch(used.logs() + told.logs(), new RegExp(KEY));
});

t.test(
  'a key may end with a line break, and one that no header can carry is named as the cause',
  async (t) => {
    const upstreams = [
      { name: 'one', url: provider.script('copied-key', answerWhole), api_key_env: 'TEST_LLM_KEY' },
    ];
    const asked = async (key: string) => {
      const env = { TEST_LLM_KEY: key };
      const retry = { max_attempts: 1 };
      const sidecar = await startSidecar(t, { llm: { upstreams, retry } }, { until: 'live', env });
      return send(baseUrlOf(sidecar), '/chat/completions', chat()).answer;
    };
    t.equal((await asked(`${KEY}\n`)).status, 200);
    t.equal(provider.requests('copied-key')[0]?.headers.authorization, `Bearer ${KEY}`);
    const refused = await asked('sk-…');
    t.equal(refused.status, 502);
    t.match(refused.body.toString(), /its key has characters that no header can carry; check .*api_key_env/);
  },
);

t.test('invented model names do not fill metrics and spans, and neither do removed upstreams', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const url = provider.script('few-models', (request, response) => {
    if (request.body.toString().includes('invented')) sendError(response, 404);
    else return answerWhole(request, response);
  });
  const config = {
    llm: {
      upstreams: [
        { name: 'few', url },
        { name: 'set', url, model: 'configured' },
      ],
    },
  };
  const sidecar = await startSidecar(t, config, { until: 'live', env: tracingTo(receiver) });
  const ask = async (model: string): Promise<number | undefined> =>
    (await send(baseUrlOf(sidecar), '/chat/completions', chat({ model })).answer).status;
  for (let i = 0; i < 150; i++) t.equal(await ask(`invented-${i}`), 404);
  t.equal(await ask('real'), 200);
  t.equal(await ask('real'), 200);
  const scrape = async () =>
    parseExposition(await (await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`)).text());
  const succeeded = (page: Exposition): number | undefined =>
    page
      .all('outrigger_llm_requests_total')
      .find(({ labels }) => labels['model'] === 'real' && labels['outcome'] === 'success')?.value;
  const models = (page: Exposition): string[] => [
    ...new Set(
      page
        .all('outrigger_llm_requests_total')
        .map(({ labels }) => `${labels['upstream']} ${labels['model']}`),
    ),
  ];
  const page = await scrape();
  const named = models(page);
  t.equal(named.filter((name) => name.includes('invented')).length, 50);
  t.ok(named.includes('few _OTHER'));
  t.equal(succeeded(page), 1, 'the second one has its name');
  t.ok(named.includes('set configured'), 'also where nobody has asked for it');
  const spans = await receiver.until('all came', (spans) => spans.length === 152);
  t.strictSame([...new Set(spans.map(({ name }) => name))].sort(), ['chat _OTHER', 'chat real']);
  t.equal(new Set(spans.map(({ attributes }) => attributes['gen_ai.request.model'])).size, 151);

  const file = JSON.parse(readFileSync(sidecar.configFile, 'utf8')) as typeof config;
  const reload = async (upstreams: object[]): Promise<void> => {
    writeFileSync(sidecar.configFile, JSON.stringify({ ...file, llm: { ...file.llm, upstreams } }));
    const answer = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
    t.equal(answer.status, 200, await answer.text());
  };
  await reload([{ name: 'renamed', url }]);
  const stats = async () => (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).text();
  t.notMatch(models(await scrape()).join(), /few|set/);
  t.notMatch(await stats(), /"few"|"set"/);
  await reload([{ name: 'few', url }]);
  t.equal(succeeded(await scrape()), 1, 'it goes on where it was');
});
