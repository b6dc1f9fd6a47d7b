// What becomes of a provider's answer: what passes as it is, when a stream is whole, how large an event may be, and what
// an error is that comes with a status of 200.
import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import OpenAI from 'openai';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import {
  answerWhole,
  beginStream,
  chatAnswer,
  chatChunk,
  DONE,
  PIECES,
  type ProviderRequest,
  type Script,
  sendError,
  sendJson,
  startLlmProvider,
  USAGE_CHUNK,
  WHOLE,
} from '../scripts/harness/llm/provider.ts';
import { resetSocket } from '../scripts/harness/net.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';

const provider = await startLlmProvider();
t.teardown(() => provider.close());
t.setTimeout(120_000);

const QUICK_BACKOFF = { backoff: { base: '1ms', max: '2ms' } };

async function start(t: Test, llm: object) {
  const egress = await startEgress({ retry: QUICK_BACKOFF, ...llm });
  t.teardown(() => egress.close());
  const breaker = () => egress.listener.egress?.upstreams[0]?.breaker.state;
  const outcomes = (upstream = 'one', model = 'm') =>
    Object.fromEntries(egress.listener.stats.of(upstream, model).outcomes);
  return { ...egress, breaker, outcomes };
}

const jsonLines =
  '{"custom_id":"a","response":{"status_code":200}}\n{"custom_id":"b","error":{"code":"x"}}\n';

t.test('unknown answers pass unchanged, and open no circuit', async (t) => {
  let answer: { status?: number; headers: Record<string, string>; body: string | Buffer } = {
    headers: {},
    body: '',
  };
  const url = provider.script('as-it-is', (_request, response) => {
    response.writeHead(answer.status ?? 200, answer.headers);
    response.write('');
    response.end(answer.body);
  });
  const { baseUrl, breaker } = await start(t, { upstreams: [{ name: 'one', url }] });
  const typed = (type: string) => ({ 'content-type': type });
  const json = typed('application/json');
  const compressed = gzipSync(JSON.stringify(chatAnswer()));
  const content = '/files/file-1/content';
  for (const [name, path, request, given] of [
    ['JSONL of a file', content, undefined, { headers: json, body: jsonLines }],
    [
      'JSONL of a file as bytes',
      content,
      undefined,
      { headers: typed('application/octet-stream'), body: jsonLines },
    ],
    [
      'a file that is one error',
      content,
      undefined,
      { headers: json, body: '{"error":{"code":"rate_limit"}}' },
    ],
    [
      'a part of a file',
      content,
      undefined,
      { status: 206, headers: { ...json, 'content-range': 'bytes 0-4/9' }, body: '{"a":' },
    ],
    ['half an answer of a batch', '/batches', '{}', { headers: json, body: '{"id":' }],
    [
      'events of another API',
      '/threads/x/runs',
      '{"stream":true}',
      { headers: typed('text/event-stream'), body: 'data: x' },
    ],
    [
      'speech',
      '/audio/speech',
      '{"model":"m"}',
      { headers: typed('audio/mpeg'), body: Buffer.from([255, 251, 0, 1]) },
    ],
    [
      'JSON with a byte order mark',
      '/chat/completions',
      chat(),
      { headers: json, body: `\uFEFF${JSON.stringify(chatAnswer())}` },
    ],
    [
      'JSON after white space',
      '/chat/completions',
      chat(),
      { headers: json, body: `\n \n${JSON.stringify(chatAnswer())}\n` },
    ],
    ['JSON without a type', '/chat/completions', chat(), { headers: {}, body: JSON.stringify(chatAnswer()) }],
    [
      'an empty answer',
      '/chat/completions',
      chat(),
      { headers: { ...json, 'content-length': '0' }, body: '' },
    ],
    [
      'an empty answer to a stream, typed JSON',
      '/chat/completions',
      chat({ stream: true }),
      { headers: json, body: '' },
    ],
    ['JSON lines typed JSON', '/chat/completions', chat(), { headers: json, body: jsonLines }],
    [
      'JSON lines',
      '/chat/completions',
      chat({ stream: true }),
      { headers: typed('application/x-ndjson'), body: jsonLines },
    ],
    ['plain text', '/chat/completions', chat(), { headers: typed('text/plain'), body: 'busy' }],
    ['text typed JSON', '/chat/completions', chat(), { headers: json, body: 'busy' }],
    ['a page', '/models', undefined, { headers: typed('text/html'), body: '<html></html>' }],
    [
      'gzip',
      '/chat/completions',
      chat(),
      { headers: { ...json, 'content-encoding': 'gzip' }, body: compressed },
    ],
    [
      'gzip of a stream',
      '/chat/completions',
      chat({ stream: true }),
      { headers: { ...typed('text/event-stream'), 'content-encoding': 'gzip' }, body: compressed },
    ],
    [
      'br',
      '/embeddings',
      '{"model":"m"}',
      { headers: { ...json, 'content-encoding': 'br' }, body: Buffer.from([1, 2, 3]) },
    ],
    [
      'UTF-16',
      '/chat/completions',
      chat(),
      { headers: typed('application/json; charset=utf-16le'), body: Buffer.from('{"a":1}', 'utf16le') },
    ],
    ['no content', '/chat/completions', chat({ stream: true }), { status: 204, headers: {}, body: '' }],
  ] as const) {
    answer = given;
    const got = await send(baseUrl, path, request).answer;
    const status = 'status' in given ? given.status : 200;
    t.match(got, { status, broken: false, headers: { ...given.headers, 'outrigger-attempts': '1' } }, name);
    t.ok(got.body.equals(Buffer.from(given.body)), `${name}: byte for byte`);
  }
  t.equal(breaker(), 'closed');
  answer = { headers: json, body: '{"choices":[{"mess' };
  const half = await send(baseUrl, '/chat/completions', chat()).answer;
  t.match(
    half,
    { status: 502, headers: { 'outrigger-reason': 'malformed_answer' } },
    'half an answer is none',
  );
});

