// The egress with peers that behave badly, or oddly: nobody hangs, and memory stays bounded.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { answerWhole, beginStream, chatChunk, DONE, WHOLE } from '../scripts/harness/llm/provider.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

t.test(
  'an agent that stops reading stops its own stream, and neither memory nor others suffer',
  async (t) => {
    const total = 64 * 1_048_576;
    let written = 0;
    const piece = chatChunk('x'.repeat(16_384));
    const url = provider.script('flood', async (request, response) => {
      if (request.json?.['stream'] !== true) return answerWhole(request, response);
      beginStream(response);
      while (written < total && !response.destroyed) {
        written += piece.length;
        response.write(piece);
        // What waits here has left nobody's memory but the provider's.
        while (response.writableLength > 1_048_576 && !response.destroyed) await sleep(20);
      }
      response.end(chatChunk(undefined, 'stop') + DONE);
    });
    const egress = await startEgress({ upstreams: [{ name: 'one', url }], idle_timeout: '1s' });
    t.teardown(() => egress.close());
    const body = chat({ stream: true });
    const { hostname, port } = new URL(egress.baseUrl);
    const reader = connect(Number(port), hostname);
    t.teardown(() => reader.destroy());
    reader.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    reader.pause();
    let before = -1;
    await waitUntil('the stream stands', async () => {
      const now = written;
      await sleep(500);
      const stands = now > 0 && now === before;
      before = now;
      return stands;
    });
    t.ok(written < total / 2, `${written} of ${total} bytes were taken`);
    await sleep(1_500);
    t.equal(
      (await send(egress.baseUrl, '/chat/completions', chat()).answer).status,
      200,
      'others are served',
    );
    let received = 0;
    let tail = '';
    reader.on('data', (part: Buffer) => {
      received += part.length;
      tail = (tail + part.toString('latin1')).slice(-64);
    });
    reader.resume();
    await waitUntil('it comes to its end', () => tail.includes('[DONE]'));
    t.ok(received >= total, 'silence that the agent itself causes is no fault of the provider');
  },
);

t.test(
  'the egress handles odd answers: early, empty, without a length, with an unexpected body',
  async (t) => {
    const url = provider.script('odd', (request, response) => {
      const { path } = request;
      if (path.endsWith('/files')) response.writeHead(204).end();
      else if (path.endsWith('/none')) response.writeHead(304).end();
      else if (path.endsWith('/text')) response.writeHead(200, { 'content-type': 'text/plain' }).end('plain');
      else if (path.endsWith('/moved'))
        response.writeHead(307, { location: 'http://127.0.0.1:1/' }).end('moved');
      else if (path.endsWith('/models'))
        response.writeHead(200, { 'content-type': 'application/json' }).end('');
      else {
        response.writeProcessing();
        response.writeHead(200, { 'content-type': 'application/json', connection: 'close' });
        response.end(JSON.stringify({ choices: [{ message: { content: WHOLE } }] }));
      }
    });
    const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
    t.teardown(() => egress.close());
    const ask = async (path: string, body: string | undefined = chat()) => {
      const answer = await send(egress.baseUrl, path, body).answer;
      return [answer.status, answer.body.toString().slice(0, 5), answer.headers['outrigger-reason']];
    };
    t.strictSame(await ask('/files'), [204, '', undefined]);
    t.strictSame(await ask('/none'), [304, '', undefined]);
    t.strictSame(await ask('/text'), [200, 'plain', undefined]);
    t.strictSame(await ask('/moved'), [307, 'moved', undefined], 'a redirect is not followed with the key');
    t.strictSame(await ask('/models'), [200, '', undefined], 'what is not understood passes as it is');
    t.equal((await ask('/chat/completions'))[0], 200);
    t.equal(
      (await ask('/chat/completions', 'no json'))[0],
      200,
      "what is not understood is the provider's to judge",
    );
  },
);

t.test('requests above the limit are refused at once, and a place becomes free again', async (t) => {
  let go = false;
  const url = provider.script('many', async (request, response) => {
    await waitUntil('it may answer', () => go);
    await answerWhole(request, response);
  });
  const egress = await startEgress({
    upstreams: [{ name: 'one', url }],
    limits: { max_concurrent_requests: 5 },
  });
  t.teardown(() => egress.close());
  const asked = Array.from({ length: 20 }, () => send(egress.baseUrl, '/chat/completions', chat()).answer);
  const refused: number[] = [];
  for (const answer of asked) void answer.then(({ status }) => (status === 503 ? refused.push(status) : 0));
  await waitUntil('the rest is refused', () => refused.length === 15);
  go = true;
  const statuses = (await Promise.all(asked)).map(({ status }) => status);
  t.equal(statuses.filter((status) => status === 200).length, 5);
  t.equal((await send(egress.baseUrl, '/chat/completions', chat()).answer).status, 200);
  await waitUntil('nothing is left', () => egress.listener.activeRequests === 0);
});

t.test('invalid bytes, half a request, and a silent connection do no harm', async (t) => {
  const url = provider.script('bytes-in', answerWhole);
  const egress = await startEgress({ upstreams: [{ name: 'one', url }] });
  t.teardown(() => egress.close());
  const { hostname, port } = new URL(egress.baseUrl);
  const ends: Promise<unknown>[] = [];
  for (const text of [
    '\x16\x03\x01\x02\x00',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense'.padEnd(200, 'x'),
    'GET\r\n\r\n',
    'PR',
    'x'.repeat(100_000),
  ]) {
    const socket = connect(Number(port), hostname, () => socket.write(text));
    socket.on('error', () => {});
    ends.push(new Promise((resolve) => socket.on('close', resolve)));
    if (text === 'PR') setTimeout(() => socket.destroy(), 100);
    socket.resume();
  }
  connect(Number(port), hostname)
    .on('error', () => {})
    .unref();
  const half = connect(Number(port), hostname, () =>
    half.write('POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"mod'),
  );
  half.on('error', () => {});
  await Promise.all(ends);
  half.destroy();
  t.equal((await send(egress.baseUrl, '/chat/completions', chat()).answer).status, 200);
  await waitUntil('nothing is left', () => egress.listener.activeRequests === 0);
  t.equal(provider.requests('bytes-in').length, 1);
});
