// A provider whose answers come in as many pieces as HTTP allows: chunks of one byte, an event in each chunk, interim answers
// without an end. The sidecar's memory stays bounded, callers, probes and other answers are served meanwhile.
import { randomBytes } from 'node:crypto';
import { type ClientRequest, get, request } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { startScene } from './scene.ts';

t.setTimeout(180_000);

const CONNECTIONS = 20;
const ATTACK_MS = 4_000;
const PROBE_EVERY_MS = 250;
/** The kubelet waits for a second by default, on a machine that is not as busy. */
const PROBE_TIMEOUT_MS = 3_000;

interface Attack {
  readonly stream: boolean;
  /** What comes first. */
  readonly head: string;
  /** What comes again and again. */
  readonly block: Buffer;
  /** It is no answer: callers are told so. */
  readonly isNone?: boolean;
}

const chunked = (type: string): string =>
  `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n\r\n`;

const EVENTS = chunked('text/event-stream');
const JSON_HEAD = chunked('application/json');
const ONE_BYTE = Buffer.from('1\r\nx\r\n'.repeat(5_000));

const ATTACKS: Readonly<Record<string, Attack>> = {
  'a stream in chunks of one byte': { stream: true, head: EVENTS, block: ONE_BYTE },
  'a plain answer in chunks of one byte': { stream: false, head: JSON_HEAD, block: ONE_BYTE },
  'a chunk for each of many small events': {
    stream: true,
    head: EVENTS,
    block: Buffer.from('B\r\ndata: {}\n\n\n\r\n'.repeat(4_000)),
  },
  'small events in large chunks': {
    stream: true,
    head: EVENTS,
    block: Buffer.from(`AFC8\r\n${'data: {"a":1}\n\n'.repeat(3_000)}\r\n`),
  },
  'interim answers without an end': {
    stream: true,
    head: '',
    block: Buffer.from('HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n'.repeat(2_000)),
    isNone: true,
  },
};

/** A well-behaved stream: events with a little time between them, cut anywhere. */
const GOOD_EVENTS = 100;
const GOOD_EVERY_MS = 20;
const goodEvents = Array.from(
  { length: GOOD_EVENTS },
  (_, at) => `data: {"id":"x","choices":[{"index":0,"delta":{"content":"${at} ${'w'.repeat(at)} é"}}]}\n\n`,
);
const GOOD_BODY = Buffer.from(`${goodEvents.join('')}data: [DONE]\n\n`);

function sendGood(socket: Socket): void {
  socket.write(EVENTS);
  let at = 0;
  const perPiece = Math.ceil(GOOD_BODY.length / GOOD_EVENTS);
  const timer = setInterval(() => {
    const piece = GOOD_BODY.subarray(at, at + perPiece);
    at += piece.length;
    // A few chunks at once, as providers send them that are in a hurry.
    for (const part of [piece.subarray(0, 7), piece.subarray(7, 9), piece.subarray(9)])
      if (part.length > 0)
        socket.write(Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, CRLF]));
    if (at < GOOD_BODY.length) return;
    clearInterval(timer);
    socket.write('0\r\n\r\n');
  }, GOOD_EVERY_MS);
  socket.on('close', () => clearInterval(timer));
}

const CRLF = Buffer.from('\r\n');

/** Sends the block for as long as it is read. */
function sendForEver(socket: Socket, { head, block }: Attack): void {
  socket.write(head);
  const send = (): void => {
    while (!socket.destroyed && socket.write(block));
  };
  socket.on('drain', send);
  send();
}

async function startProvider(t: Test, attack: Attack): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    let got = '';
    socket.on('data', (bytes) => {
      got += bytes.toString('latin1');
      const end = got.indexOf('\r\n\r\n');
      const model = end < 0 ? undefined : /"model":"(\w+)"/.exec(got.slice(end))?.[1];
      if (model === undefined) return;
      got = '';
      if (model === 'good') sendGood(socket);
      else sendForEver(socket, attack);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

interface Answer {
  status: number;
  bytes: number;
  readonly kept: Buffer[];
  readonly over: Promise<void>;
  readonly asked: ClientRequest;
}

/** @param reads false for a caller that takes the head and nothing more */
function ask(port: number, model: string, stream: boolean, reads = true): Answer {
  const body = JSON.stringify({ model, stream, messages: [{ role: 'user', content: 'hello' }] });
  const traceparent = `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`;
  const headers = { 'content-type': 'application/json', 'content-length': body.length, traceparent };
  const asked = request({
    port,
    host: '127.0.0.1',
    method: 'POST',
    path: '/v1/chat/completions',
    agent: false,
    headers,
  });
  const over = new Promise<void>((resolve) => {
    asked.on('error', () => resolve());
    asked.on('response', (response) => {
      answer.status = response.statusCode ?? 0;
      response.on('error', () => resolve());
      response.on('end', () => resolve());
      if (!reads) return;
      response.on('data', (chunk: Buffer) => {
        answer.bytes += chunk.length;
        if (model === 'good') answer.kept.push(chunk);
      });
    });
  });
  const answer: Answer = { status: 0, bytes: 0, kept: [], over, asked };
  asked.end(body);
  return answer;
}

function probe(port: number): Promise<string> {
  return new Promise((resolve) => {
    const asked = get(
      { port, host: '127.0.0.1', path: '/healthz/live', agent: false, timeout: PROBE_TIMEOUT_MS },
      (response) => {
        response.resume();
        resolve(`${response.statusCode}`);
      },
    );
    asked.on('timeout', () => asked.destroy(new Error('timeout')));
    asked.on('error', (error) => resolve(error.message));
  });
}

for (const [name, attack] of Object.entries(ATTACKS)) {
  t.test(name, { skip: skipWithout('python') }, async (t) => {
    const url = await startProvider(t, attack);
    const scene = await startScene(t, { config: { llm: { upstreams: [{ name: 'odd', url }] } } });
    const { llmPort, healthPort } = scene.sidecar;
    const answers: Answer[] = [];
    const { result, bystander } = await scene.during(async () => {
      // The well-behaved one first: the upstream rests when it fails.
      const good = ask(llmPort, 'good', true);
      for (let at = 0; at < CONNECTIONS; at++) answers.push(ask(llmPort, 'm', attack.stream, at % 4 !== 3));
      const endAtMs = performance.now() + ATTACK_MS;
      const probes: string[] = [];
      while (performance.now() < endAtMs) {
        probes.push(await probe(healthPort));
        await new Promise((resolve) => setTimeout(resolve, PROBE_EVERY_MS));
      }
      await good.over;
      return { good, probes };
    });
    for (const { asked } of answers) asked.destroy();
    const counts = new Map<string, number>();
    for (const said of result.probes) counts.set(said, (counts.get(said) ?? 0) + 1);
    t.strictSame([...counts.keys()], ['200'], `each of ${result.probes.length} probes is answered`);
    t.equal(result.good.status, 200);
    t.ok(GOOD_BODY.equals(Buffer.concat(result.good.kept)), 'the stream beside it is whole, byte for byte');
    // 502, and 503 once the circuit is open.
    if (attack.isNone)
      t.ok(
        answers.every(({ status }) => status >= 500),
        'the watcher is notified at once',
      );
    scene.holds(t, bystander);
  });
}