t.test('the head of an answer that no policy inspects is relayed at once', async (t) => {
  let end = (): void => {};
  const url = provider.script('slow-file', (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/jsonl' });
    response.flushHeaders();
    end = () => response.end(jsonLines);
  });
  const { baseUrl } = await start(t, { upstreams: [{ name: 'one', url }] });
  const response = await fetch(`${baseUrl}/files/file-1/content`);
  t.equal(response.headers.get('content-type'), 'application/jsonl');
  end();
  t.equal(await response.text(), jsonLines);
  const session = connectHttp2(new URL(baseUrl).origin);
  t.teardown(() => session.destroy());
  const stream = session.request({ ':path': '/v1/files/file-1/content' });
  const head = await new Promise<IncomingHttpHeaders>((resolve) => stream.once('response', resolve));
  t.equal(head['content-type'], 'application/jsonl', 'over HTTP/2');
  end();
  let text = '';
  for await (const part of stream) text += part;
  t.equal(text, jsonLines);
});

t.test(
  'the request and the first bytes decide whether an answer is a stream, whatever its type',
  async (t) => {
    let type: string | undefined;
    let isCut = false;
    const url = provider.script('typed', (_request, response) => {
      response.writeHead(200, type === undefined ? {} : { 'content-type': type });
      response.write(': hello\n\n');
      response.write(chatChunk('one'));
      if (isCut) response.end();
      else response.end(chatChunk(undefined, 'stop') + DONE);
    });
    const { baseUrl, breaker, outcomes } = await start(t, { upstreams: [{ name: 'one', url }] });
    const types = [
      undefined,
      'text/plain; charset=utf-8',
      'application/octet-stream',
      'application/json',
      'Text/Event-Stream',
    ];
    for (type of types) {
      isCut = false;
      const whole = await send(baseUrl, '/chat/completions', chat({ stream: true })).answer;
      t.match(whole, { status: 200, broken: false }, String(type));
      t.equal(whole.body.toString(), `: hello\n\n${chatChunk('one')}${chatChunk(undefined, 'stop')}${DONE}`);
    }
    t.strictSame([breaker(), outcomes()], ['closed', { success: types.length }]);
    for (type of types) {
      isCut = true;
      const cut = await send(baseUrl, '/chat/completions', chat({ stream: true })).answer;
      t.match([cut.broken, cut.body.toString()], [true, /"code":"stream_cut"/], `${type}, cut`);
    }
  },
);

