// HTTP/2 to providers behind servers that nobody here wrote: few streams a connection, connections that end after some
// requests, restarts, and a kill. Whatever happens, no request that the provider has worked on reaches it a second time.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { chatAnswer, chatChunk, DONE } from '../scripts/harness/llm/provider.ts';
import { skipWithout, tool } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { FRONTS, type RunningFront } from './llm/http2-fronts.ts';

const authority = await TestAuthority.make();
const files = new SecretVolume(t, { ...(await authority.issue({ names: ['127.0.0.1'] })), ca: authority.ca });

interface Backend {
  readonly port: number;
  /** By its id, how often the provider has had the whole of a request. */
  readonly had: Map<string, number>;
  /** Those that it works on. */
  readonly working: Set<string>;
}

/** A provider that takes a while for an answer. */
async function startBackend(t: Test): Promise<Backend> {
  const had = new Map<string, number>();
  const working = new Set<string>();
  const server = createServer(async (request, response) => {
    response.on('error', () => {});
    const parts: Buffer[] = [];
    try {
      for await (const part of request) parts.push(part as Buffer);
    } catch {
      return;
    }
    const id = String(request.headers['x-id']);
    had.set(id, (had.get(id) ?? 0) + 1);
    working.add(id);
    response.on('close', () => working.delete(id));
    const { stream } = JSON.parse(Buffer.concat(parts).toString()) as { stream?: boolean };
    if (stream) response.writeHead(200, { 'content-type': 'text/event-stream' }).write(chatChunk('one'));
    await sleep(200);
    if (stream) response.end(chatChunk(' two', 'stop') + DONE);
    else response.setHeader('content-type', 'application/json').end(JSON.stringify(chatAnswer('one two')));
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, had, working };
}

interface Outcome {
  readonly id: string;
  readonly isWhole: boolean;
  /** In words, where it is not whole. */
  readonly said: string;
}

async function ask(root: string, id: string, stream: boolean): Promise<Outcome> {
  try {
    const answer = await fetch(`${root}/chat/completions`, {
      method: 'POST',
      headers: { 'x-id': id, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'x'.repeat(20_000) }] }),
    });
    const text = await answer.text();
    const isWhole =
      answer.status === 200 && (stream ? /two.*\[DONE\]/s.test(text) : text.includes('one two'));
    return { id, isWhole, said: `${answer.status} ${text.slice(-300)}` };
  } catch (error) {
    return { id, isWhole: false, said: String(error) };
  }
}

/** So many requests, so many at a time; half of them streams. */
async function askMany(root: string, name: string, count: number, atATime: number): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) {
      const at = next++;
      outcomes.push(await ask(root, `${name} ${at}`, at % 2 === 0));
    }
  };
  await Promise.all(Array.from({ length: atATime }, work));
  return outcomes;
}

/** Until the provider has some of these requests, or has answered them all. */
async function untilWorking({ working }: Backend, asked: Promise<unknown>): Promise<void> {
  let isOver = false;
  void asked.then(() => {
    isOver = true;
  });
  await waitUntil('the provider works', () => working.size > 4 || isOver);
}

t.jobs = FRONTS.length;
for (const front of FRONTS) {
  // Envoy comes with what the benches install.
  if (front.needs === 'envoy' && tool('envoy') === undefined) continue;
  const options = { skip: skipWithout(front.needs), buffered: true };
  t.test(`behind ${front.name} no request is worked on twice`, options, async (t) => {
    const backend = await startBackend(t);
    const port = await freePort();
    const settings = { port, backendPort: backend.port, ...files, streams: 2, requests: 5 };
    let running: RunningFront = front.start(t, { ...settings, cert: files.cert, key: files.key });
    const egress = await startEgress({
      upstreams: [{ name: 'p', kind: 'openai', url: `https://127.0.0.1:${port}/v1`, ca: files.ca }],
      retry: { max_attempts: 3, backoff: { base: '20ms', max: '200ms' } },
      circuit_breaker: { failure_percent: 0 },
    });
    t.teardown(() => egress.close());
    const root = egress.baseUrl;
    const serves = (name: string) =>
      waitUntil(`${front.name} serves`, async () => {
        const { isWhole, said } = await ask(root, `${name} ${backend.had.size}`, false);
        if (!isWhole) throw new Error(`${said} ${running.process.logs().slice(-1_000)}`);
        return true;
      });
    const twice = () => [...backend.had].filter(([, times]) => times > 1);
    const failed = (outcomes: readonly Outcome[]) => outcomes.filter(({ isWhole }) => !isWhole);
    await serves('start');
    t.strictSame(failed(await askMany(root, 'steady', 60, 12)), [], 'connections that end lose no request');
    t.strictSame(twice(), [], 'nor send one twice');

    const during = askMany(root, 'restart', 80, 12);
    await untilWorking(backend, during);
    running.restart();
    t.strictSame(failed(await during), [], 'a restart loses no request');
    t.strictSame(twice(), [], 'nor sends one twice');

    await serves('restarted');
    const killed = askMany(root, 'kill', 40, 12);
    await untilWorking(backend, killed);
    running.process.kill('SIGKILL');
    await running.process.ended;
    running = front.start(t, { ...settings, cert: files.cert, key: files.key });
    const lost = failed(await killed);
    for (const { said } of lost) t.match(said, /^50[0-9] |terminated|"error"/, 'its caller is told');
    t.strictSame(twice(), [], 'what was lost is not sent again');
    await serves('begun anew');
  });
}
