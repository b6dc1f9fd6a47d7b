// Answers of a provider that are held until they are whole: each is below its own bound, and there are hundreds of them. All
// come through, in whatever way they are sent, and what is held of them is bounded together.
import { randomBytes } from 'node:crypto';
import { createServer, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startScene } from './scene.ts';

t.setTimeout(180_000);

const REQUESTS = 300;
const ANSWER_BYTES = 900_000;
const BEFORE = '{"id":"x","object":"chat.completion","filler":"';
const BEHIND =
  '","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}';

/** The parts of an answer: what comes at once, and what comes when all requests have got as far. */
type Shape = (response: ServerResponse) => { readonly sent: Promise<void>; readonly rest: string };

const write = (response: ServerResponse, text: string): Promise<void> =>
  new Promise((resolve) => response.write(text, () => resolve()));

const filler = 'f'.repeat(ANSWER_BYTES - BEFORE.length - BEHIND.length);

const SHAPES: Readonly<Record<string, { readonly stream: boolean; readonly shape: Shape }>> = {
  'plain answers': {
    stream: false,
    shape: (response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      return { sent: write(response, BEFORE + filler), rest: BEHIND };
    },
  },
  'events that do not end': {
    stream: true,
    shape: (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const event = 'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n';
      return {
        sent: write(response, `${event}data: ${BEFORE}${filler}`),
        rest: `${BEHIND}\n\ndata: [DONE]\n\n`,
      };
    },
  },
};

async function startProvider(
  t: Test,
  shape: Shape,
): Promise<{ url: string; held: () => number; finish: () => void }> {
  const waiting: (() => void)[] = [];
  let finished = false;
  const server = createServer(async (incoming, response) => {
    incoming.resume();
    const { sent, rest } = shape(response);
    await sent;
    const end = (): void => void response.end(rest);
    if (finished) end();
    else waiting.push(end);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4_096, resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    held: () => waiting.length,
    finish: () => {
      finished = true;
      for (const end of waiting.splice(0)) end();
    },
  };
}

/** Of its own: a request without one would be taken for a part of the only call that is running, the bystander's. */
function trace(): string {
  return `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`;
}

/** @returns the status and the size of the answer, as one word */
function ask(port: number, stream: boolean): Promise<string> {
  const body = JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'hello' }] });
  return new Promise((resolve) => {
    const asked = request(
      {
        port,
        host: '127.0.0.1',
        method: 'POST',
        path: '/v1/chat/completions',
        agent: false,
        headers: { 'content-type': 'application/json', 'content-length': body.length, traceparent: trace() },
      },
      (response) => {
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
        });
        response.on('error', () => resolve(`${response.statusCode}, cut behind ${bytes} bytes`));
        response.on('end', () =>
          resolve(`${response.statusCode}, ${bytes >= ANSWER_BYTES ? 'whole' : `${bytes} bytes`}`),
        );
      },
    );
    asked.on('error', (error) => resolve(error.message));
    asked.end(body);
  });
}

for (const [name, { stream, shape }] of Object.entries(SHAPES)) {
  t.test(
    `memory is bounded under ${REQUESTS} simultaneous ${name}`,
    { skip: skipWithout('python') },
    async (t) => {
      const provider = await startProvider(t, shape);
      const scene = await startScene(t, {
        config: { llm: { upstreams: [{ name: 'large', url: provider.url }] } },
      });
      const { result, bystander } = await scene.during(async () => {
        const answers = Array.from({ length: REQUESTS }, () => ask(scene.sidecar.llmPort, stream));
        await waitUntil('all answers are on their way', () => provider.held() === REQUESTS);
        provider.finish();
        return Promise.all(answers);
      });
      const counts = new Map<string, number>();
      for (const answer of result) counts.set(answer, (counts.get(answer) ?? 0) + 1);
      t.strictSame([...counts], [['200, whole', REQUESTS]], 'each comes whole');
      scene.holds(t, bystander);
    },
  );
}
