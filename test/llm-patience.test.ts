// Providers that take long, callers that don't wait for ever, and requests that may be running: who waits for whom, what
// is sent again, and whose retry it is.
import { createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { CLIENTS } from '../scripts/harness/llm/clients.ts';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import {
  answerWhole,
  beginStream,
  chatAnswer,
  chatChunk,
  DONE,
  PIECES,
  type Script,
  sendError,
  sendJson,
  WHOLE,
} from '../scripts/harness/llm/provider.ts';
import { resetSocket } from '../scripts/harness/net.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

/** The client waits for a second for each byte. */
const TOLD = { 'x-stainless-read-timeout': '1.0' };
const FAST_RETRIES = { backoff: { base: '5ms', max: '10ms' } };

/** A server on bare sockets: gets each connection. */
async function startSocketServer(t: Test, onSocket: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no address');
  return `http://127.0.0.1:${address.port}/v1`;
}

t.test(
  'a plain answer that takes longer than the stream timeouts is delivered, and paid for once',
  async (t) => {
    const url = provider.script('slow', async ({ path }, response) => {
      await sleep(900);
      if (path.endsWith('/chat/completions')) sendJson(response, 200, chatAnswer());
      else sendJson(response, 200, { id: 'x', object: 'thing' });
    });
    const told: string[] = [];
    const events = {
      onBreaker: (_: string, from: string, to: string) => told.push(`${from} → ${to}`),
      onCooldown() {},
      onOutOfCredit() {},
    };
    const egress = await startEgress(
      { upstreams: [{ name: 'one', url }], first_byte_timeout: '200ms', idle_timeout: '200ms' },
      { events },
    );
    t.teardown(() => egress.close());
    const paths = [
      ...['/chat/completions', '/completions', '/responses', '/embeddings', '/images/generations'],
      ...['/batches', '/audio/transcriptions', '/moderations'],
    ];
    const answers = await Promise.all(paths.map((path) => send(egress.baseUrl, path, chat()).answer));
    for (const [i, path] of paths.entries()) {
      t.match(answers[i], { status: 200, broken: false, headers: { 'outrigger-attempts': '1' } }, path);
    }
    t.equal(provider.requests('slow').length, paths.length, 'each was sent once');
    t.strictSame(told, [], 'slow is no failure');
  },
);

t.test('a sent request that may be running is not retried, unless configured', async (t) => {
  let mode: 'lost' | 'silent' | 'cut' = 'lost';
  const second = provider.script('running-second', answerWhole);
  const first = provider.script('running', async ({ json, socket }, response) => {
    if (json?.['stream'] === true && mode === 'cut') beginStream(response);
    if (mode === 'silent') return;
    await sleep(60);
    socket.destroy();
  });
  const start = async (more: object) => {
    const egress = await startEgress({
      upstreams: [
        { name: 'one', url: first },
        { name: 'two', url: second },
      ],
      first_byte_timeout: '2s',
      circuit_breaker: { failure_percent: 0 },
      ...more,
    });
    t.teardown(() => egress.close());
    return (stream: boolean) => send(egress.baseUrl, '/chat/completions', chat({ stream })).answer;
  };
  const ask = await start({});
  for (const [how, stream, reason] of [
    ['lost', false, 'connection_lost'],
    ['lost', true, 'connection_lost'],
    ['cut', true, 'connection_lost'],
    ['silent', true, 'first_byte'],
  ] as const) {
    mode = how;
    const before = provider.requests('running').length;
    const answer = await ask(stream);
    t.equal(answer.headers['outrigger-reason'], reason, `${how}, ${stream}`);
    t.notOk('x-should-retry' in answer.headers, "the client's own retry decides");
    t.equal(provider.requests('running').length, before + 1);
  }
  const hasty = await start({ timeout: '300ms' });
  mode = 'silent';
  const late = await hasty(false);
  t.match(late, { status: 504, headers: { 'outrigger-reason': 'deadline' } });
  t.notOk('x-should-retry' in late.headers);
  t.equal(provider.requests('running-second').length, 0, 'nobody else was asked either');

  const again = await start({ retry: { resend: true, ...FAST_RETRIES } });
  for (const how of ['lost', 'silent'] as const) {
    mode = how;
    t.match(await again(true), { status: 200, headers: { 'outrigger-upstream': 'two' } }, how);
  }
});

t.test('a request that was not sent completely, or not accepted, goes to the next upstream', async (t) => {
  const good = provider.script('not-sent', answerWhole);
  // Reads the head and a little more, and then nothing: the request never gets there whole.
  const url = await startSocketServer(t, (socket) => {
    socket.once('data', () => {
      socket.pause();
      setTimeout(() => resetSocket(socket), 200);
    });
  });
  const egress = await startEgress({
    upstreams: [
      { name: 'gone', url: `http://127.0.0.1:${await freePort()}/v1` },
      { name: 'half', url },
      { name: 'good', url: good },
    ],
  });
  t.teardown(() => egress.close());
  const large = JSON.stringify({ model: 'm', input: 'x'.repeat(20_000_000) });
  const answer = await send(egress.baseUrl, '/embeddings', large).answer;
  t.match(answer, { status: 200, headers: { 'outrigger-upstream': 'good', 'outrigger-attempts': '3' } });
});

t.test('a truncated plain answer has been paid for, and its client is told not to retry', async (t) => {
  const url = provider.script('half', ({ json }, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    // Some providers send white space while they work, which is nothing of an answer.
    response.write(json?.['n'] === 1 ? '\n\n' : '\n{"choices": [');
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }], timeout: '2s' });
  t.teardown(() => egress.close());
  const half = await send(egress.baseUrl, '/chat/completions', chat()).answer;
  t.match(half, { status: 504, headers: { 'outrigger-reason': 'deadline', 'x-should-retry': 'false' } });
  const blank = await send(egress.baseUrl, '/chat/completions', chat({ n: 1 })).answer;
  t.equal(blank.status, 504);
  t.notOk('x-should-retry' in blank.headers);
});