/** Sends a large text in parts, each when the caller has most of what was sent before: nobody holds it all. */
async function sendInParts(response: ServerResponse, text: string, received: () => number): Promise<void> {
  const partBytes = 4_194_304;
  for (let at = 0; at < text.length; at += partBytes) {
    response.write(text.slice(at, at + partBytes));
    const due = Math.min(at + partBytes, text.length) - 2_097_152;
    await waitUntil(`${due} bytes are passed on`, () => received() >= due || response.destroyed);
  }
}

t.test('a picture of 20 MiB passes, in an event or plain, without being held', async (t) => {
  const picture = 'iVBORw0KGgo+/'.repeat(1 + 20_971_520 / 13).slice(0, 20_971_520);
  const usage = { input_tokens: 3, output_tokens: 4 };
  const large: Record<string, [path: string, body: string, answer: string]> = {
    images: [
      '/images/generations',
      '{"model":"m","stream":true}',
      `event: image_generation.completed\ndata: {"type":"image_generation.completed","b64_json":"${picture}","usage":${JSON.stringify(usage)}}\n\n`,
    ],
    plain: [
      '/images/generations',
      '{"model":"m"}',
      `{"data":[{"b64_json":"${picture}"}],"usage":${JSON.stringify(usage)}}`,
    ],
    responses: [
      '/responses',
      '{"model":"m","stream":true}',
      `event: response.output_item.done\ndata: {"type":"response.output_item.done","item":{"result":"${picture}"}}\n\nevent: response.completed\ndata: {"type":"response.completed","response":{"status":"completed","output":[{"result":"${picture}"}],"usage":${JSON.stringify(usage)}}}\n\n`,
    ],
    chat: [
      '/chat/completions',
      chat({ stream: true }),
      `${chatChunk('x')}data: ${JSON.stringify({ choices: [{ index: 0, delta: { images: [{ image_url: { url: picture } }] }, finish_reason: 'stop' }] })}\n\n`,
    ],
  };
  let received = 0;
  const url = provider.script('picture', async ({ path, json }, response) => {
    const name = path.includes('images')
      ? json?.['stream']
        ? 'images'
        : 'plain'
      : (path.split('/')[2] ?? '');
    response.writeHead(200, { 'content-type': name === 'plain' ? 'application/json' : 'text/event-stream' });
    await sendInParts(response, large[name]![2], () => received);
    response.end();
  });
  const { baseUrl, outcomes, listener } = await start(t, { upstreams: [{ name: 'one', url }], limits: {} });
  for (const [name, [path, body, answer]] of Object.entries(large)) {
    const before = { ...listener.stats.of('one', 'm').tokens };
    received = 0;
    const hash = createHash('sha256');
    const response = await fetch(`${baseUrl}${path}`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    });
    t.equal(response.status, 200, name);
    for await (const part of response.body!) {
      received += part.length;
      hash.update(part);
    }
    t.equal(received, Buffer.byteLength(answer), name);
    t.equal(hash.digest('hex'), createHash('sha256').update(answer).digest('hex'), `${name}: byte for byte`);
    const { input, output } = listener.stats.of('one', 'm').tokens;
    if (name !== 'chat')
      t.strictSame([input - before.input, output - before.output], [3, 4], `${name}: its usage is read`);
  }
  await waitUntil('all are counted', () => outcomes()['success'] === 4);
});

t.test('the limit of an answer is the configured one, and its error names the setting', async (t) => {
  const url = provider.script('bound', ({ json }, response) => {
    if (json?.['stream'] !== true) sendJson(response, 200, chatAnswer('x'.repeat(300_000)));
    else {
      beginStream(response);
      response.end(chatChunk('one') + chatChunk('x'.repeat(300_000)) + DONE);
    }
  });
  const { baseUrl, breaker } = await start(t, {
    upstreams: [{ name: 'one', url }],
    limits: { max_answer_bytes: 200_000 },
  });
  const words = /more than 200000 bytes \(llm\.limits\.max_answer_bytes\)/;
  const plain = await send(baseUrl, '/chat/completions', chat()).answer;
  t.match([plain.status, plain.body.toString()], [502, words]);
  const streamed = await send(baseUrl, '/chat/completions', chat({ stream: true })).answer;
  t.match([streamed.broken, streamed.body.toString()], [true, words]);
  t.equal(breaker(), 'closed');
});

