// Large requests: they pass byte for byte, stall nobody, wait in line for memory, and are turned away with a time.
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { startEgress, type TestEgress } from '../scripts/harness/llm/egress-listener.ts';
import {
  answerWhole,
  beginStream,
  chatAnswer,
  chatChunk,
  DONE,
  sendJson,
} from '../scripts/harness/llm/provider.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { TURN_BYTES } from '../sidecar/llm/limits/turn-share.ts';
import { type Answer, chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const MIB = 1_048_576;
const provider = await providerFor(t);

/** A chat with a picture of so many bytes. */
const picture = (bytes: number, more: object = {}): string => {
  const url = `data:image/png;base64,${'A'.repeat(bytes)}`;
  const content = [
    { type: 'text', text: 'what is "this"?' },
    { type: 'image_url', image_url: { url } },
  ];
  return JSON.stringify({ model: 'm', messages: [{ role: 'user', content }], ...more });
};

/** Nothing is left of any request. */
const nothingIsLeft = (egress: TestEgress): Promise<unknown> =>
  waitUntil(
    'nothing is left',
    () => egress.listener.activeRequests === 0 && egress.listener.egress?.bodyBytes === 0,
  );

t.test("31 MiB pass with a policy's changes, and are never parsed or read as a whole", async (t) => {
  const egress = await startEgress({
    upstreams: [{ name: 'one', url: provider.script('huge', answerWhole), model: 'other' }],
  });
  t.teardown(() => egress.close());
  await send(egress.baseUrl, '/models', undefined).answer;
  const bodies = [
    picture(31 * MIB),
    JSON.stringify({ messages: 'He said "no".\n'.repeat(1_700_000), model: 'm' }),
    `{"input":[${'12345,'.repeat(5_000_000)}1],"model":"m"}`,
  ];
  const { parse } = JSON;
  let longest = 0;
  for (const [at, body] of bodies.entries()) {
    // The provider is in this process and parses what it gets: it may, from its own file.
    JSON.parse = (text, ...rest) => {
      if (!new Error().stack?.includes('harness/llm/provider.ts')) longest = Math.max(longest, text.length);
      return parse(text, ...rest);
    };
    try {
      const answer = await send(egress.baseUrl, '/chat/completions', body).answer;
      t.equal(answer.status, 200);
    } finally {
      JSON.parse = parse;
    }
    const came = provider.requests('huge').at(-1)!.body;
    t.ok(came.equals(Buffer.from(body.replace('"model":"m"', '"model":"other"'))), `body ${at}`);
  }
  t.ok(longest < 5_000, `at most ${longest} characters were parsed at a time`);
  const { mostBytesATurn } = egress.listener.egress!;
  t.ok(mostBytesATurn < TURN_BYTES + 2 * 65_536, `${mostBytesATurn} bytes were read in one turn`);
  await nothingIsLeft(egress);
});

t.test(
  'requests above the memory limit wait in line, over HTTP/1.1 and HTTP/2, and all succeed',
  async (t) => {
    let atProvider = 0;
    let most = 0;
    const url = provider.script('line', (_request, response) => {
      most = Math.max(most, ++atProvider);
      setTimeout(() => {
        atProvider--;
        sendJson(response, 200, chatAnswer());
      }, 20);
    });
    const egress = await startEgress({
      upstreams: [{ name: 'one', url }],
      limits: { max_body_memory_bytes: 8 * MIB, max_wait: '200s' },
    });
    t.teardown(() => egress.close());
    const body = picture(2 * MIB);
    const answers = Array.from({ length: 24 }, () => send(egress.baseUrl, '/chat/completions', body).answer);
    const session = connectHttp2(egress.baseUrl);
    t.teardown(() => session.destroy());
    const streamed = Array.from({ length: 6 }, async () => {
      const stream = session.request({ ':method': 'POST', ':path': '/v1/chat/completions' });
      stream.end(body);
      const [head] = (await once(stream, 'response')) as [{ ':status'?: number }];
      stream.resume();
      return head[':status'];
    });
    for (const { status } of await Promise.all(answers)) t.equal(status, 200);
    for (const status of await Promise.all(streamed)) t.equal(status, 200);
    const { mostBytesATurn } = egress.listener.egress!;
    t.ok(mostBytesATurn < 2 * TURN_BYTES, `${mostBytesATurn} bytes of all were read in one turn`);
    t.ok(most <= 3, `${most} of them were at the provider at once`);
    t.equal(provider.requests('line').length, 30);
    await nothingIsLeft(egress);
    t.equal(egress.listener.egress?.waiting, 0);
  },
);

t.test(
  'a request that waits too long gets a retry time; small ones pass, and a disconnect makes room',
  async (t) => {
    const open: (() => void)[] = [];
    const url = provider.script('full', ({ json }, response) => {
      if (json?.['hold'] === true) open.push(() => sendJson(response, 200, chatAnswer()));
      else sendJson(response, 200, chatAnswer());
    });
    const testClock = new TestClock();
    const egress = await startEgress(
      {
        upstreams: [{ name: 'one', url }],
        limits: { max_body_memory_bytes: 4 * MIB, max_wait: '10s' },
      },
      { testClock },
    );
    t.teardown(() => egress.close());
    const body = picture(2 * MIB, { hold: true });
    const first = send(egress.baseUrl, '/chat/completions', body);
    await waitUntil('the first is held', () => open.length === 1);
    const second = send(egress.baseUrl, '/chat/completions', body);
    await waitUntil('the second waits', () => egress.listener.egress?.waiting === 1);
    const small = await send(egress.baseUrl, '/chat/completions', chat()).answer;
    t.equal(small.status, 200, 'a small one does not wait');
    testClock.advance(10_500);
    const refused = await second.answer;
    t.equal(refused.status, 503);
    t.match(refused.headers, {
      'outrigger-reason': 'overloaded',
      'retry-after': /^\d+$/,
      'retry-after-ms': /^\d+$/,
    });
    t.notOk('x-should-retry' in refused.headers, 'the client comes again by its own rules');
    t.match(refused.body.toString(), /llm\.limits\.max_body_memory_bytes/);

    const third = send(egress.baseUrl, '/chat/completions', picture(2 * MIB));
    await waitUntil('the third waits', () => egress.listener.egress?.waiting === 1);
    first.abort();
    t.equal((await third.answer).status, 200, 'the first has left');
    await nothingIsLeft(egress);
  },
);

t.test('a body without a length reserves its maximum before it is read', async (t) => {
  const open: (() => void)[] = [];
  const url = provider.script('chunked', ({ json, body }, response) => {
    const answer = (): void => sendJson(response, 200, chatAnswer(String(body.length)));
    if (json?.['hold'] === true) open.push(answer);
    else answer();
  });
  const egress = await startEgress({
    upstreams: [{ name: 'one', url }],
    limits: { max_body_memory_bytes: 4 * MIB, max_request_bytes: 2 * MIB, max_wait: '200s' },
  });
  t.teardown(() => egress.close());
  const held = send(egress.baseUrl, '/chat/completions', picture(1.9 * MIB, { hold: true }));
  await waitUntil('one is held', () => open.length === 1);
  const chunked = (bytes: number): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const request = httpRequest(`${egress.baseUrl}/chat/completions`, { method: 'POST', agent: false });
      request.on('error', reject);
      request.on('response', (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
      });
      request.flushHeaders();
      const body = picture(bytes);
      request.write(body.slice(0, 100_000));
      request.end(body.slice(100_000));
    });
  const waits = chunked(MIB);
  await waitUntil('it waits', () => egress.listener.egress?.waiting === 1);
  const small = await chunked(20_000);
  t.equal(small, 200);
  open[0]!();
  t.equal((await held.answer).status, 200);
  t.equal(await waits, 200);
  t.equal(await chunked(2.1 * MIB), 413);
  await nothingIsLeft(egress);
});

