// Heads of a provider's answers, each as large as they may be, of answers that are held: until their first event, until they are
// whole, or until it is decided what becomes of an error. There are as many as run at a time. What is held of them is bounded
// together, and a head that has been passed on is not kept.
import { randomBytes } from 'node:crypto';
import { type ClientRequest, request } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startScene } from './scene.ts';

t.setTimeout(240_000);

const REQUESTS = 1_000;
/** Less than the 64 KiB that are read, with what comes beside. */
const FIELDS_BYTES = 64_000;
/** How long all of them are held, or passed on and not ended. */
const ATTACK_MS = 4_000;

const large = `x-large: ${'v'.repeat(FIELDS_BYTES)}\r\n`;
const fieldOf = (at: number): string => `x-${String(at).padStart(4, '0')}: v\r\n`;
const many = Array.from({ length: Math.floor(FIELDS_BYTES / fieldOf(0).length) }, (_, at) =>
  fieldOf(at),
).join('');

const head = (status: string, type: string, fields: string): string =>
  `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n${fields}\r\n`;
const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;

interface Attack {
  readonly stream: boolean;
  readonly bytes: string;
}

const EVENT = chunk('data: {"id":"x","choices":[{"index":0,"delta":{"content":"a');
const ATTACKS: Readonly<Record<string, Attack>> = {
  'one large field before an event without an end': {
    stream: true,
    bytes: head('200 OK', 'text/event-stream', large) + EVENT,
  },
  'many small fields before an event without an end': {
    stream: true,
    bytes: head('200 OK', 'text/event-stream', many) + EVENT,
  },
  'many small fields before a plain answer without an end': {
    stream: false,
    bytes: head('200 OK', 'application/json', many) + chunk('{"id":"x"'),
  },
  'many small fields before an error without an end': {
    stream: false,
    bytes:
      head('400 Bad Request', 'application/json', many) + chunk(`{"error":{"message":"${'m'.repeat(60_000)}`),
  },
};

interface Provider {
  readonly url: string;
  readonly answered: () => number;
}

async function startProvider(t: Test, bytes: Buffer): Promise<Provider> {
  const sockets = new Set<Socket>();
  let answered = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.resume();
      socket.write(bytes, () => answered++);
    });
  });
  await new Promise<void>((resolve) =>
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, resolve),
  );
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    answered: () => answered,
  };
}

/** Asks, takes the head of the answer, and waits. */
function ask(port: number, stream: boolean): ClientRequest {
  const body = JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'hello' }] });
  const traceparent = `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`;
  const asked = request(
    {
      port,
      host: '127.0.0.1',
      method: 'POST',
      path: '/v1/chat/completions',
      agent: false,
      maxHeaderSize: 131_072,
      headers: { 'content-type': 'application/json', 'content-length': body.length, traceparent },
    },
    (response) => response.on('error', () => {}).resume(),
  );
  asked.on('error', () => {});
  asked.end(body);
  return asked;
}

for (const [name, { stream, bytes }] of Object.entries(ATTACKS)) {
  t.test(
    `memory is bounded under ${REQUESTS} answers of ${name}`,
    { skip: skipWithout('python') },
    async (t) => {
      const provider = await startProvider(t, Buffer.from(bytes));
      const scene = await startScene(t, {
        config: { llm: { upstreams: [{ name: 'odd', url: provider.url }] } },
        // As the image starts it: 1,000 connections are what most of the memory is for here.
        env: { NODE_OPTIONS: '--max-semi-space-size=4', MALLOC_ARENA_MAX: '1' },
        checkout: process.env['ATTACKED_CHECKOUT'],
      });
      const { bystander } = await scene.during(async () => {
        const asked = Array.from({ length: REQUESTS }, () => ask(scene.sidecar.llmPort, stream));
        await waitUntil('all answers have begun', () => provider.answered() >= REQUESTS);
        await new Promise((resolve) => setTimeout(resolve, ATTACK_MS));
        t.comment(`peak ${scene.peakBytes() / 1e6} MB, now ${scene.residentBytes() / 1e6} MB`);
        for (const one of asked) one.destroy();
      });
      scene.holds(t, bystander);
    },
  );
}