const beats = 'data:\n\nevent: heartbeat\ndata: {"t":1}\n\n: comment\n\n\n\nevent: ping\n\ndata: {}\n\n';

t.test('a stream is complete when its last choice has finished, and heartbeats end none', async (t) => {
  let body = '';
  let end: (response: ServerResponse) => void = (response) => response.end();
  const url = provider.script('ends', (_request, response) => {
    beginStream(response);
    response.write(body, () => end(response));
  });
  const { baseUrl, breaker, outcomes, listener } = await start(t, {
    upstreams: [{ name: 'one', url }],
    idle_timeout: '300ms',
  });
  const ask = (path = '/chat/completions', more: object = {}) =>
    send(baseUrl, path, chat({ stream: true, ...more })).answer;
  const finish = (index: number) =>
    `data: ${JSON.stringify({ choices: [{ index, delta: {}, finish_reason: 'stop' }] })}\r\n\r\n`;
  const message = (type: string) => `event: ${type}\ndata: {"type":"${type}"}\n\n`;
  for (const [name, text, path, more] of [
    ['heartbeats', `\uFEFF${beats}${chatChunk('a')}${beats}${DONE}`],
    ['a space behind the marker', `${chatChunk('a')}data: [DONE] \n\n`],
    ['CR alone', `${chatChunk('a')}${DONE}`.replaceAll('\n', '\r')],
    ['no marker', `${chatChunk('a')}${finish(0)}`],
    ['no marker, and a usage', `${chatChunk('a')}${finish(0)}${USAGE_CHUNK}`],
    ['two choices', `${chatChunk('a')}${finish(1)}${finish(0)}`, '/chat/completions', { n: 2 }],
    [
      'legacy completions',
      `data: {"choices":[{"index":0,"text":"a","finish_reason":"length"}]}\n\n`,
      '/completions',
    ],
    [
      'Responses',
      message('response.created') + beats.replace('data: {}\n\n', '') + message('response.incomplete'),
      '/responses',
    ],
    ['Messages', message('message_start') + message('ping') + message('message_stop'), '/messages'],
  ] as const) {
    body = text;
    const answer = await ask(path, more);
    t.match([answer.status, answer.broken, answer.body.toString()], [200, false, text], name);
  }
  t.equal(breaker(), 'closed');
  body = `${chatChunk('a')}${finish(0)}`;
  t.match(
    await ask('/chat/completions', { n: 2 }),
    { broken: true },
    'one of two choices is no whole answer',
  );
  body = message('message_start');
  const cut = await ask('/messages');
  t.match(
    [cut.broken, cut.body.toString()],
    [true, /event: error\ndata: \{"type":"error","error":\{/],
    "in Anthropic's form",
  );

  const before = outcomes()['success'] ?? 0;
  body = `${chatChunk('a')}${finish(0)}`;
  end = (response) => setTimeout(() => response.socket && resetSocket(response.socket), 50);
  t.match(await ask(), { broken: false }, 'a connection that is reset behind the end takes nothing away');
  end = () => {};
  t.match(await ask(), { broken: false }, 'nor does a provider that never ends it');
  const drained = send(baseUrl, '/chat/completions', chat({ stream: true }));
  await drained.until('"finish_reason":"stop"');
  listener.egress!.endRequests();
  t.match(
    await drained.answer,
    { broken: false, body: Buffer.from(body) },
    'nor does the end of the sidecar',
  );
  body += DONE;
  const left = send(baseUrl, '/chat/completions', chat({ stream: true }));
  await left.until('[DONE]');
  left.abort();
  await left.answer.catch(() => {});
  await waitUntil('all four are counted', () => outcomes()['success'] === before + 4);
  t.notOk(outcomes()['cancelled'], 'a client that leaves with the whole answer has not cancelled');
});

const errorOf = (type: string, code: string | null = null) => ({
  error: { message: 'scripted', type, code },
});
type ErrorScript = (error: object) => Script;
const FORMS: Record<string, readonly [path: string, body: string, script: ErrorScript]> = {
  plain: ['/chat/completions', chat(), (error) => (_request, response) => sendJson(response, 200, error)],
  'first event': [
    '/chat/completions',
    chat({ stream: true }),
    (error) => inStream(`data: ${JSON.stringify(error)}\n\n`),
  ],
  'event named error': [
    '/chat/completions',
    chat({ stream: true }),
    (error) => inStream(`: x\n\nevent: error\ndata: ${JSON.stringify(error)}\n\n`),
  ],
  'JSON for a stream': [
    '/chat/completions',
    chat({ stream: true }),
    (error) => (_request, response) => sendJson(response, 200, error),
  ],
  'response.failed': [
    '/responses',
    chat({ stream: true }),
    (error) =>
      inStream(
        `event: response.failed\ndata: ${JSON.stringify({ type: 'response.failed', response: { object: 'response', status: 'failed', ...error } })}\n\n`,
      ),
  ],
  Messages: [
    '/messages',
    chat({ stream: true }),
    (error) => inStream(`event: error\ndata: ${JSON.stringify({ type: 'error', ...error })}\n\n`),
  ],
};

function inStream(text: string): Script {
  return (_request: ProviderRequest, response: ServerResponse) => {
    beginStream(response);
    response.end(text);
  };
}

t.test('an error in a 200 is a failure: the egress may retry before it has relayed anything', async (t) => {
  const good = provider.script('good', ({ path, json }, response) => {
    if (path.endsWith('/chat/completions')) return answerWhole({ json } as ProviderRequest, response);
    beginStream(response);
    const type = path.endsWith('/messages') ? 'message_stop' : 'response.completed';
    response.end(`event: ${type}\ndata: {"type":"${type}"}\n\n`);
  });
  for (const [form, [path, body, script]] of Object.entries(FORMS)) {
    const url = provider.script('in-200', script(errorOf('server_error')));
    const two = await start(t, {
      upstreams: [
        { name: 'one', url },
        { name: 'two', url: good },
      ],
    });
    const moved = await send(two.baseUrl, path, body).answer;
    t.match(
      moved,
      { status: 200, broken: false, headers: { 'outrigger-upstream': 'two', 'outrigger-attempts': '2' } },
      form,
    );
    t.notMatch(moved.body.toString(), /scripted/, form);
    t.strictSame(
      Object.fromEntries(two.listener.stats.of('one', 'm').attempts),
      { 500: 1 },
      `${form}: counted as what it is`,
    );

    // Alone the caller gets what the provider sent.
    const alone = await start(t, {
      upstreams: [{ name: 'one', url }],
      retry: { ...QUICK_BACKOFF, max_attempts: 2 },
    });
    const before = provider.requests('in-200').length;
    const last = await send(alone.baseUrl, path, body).answer;
    t.match(last, { status: 200, broken: false, headers: { 'outrigger-attempts': '2' } }, `${form}, alone`);
    t.match(last.body.toString(), /"message":"scripted"/, `${form}, alone`);
    t.notMatch(last.body.toString(), /outrigger/, `${form}: nothing of ours is in it`);
    t.equal(provider.requests('in-200').length, before + 2);
    t.strictSame(alone.outcomes(), { failed: 1 }, `${form}, alone`);
    for (let turn = 0; turn < 2; turn++) await send(alone.baseUrl, path, body).answer;
    await waitUntil(`${form}: five of them open the circuit`, () => alone.breaker() === 'open');
  }
});

t.test('an error in a 200 follows the rules of the status that it means', async (t) => {
  const good = provider.script('good', answerWhole);
  for (const [form, [path, body, script]] of Object.entries(FORMS)) {
    if (path !== '/chat/completions') continue;
    const ask = async (error: object) => {
      const url = provider.script('rules', script(error));
      const egress = await start(t, {
        upstreams: [
          { name: 'one', url },
          { name: 'two', url: good },
        ],
        retry: { ...QUICK_BACKOFF, backoff: { base: '10s', max: '10s' } },
      });
      const again = () => send(egress.baseUrl, path, body).answer;
      return { egress, first: await again(), again };
    };
    const limited = await ask(errorOf('rate_limit_error', 'rate_limit_exceeded'));
    t.match(
      limited.first.headers,
      { 'outrigger-upstream': 'two', 'outrigger-attempts': '2' },
      `${form}: a limit`,
    );
    t.match((await limited.again()).headers, { 'outrigger-attempts': '1' }, `${form}: its model rests`);
    const other = await send(limited.egress.baseUrl, path, chat({ ...JSON.parse(body), model: 'x' })).answer;
    t.match(other.headers, { 'outrigger-attempts': '2' }, `${form}: and no other`);
    t.equal(limited.egress.breaker(), 'closed');

    const unpaid = await ask(errorOf('insufficient_quota', 'insufficient_quota'));
    t.match(
      unpaid.first.headers,
      { 'outrigger-upstream': 'two', 'outrigger-attempts': '2' },
      `${form}: money`,
    );
    const [one] = unpaid.egress.listener.egress!.upstreams;
    t.equal(one?.models.get('m')?.outOfCredit, 'insufficient_quota', form);
    t.match((await unpaid.again()).headers, { 'outrigger-attempts': '1' }, `${form}: it is asked last`);

    const invalid = await ask(errorOf('invalid_request_error', 'context_length_exceeded'));
    t.match(
      invalid.first,
      { status: 200, headers: { 'outrigger-upstream': 'one', 'outrigger-attempts': '1' } },
      form,
    );
    t.match(
      invalid.first.body.toString(),
      /context_length_exceeded/,
      `${form}: the request is wrong everywhere`,
    );
    t.strictSame(invalid.egress.outcomes(), { refused: 1 }, form);
  }
});

t.test('an error after the beginning of a stream passes, and is no success', async (t) => {
  const error = `data: ${JSON.stringify(errorOf('server_error'))}\n\n`;
  const url = provider.script('late', inStream(chatChunk('one') + error));
  const { baseUrl, outcomes, breaker, listener } = await start(t, { upstreams: [{ name: 'one', url }] });
  const answer = await send(baseUrl, '/chat/completions', chat({ stream: true })).answer;
  t.match(answer, { broken: false, headers: { 'outrigger-attempts': '1' } });
  t.equal(answer.body.toString(), chatChunk('one') + error, 'as the provider sent it');
  t.strictSame(outcomes(), { failed: 1 });
  t.ok(listener.stats.of('one', 'm').tokens.wasted > 0, 'it has cost something');
  const limit = `data: ${JSON.stringify(errorOf('rate_limit_error'))}\n\n`;
  const limited = provider.script('late-limit', inStream(chatChunk('one') + limit));
  const resting = await start(t, {
    upstreams: [{ name: 'one', url: limited }],
    retry: { backoff: { base: '10s', max: '10s' } },
  });
  const passed = await send(resting.baseUrl, '/chat/completions', chat({ stream: true })).answer;
  t.equal(passed.body.toString(), chatChunk('one') + limit);
  const state = resting.listener.egress!.upstreams[0]!.models.get('m')!;
  t.ok(state.restsUntilMs > performance.now(), 'a limit lets the model rest');
  t.strictSame([resting.outcomes(), resting.breaker()], [{ throttled: 1 }, 'closed']);
  for (let turn = 0; turn < 4; turn++) {
    // An openai client leaves with the error.
    const left = send(baseUrl, '/chat/completions', chat({ stream: true }));
    await left.until('server_error');
    left.abort();
    await left.answer.catch(() => {});
  }
  await waitUntil('five of them open the circuit', () => breaker() === 'open');
});

t.test('a stream may complete after a rate limit error in a 200', async (t) => {
  const url = provider.script('recovers', (request, response) => {
    if (request.count <= 2) sendJson(response, 200, errorOf('rate_limit_error'), { 'retry-after-ms': '20' });
    else if (request.count === 3) sendError(response, 503);
    else return answerWhole(request, response);
  });
  const { baseUrl, outcomes, listener } = await start(t, {
    upstreams: [{ name: 'one', url }],
    retry: { ...QUICK_BACKOFF, max_attempts: 4 },
  });
  const answer = await send(baseUrl, '/chat/completions', chat()).answer;
  t.match(answer, { status: 200, headers: { 'outrigger-attempts': '4' } });
  t.strictSame(outcomes(), { success: 1 });
  t.equal(listener.egress!.upstreams[0]!.models.get('m')?.throttledInARow, 0);
});

t.test(
  'real clients behave as they do without the egress',
  { skip: skipWithout('model-clients') },
  async (t) => {
    const script: Script = ({ path, json }, response) => {
      const model = String(json?.['model']);
      beginStream(response);
      if (path.endsWith('/messages')) {
        const start = {
          message: {
            id: 'msg',
            type: 'message',
            role: 'assistant',
            content: [],
            model,
            stop_reason: null,
            usage: { input_tokens: 1, output_tokens: 1 },
          },
        };
        const event = (type: string, more: object) =>
          `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
        response.write(event('message_start', start) + event('ping', {}));
        response.write(event('content_block_start', { index: 0, content_block: { type: 'text', text: '' } }));
        for (const text of PIECES)
          response.write(event('content_block_delta', { index: 0, delta: { type: 'text_delta', text } }));
        if (model === 'fails')
          response.end(event('error', { error: { type: 'overloaded_error', message: 'scripted' } }));
        else
          response.end(
            event('content_block_stop', { index: 0 }) +
              event('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 5 } }) +
              event('message_stop', {}),
          );
        return;
      }
      for (const piece of PIECES) response.write(`: beat\n\n${chatChunk(piece)}`);
      if (model === 'fails') response.end(`data: ${JSON.stringify(errorOf('server_error'))}\n\n`);
      else response.end(chatChunk(undefined, 'stop') + (model === 'm' ? '' : DONE));
    };
    const url = provider.script('clients', script);
    const { baseUrl, outcomes, listener } = await start(t, { upstreams: [{ name: 'one', url }] });
    const node = async (base: string, model: string) => {
      const client = new OpenAI({ baseURL: base, apiKey: 'placeholder', maxRetries: 0 });
      let text = '';
      try {
        const stream = await client.chat.completions.create({
          model,
          stream: true,
          messages: [{ role: 'user', content: 'x' }],
        });
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
        return { text };
      } catch (error) {
        return { error: (error as Error).constructor.name, message: (error as Error).message };
      }
    };
    const python = async (base: string, library: string, model: string) => {
      const given = { library, base_url: base, model, stream: true, max_retries: 0 };
      const args = [`${import.meta.dirname}/support/python/model_client.py`, JSON.stringify(given)];
      const { output } = await runProcess(t, requireTool('model-clients'), args, { limitMs: 120_000 });
      return JSON.parse(output.slice(output.lastIndexOf('\n{') + 1)) as object;
    };
    for (const model of ['m', 'fails']) {
      const expected = model === 'm' ? { text: WHOLE } : { error: /API/ };
      for (const [name, ask] of Object.entries({
        'openai for Node': (base: string) => node(base, model),
        'openai for Python': (base: string) => python(base, 'openai', model),
        'anthropic for Python': (base: string) => python(base, 'anthropic', model),
      })) {
        const without = await ask(url);
        t.match(without, expected, `${name}, ${model}, without us`);
        t.strictSame(await ask(baseUrl), without, `${name}, ${model}`);
      }
    }
    await waitUntil(
      'all are counted',
      () => outcomes()['success'] === 3 && outcomes('one', 'fails')['failed'] === 3,
    );
    t.ok(listener.stats.of('one', 'm').tokens.output > 5, "Anthropic's usage is read");
  },
);

t.test('an error body without an end holds no connection', async (t) => {
  const sockets: Socket[] = [];
  const bad = provider.script('endless', ({ socket }, response) => {
    sockets.push(socket);
    response.writeHead(503, { 'content-type': 'text/html' });
    response.write('<html>');
  });
  const good = provider.script('good', answerWhole);
  const { baseUrl } = await start(t, {
    upstreams: [
      { name: 'one', url: bad },
      { name: 'two', url: good },
    ],
  });
  const answer = await send(baseUrl, '/chat/completions', chat()).answer;
  t.match(answer, { status: 200, headers: { 'outrigger-upstream': 'two' } });
  await waitUntil('its connection is closed', () => sockets[0]?.destroyed);
});