t.test("a plain answer that has begun is held no longer than its client's timeout for a byte", async (t) => {
  const url = provider.script('blank', async (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    for (let i = 0; i < 6; i++) {
      response.write('\n');
      await sleep(400);
    }
    response.end(JSON.stringify(chatAnswer()));
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const answer = await send(egress.baseUrl, '/chat/completions', chat(), TOLD).answer;
  t.match(answer, { status: 200, broken: false });
  t.equal(answer.body.toString(), `${'\n'.repeat(6)}${JSON.stringify(chatAnswer())}`);
  t.match(egress.listener.stats.of('one', 'm').tokens, { input: 7, output: 5 }, 'and is read all the same');
});

t.test('the breaker opens for a silent upstream, not for a slow one', async (t) => {
  let silent = false;
  const url = provider.script('quiet', async (request, response) => {
    if (request.json?.['n'] === 1 && !silent) return answerWhole(request, response);
  });
  const told: string[] = [];
  const events = { onBreaker: (_: string, _from: string, to: string) => told.push(to), onCooldown() {} };
  const egress = await startEgress(
    {
      upstreams: [{ name: 'one', url }],
      timeout: '3s',
      first_byte_timeout: '3s',
      circuit_breaker: { min_calls: 5, window: '60s', failure_percent: 1 },
    },
    { events: { ...events, onOutOfCredit() {} } },
  );
  t.teardown(() => egress.close());
  const ask = (more: object) => send(egress.baseUrl, '/chat/completions', chat(more)).answer;
  const slow = [{}, {}, {}, { stream: true }, { stream: true }, { stream: true }].map(ask);
  await sleep(200);
  t.equal((await ask({ n: 1 })).status, 200, 'one that asks for little is answered meanwhile');
  for (const answer of await Promise.all(slow)) t.equal(answer.status, 504);
  t.strictSame(told, []);
  silent = true;
  const dead = await Promise.all([{}, {}, { stream: true }, { stream: true }, { n: 1 }, { n: 1 }].map(ask));
  for (const answer of dead) t.equal(answer.status, 504);
  await waitUntil('it is open', () => told.includes('open'));
  t.match((await ask({})).headers, { 'outrigger-reason': 'circuit_open' });
});

t.test('a kept connection is closed before the time that the provider announces', async (t) => {
  const closedByUs: number[] = [];
  let announced = 'timeout=2, max=100';
  const url = await startSocketServer(t, (socket) => {
    let answeredMs = 0;
    socket.on('data', () => {
      answeredMs = performance.now();
      socket.write(
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: keep-alive\r\nkeep-alive: ${announced}\r\n\r\n{}`,
      );
    });
    socket.on('end', () => closedByUs.push(performance.now() - answeredMs));
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const ask = () => send(egress.baseUrl, '/models', undefined).answer;
  await ask();
  await ask();
  t.equal(closedByUs.length, 0, 'it is used again');
  await waitUntil('it is dropped', () => closedByUs.length === 1, { limitMs: 30_000 });
  t.ok(closedByUs[0]! > 500, `after ${closedByUs[0]} ms, not at once`);
  announced = 'timeout=1';
  await ask();
  await waitUntil('one that can not be used again is dropped at once', () => closedByUs.length === 2);
});

t.test('a request on a lost kept connection may have run', async (t) => {
  const url = provider.script('lost-late', async (request, response) => {
    if (request.count === 1) return answerWhole(request, response);
    // As a load balancer that ends what is silent for too long.
    await sleep(2_300);
    resetSocket(request.socket);
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }], retry: FAST_RETRIES });
  t.teardown(() => egress.close());
  await send(egress.baseUrl, '/chat/completions', chat()).answer;
  const lost = await send(egress.baseUrl, '/chat/completions', chat()).answer;
  t.match(lost, { status: 502, headers: { 'outrigger-reason': 'connection_lost' } });
  t.notOk('x-should-retry' in lost.headers);
  t.equal(provider.requests('lost-late').length, 2);
});

const WITHOUT_PYTHON = skipWithout('model-clients');

interface PythonSeen {
  readonly text?: string;
  readonly error?: string;
  readonly status?: number | null;
}

async function askPython(t: Test, options: object): Promise<PythonSeen> {
  const script = `${import.meta.dirname}/support/python/model_client.py`;
  const args = [script, JSON.stringify(options)];
  const { output } = await runProcess(t, requireTool('model-clients'), args, { limitMs: 120_000 });
  return JSON.parse(output.slice(output.lastIndexOf('\n{') + 1)) as PythonSeen;
}

/** A provider that hangs gets three requests: the first one and the client's two retries. */
async function askHanging(t: Test, name: string, ask: (baseUrl: string) => Promise<unknown>): Promise<void> {
  const url = provider.script(name, () => {});
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  await ask(egress.baseUrl);
  t.equal(provider.requests(name).length, 3, name);
  await waitUntil('nothing is left', () => egress.listener.activeRequests === 0);
}

t.test(
  'clients with their own timeouts and retries send a hanging provider as many requests as without the egress',
  async (t) => {
    const cases: Promise<void>[] = [];
    for (const stream of [false, true]) {
      // A timeout of the client's is told to nobody; one of the request's is.
      const clients = async (baseUrl: string) =>
        t.match(await CLIENTS.openai({ baseUrl, model: 'm', stream, timeoutMs: 2_000, limitMs: 60_000 }), {
          kind: 'error',
        });
      cases.push(askHanging(t, `node-client-${stream}`, clients));
      const requests = async (baseURL: string) => {
        const client = new OpenAI({ baseURL, apiKey: 'x', logLevel: 'off' });
        const body = { model: 'm', messages: [], stream };
        const failed = await client.chat.completions.create(body, { timeout: 2_000 }).catch((error) => error);
        t.equal(failed.status, 504, 'our error comes before its own');
      };
      cases.push(askHanging(t, `node-request-${stream}`, requests));
    }
    await Promise.all(cases);
  },
);

for (const library of ['openai', 'anthropic'])
  t.test(`${library} for Python sends a hanging provider as many requests`, { skip: WITHOUT_PYTHON }, (t) =>
    askHanging(t, `python-${library}`, async (baseUrl) => {
      const seen = await askPython(t, { library, base_url: baseUrl, timeout: 2, max_retries: 2 });
      t.match(seen, { status: 504 }, 'our error comes before its own');
    }),
  );

const slowStream: Script = async ({ json }, response) => {
  beginStream(response);
  // The model thinks for longer than the client waits for an answer's headers; without us it has those at once.
  if (json?.['model'] === 'thinks')
    for (let i = 0; i < 14; i++) {
      response.write(': thinking\n\n');
      await sleep(400);
    }
  for (const piece of PIECES) {
    response.write(chatChunk(piece));
    await sleep(700);
  }
  response.end(chatChunk(undefined, 'stop') + DONE);
};

t.test('a stream may last longer than the timeouts of its client and of the egress', async (t) => {
  const url = provider.script('long', slowStream);
  const hasty = await startEgress({ upstreams: [{ name: 'one', url }], timeout: '2500ms' });
  const patient = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => hasty.close());
  t.teardown(() => patient.close());
  const resending = await startEgress({ upstreams: [{ name: 'one', url }], retry: { resend: true } });
  t.teardown(() => resending.close());
  const node = (baseUrl: string, model: string, timeoutMs: number) =>
    CLIENTS.openai({ baseUrl, model, stream: true, timeoutMs, limitMs: 60_000 });
  const seen = await Promise.all([
    node(hasty.baseUrl, 'm', 2_000),
    node(patient.baseUrl, 'thinks', 4_000),
    send(resending.baseUrl, '/chat/completions', chat({ model: 'thinks', stream: true }), TOLD).answer,
  ]);
  t.match(seen[0], { kind: 'answer', text: WHOLE });
  t.match(seen[1], { kind: 'answer', text: WHOLE }, 'its client has the head in time');
  t.match(
    seen[2],
    { status: 200, broken: false },
    'also where the head is held until the client must have it',
  );
  t.equal(provider.requests('long').length, 3);
});

t.test('a stream may do so with a client for Python, too', { skip: WITHOUT_PYTHON }, async (t) => {
  const url = provider.script('long-python', slowStream);
  const hasty = await startEgress({ upstreams: [{ name: 'one', url }], timeout: '2500ms' });
  t.teardown(() => hasty.close());
  const base = { library: 'openai', base_url: hasty.baseUrl, stream: true, timeout: 2, max_retries: 0 };
  t.same(await askPython(t, base), { text: WHOLE });
  t.equal(provider.requests('long-python').length, 1);
});

t.test(
  "a client's retry gets the remaining attempts of its first request, at another upstream first",
  async (t) => {
    const lost = provider.script('left-lost', async ({ socket }) => {
      await sleep(20);
      socket.destroy();
    });
    const failing = provider.script('left-failing', (_request, response) => sendError(response, 503));
    const start = async (...urls: string[]) => {
      const egress = await startEgress({
        upstreams: urls.map((url, i) => ({ name: `u${i}`, url })),
        retry: FAST_RETRIES,
        circuit_breaker: { failure_percent: 0 },
      });
      t.teardown(() => egress.close());
      return (retryCount: number, body = chat()) =>
        send(egress.baseUrl, '/chat/completions', body, {
          'x-stainless-retry-count': String(retryCount),
          'x-stainless-timeout': '30',
        }).answer;
    };
    const one = await start(lost);
    for (const retryCount of [0, 1, 2]) await one(retryCount);
    t.equal(provider.requests('left-lost').length, 3, 'three requests of its own are three');

    const two = await start(lost, failing);
    const first = await two(0);
    t.match(first.headers, { 'outrigger-reason': 'connection_lost', 'outrigger-attempts': '1' });
    const second = await two(1);
    t.match(second.headers, { 'outrigger-reason': 'connection_lost', 'outrigger-attempts': '2' });
    t.equal(provider.requests('left-failing').length, 1, 'first the one that was not asked');
    t.equal(provider.requests('left-lost').length, 5, 'then the other one');
    const other = await two(1, chat({ seed: 1 }));
    t.match(other.headers, { 'outrigger-attempts': '1' }, 'of what is not known, one attempt was used');

    const three = await start(failing);
    const failed = await three(0);
    t.match(failed, { status: 503, headers: { 'outrigger-attempts': '3', 'x-should-retry': 'false' } });
    const stubborn = await three(1);
    t.match(stubborn, { status: 503, headers: { 'outrigger-attempts': '1' } }, 'it is not turned away');
  },
);

t.test("a pause that exceeds the client's timeout is left to the client", async (t) => {
  const url = provider.script('pause', (request, response) => {
    if (request.count === 1) sendError(response, 429, { 'retry-after': '3' });
    else return answerWhole(request, response);
  });
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const client = new OpenAI({ baseURL: egress.baseUrl, apiKey: 'x', timeout: 2_000, logLevel: 'off' });
  const answer = await client.chat.completions.create({ model: 'm', messages: [] });
  t.equal(answer.choices[0]?.message.content, WHOLE, 'it came again after the pause');
  t.equal(provider.requests('pause').length, 2);
});