t.test('a client that sends Expect gets 100 when there is room', async (t) => {
  const open: (() => void)[] = [];
  const url = provider.script('expect', ({ json, headers }, response) => {
    t.notOk('expect' in headers);
    const answer = (): void => sendJson(response, 200, chatAnswer());
    if (json?.['hold'] === true) open.push(answer);
    else answer();
  });
  const egress = await startEgress({
    upstreams: [{ name: 'one', url }],
    limits: { max_body_memory_bytes: 4 * MIB, max_request_bytes: 4 * MIB, max_wait: '200s' },
  });
  t.teardown(() => egress.close());
  const { port, hostname } = new URL(egress.baseUrl);
  const ask = (bytes: number): { socket: Socket; seen: () => string } => {
    const socket = connect(Number(port), hostname);
    let text = '';
    socket.on('data', (part) => {
      text += part.toString();
    });
    socket.on('error', () => {});
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${bytes}\r\nexpect: 100-continue\r\n\r\n`,
    );
    t.teardown(() => socket.destroy());
    return { socket, seen: () => text };
  };
  const tooLarge = ask(5 * MIB);
  await waitUntil('it is refused before its body', () => tooLarge.seen().startsWith('HTTP/1.1 413'));
  const held = send(egress.baseUrl, '/chat/completions', picture(3 * MIB, { hold: true }));
  await waitUntil('one is held', () => open.length === 1);
  const body = picture(2 * MIB);
  const asks = ask(Buffer.byteLength(body));
  await waitUntil('it waits', () => egress.listener.egress?.waiting === 1);
  t.equal(asks.seen(), '');
  open[0]!();
  t.equal((await held.answer).status, 200);
  await waitUntil('it may send', () => asks.seen().startsWith('HTTP/1.1 100'));
  asks.socket.write(body);
  await waitUntil('it is answered', () => asks.seen().includes('HTTP/1.1 200'));
  await nothingIsLeft(egress);
});

t.test(
  'a waiting request ends with the sidecar or its client, or proceeds when memory is free',
  async (t) => {
    const open: (() => void)[] = [];
    const url = provider.script('ends', ({ json }, response) => {
      const answer = (): void => sendJson(response, 200, chatAnswer());
      if (json?.['hold'] === true) open.push(answer);
      else answer();
    });
    const settings = (bytes: number) => ({
      upstreams: [{ name: 'one', url }],
      limits: { max_body_memory_bytes: bytes, max_wait: '200s' },
    });
    const egress = await startEgress(settings(4 * MIB));
    t.teardown(() => egress.close());
    const ask = (more: object = {}) => send(egress.baseUrl, '/chat/completions', picture(3 * MIB, more));
    const held = ask({ hold: true });
    await waitUntil('one is held', () => open.length === 1);
    const grows = ask();
    await waitUntil('the next one waits', () => egress.listener.egress?.waiting === 1);
    egress.apply(settings(64 * MIB));
    t.equal((await grows.answer).status, 200, 'a reload has given it room');
    egress.apply(settings(4 * MIB));
    const leaves = ask();
    const stays = ask();
    await waitUntil('two wait', () => egress.listener.egress?.waiting === 2);
    leaves.abort();
    open[0]!();
    t.equal((await held.answer).status, 200);
    t.equal((await stays.answer).status, 200, 'one that has left holds nobody up');
    const again = ask({ hold: true });
    await waitUntil('one is held again', () => open.length === 2);
    const ends = ask();
    await waitUntil('one waits', () => egress.listener.egress?.waiting === 1);
    egress.listener.drain();
    egress.listener.endRequests();
    const drained = await ends.answer;
    t.equal(drained.status, 503);
    t.equal(drained.headers['outrigger-reason'], 'draining');
    t.equal((await again.answer).status, 503);
    await nothingIsLeft(egress);
  },
);

t.test('the body of a request is freed when its answer begins', async (t) => {
  const open: (() => void)[] = [];
  const url = provider.script('begun', (_request, response) => {
    beginStream(response);
    response.write(chatChunk('one'));
    open.push(() => response.end(DONE));
  });
  const egress = await startEgress({
    upstreams: [{ name: 'one', url }],
    limits: { max_body_memory_bytes: 4 * MIB },
  });
  t.teardown(() => egress.close());
  const body = picture(3 * MIB, { stream: true });
  const sent = Array.from({ length: 5 }, () => send(egress.baseUrl, '/chat/completions', body));
  for (const one of sent) await one.until('one');
  t.equal(egress.listener.egress?.bodyBytes, 0);
  for (const end of open) end();
  for (const { answer } of sent) t.notOk((await answer).broken);
  await nothingIsLeft(egress);
});

t.test('an encoded body passes unchanged, or is decoded if a policy must read it', async (t) => {
  const url = provider.script('encoded', answerWhole);
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  const reads = await startEgress({ upstreams: [{ name: 'one', url, model: 'other' }] });
  t.teardown(() => {
    egress.close();
    reads.close();
  });
  const plain = picture(200_000);
  const ask = (to: TestEgress, body: Buffer, encoding: string, more = {}): Promise<Answer> =>
    send(to.baseUrl, '/chat/completions', body, { 'content-encoding': encoding, ...more }).answer;
  for (const [encoding, encoded] of [
    ['gzip', gzipSync(plain)],
    ['zstd', zstdCompressSync(plain)],
  ] as const) {
    t.equal((await ask(egress, encoded, encoding)).status, 200);
    const asItIs = provider.requests('encoded').at(-1)!;
    t.ok(asItIs.body.equals(encoded));
    t.equal(asItIs.headers['content-encoding'], encoding);
    t.equal((await ask(reads, encoded, encoding)).status, 200);
    const decoded = provider.requests('encoded').at(-1)!;
    t.equal(decoded.json?.['model'], 'other');
    t.notOk('content-encoding' in decoded.headers);
  }
  t.equal((await ask(reads, Buffer.from('no gzip'), 'gzip')).status, 400);
  t.equal((await ask(reads, gzipSync(plain).subarray(0, 100), 'gzip')).status, 400, 'or half of it');
  const bomb = await startEgress({
    upstreams: [{ name: 'one', url, model: 'other' }],
    limits: { max_request_bytes: 100_000 },
  });
  t.teardown(() => bomb.close());
  t.equal((await ask(bomb, gzipSync(plain), 'gzip')).status, 413, 'it is bounded by what it becomes');
  t.equal((await ask(reads, Buffer.from(plain), 'x-own')).status, 200, 'as it is');
  const budget = { 'outrigger-token-budget': '100000' };
  t.equal((await ask(egress, Buffer.from(plain), 'x-own', budget)).status, 400, 'a budget must be held');
  for (const one of [egress, reads, bomb]) await nothingIsLeft(one);
});
