// Frames of HTTP/2 towards the LLM egress: fields of nothing by references of one byte, answers
// that nobody reads, and requests that are reset as soon as they are sent. What the agent's usual clients do stays possible.
import { createServer } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  errorCode,
  flag,
  frame,
  frameType,
  headerBlock,
  preface,
  settings,
  uint32,
} from '../../scripts/harness/h2-peer.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startScene } from './scene.ts';

t.setTimeout(240_000);

const STREAMS = 1_000;
const PATH = '/v1/chat/completions';
const ANSWER = JSON.stringify({
  object: 'chat.completion',
  choices: [{ index: 0, message: { role: 'assistant', content: 'hello' }, finish_reason: 'stop' }],
});
const BODY = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hello' }] });

/** The folder of another checkout to attack. */
const checkout = process.env['ATTACKED_CHECKOUT'];

async function startProvider(t: Test): Promise<string> {
  const server = createServer((incoming, response) => {
    incoming.resume().on('end', () => {
      response.writeHead(200, { 'content-type': 'application/json' }).end(ANSWER);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

const head = (id: number, flags: number, ...fields: Buffer[]): Buffer =>
  frame(frameType.headers, flag.endHeaders | flags, id, Buffer.concat(fields));
const request = (method: string, path: string): Buffer =>
  headerBlock([
    [':method', method],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'localhost'],
    ['content-type', 'application/json'],
  ]);
/** A field without a value that later blocks refer to by a byte (RFC 7541, section 6.2.1). */
const indexed = Buffer.from([0x40, 1, 0x62, 0]);
const references = Buffer.alloc(110, 0x80 | 62);

/** Each begins at once; whoever is closed meanwhile stays closed. */
async function connections(t: Test, port: number, count: number, attack: (socket: Socket) => void) {
  const sockets: Socket[] = [];
  for (let index = 0; index < count; index++) {
    const socket = connect({ port, host: '127.0.0.1' });
    t.teardown(() => socket.destroy());
    socket.on('error', () => {});
    socket.write(Buffer.concat([preface, settings(), frame(frameType.windowUpdate, 0, 0, uint32(2 ** 30))]));
    sockets.push(socket);
    attack(socket);
  }
  await sleep(3_000);
  for (const socket of sockets) socket.destroy();
}

const ids = Array.from({ length: STREAMS }, (_, index) => 2 * index + 1);

const attacks: Record<string, { count: number; attack: (socket: Socket) => void }> = {
  'fields of nothing': {
    count: 20,
    attack: (socket) => {
      socket.resume();
      for (const id of ids) socket.write(head(id, 0, request('POST', PATH), id === 1 ? indexed : references));
    },
  },
  'answers that nobody reads': {
    count: 50,
    attack: (socket) => {
      socket.pause();
      for (const id of ids) socket.write(head(id, flag.endStream, request('GET', `/v2/${'x'.repeat(100)}`)));
    },
  },
  'bodies behind answers': {
    count: 50,
    attack: (socket) => {
      socket.resume();
      for (const id of ids)
        socket.write(head(id, 0, request('POST', '/v2/x'), id === 1 ? indexed : references));
    },
  },
  'requests that are reset at once': {
    count: 20,
    attack: (socket) => {
      socket.resume();
      let id = -1;
      const more = (): void => {
        if (socket.destroyed) return;
        const frames: Buffer[] = [];
        for (let index = 0; index < 200; index++) {
          id += 2;
          frames.push(
            head(id, flag.endStream, request('POST', PATH)),
            frame(frameType.rstStream, 0, id, uint32(errorCode.cancel)),
          );
        }
        if (socket.write(Buffer.concat(frames))) setTimeout(more, 1);
        else socket.once('drain', more);
      };
      more();
    },
  },
};

for (const [name, { count, attack }] of Object.entries(attacks))
  t.test(name, { skip: skipWithout('python') }, async (t) => {
    const config = { llm: { upstreams: [{ name: 'model', url: await startProvider(t) }] } };
    const scene = await startScene(t, { config, checkout });
    const { llmPort, adminPort } = scene.sidecar;
    const { bystander } = await scene.during(() => connections(t, llmPort, count, attack));
    scene.holds(t, bystander);
    await waitUntil('no request is left', async () => {
      const stats = (await (await fetch(`http://127.0.0.1:${adminPort}/stats`)).json()) as {
        llm: { active_requests: number };
      };
      return stats.llm.active_requests === 0;
    });
    const session = client(t, llmPort);
    t.strictSame(await ask(session), { status: 200, text: ANSWER }, 'another connection is served');
  });

function client(t: Test, port: number): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`, { maxSessionMemory: 1_000 });
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  return session;
}

interface Answer {
  status: unknown;
  text: string;
}

function ask(session: ClientHttp2Session, path = PATH, body = BODY): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/json' });
    let [status, text]: [unknown, string] = [0, ''];
    stream.setEncoding('utf8');
    stream.on('response', (fields) => {
      status = fields[':status'];
    });
    stream.on('data', (part: string) => {
      text += part;
    });
    stream.on('end', () => resolve({ status, text }));
    stream.on('error', reject);
    stream.end(body);
  });
}

t.test('ordinary HTTP/2 clients work as before', async (t) => {
  const config = { llm: { upstreams: [{ name: 'model', url: await startProvider(t) }] } };
  const { sidecar } = await startScene(t, { config, app: false, checkout });
  const session = client(t, sidecar.llmPort);
  let goneAway = false;
  session.on('goaway', () => {
    goneAway = true;
  });
  await ask(session);
  const answers = await Promise.all(Array.from({ length: 600 }, () => ask(session)));
  const right = answers.filter(({ status, text }) => status === 200 && text === ANSWER).length;
  t.equal(right, 600, '600 requests at a time on one connection');
  const large = 'x'.repeat(5_000_000);
  const wrong = await Promise.all(Array.from({ length: 4 }, () => ask(session, '/v9/none', large)));
  t.strictSame(
    wrong.map(({ status }) => status),
    [404, 404, 404, 404],
    'large bodies of refused requests are read to their end',
  );
  // As a client does whose tasks are cancelled.
  const streams = Array.from({ length: 200 }, () =>
    session.request({ ':method': 'POST', ':path': PATH, 'content-type': 'application/json' }),
  );
  for (const stream of streams) {
    stream.on('error', () => {}).write('{"model":');
    stream.resume();
  }
  await ask(session);
  for (const stream of streams) stream.close(errorCode.cancel);
  t.strictSame(await ask(session), { status: 200, text: ANSWER }, 'after 200 were cancelled at once');
  t.equal(goneAway, false, 'nothing of it ends the connection');
});

t.test(
  'a request that the client resets before its answer is cancelled at the provider, for every method',
  async (t) => {
    let asked = 0;
    let left = 0;
    const provider = createServer((incoming) => {
      asked++;
      incoming.resume().socket.once('close', () => left++);
    });
    await new Promise<void>((resolve) => provider.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      provider.close();
      provider.closeAllConnections();
    });
    const url = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/v1`;
    const { sidecar } = await startScene(t, {
      config: { llm: { upstreams: [{ name: 'model', url }] } },
      app: false,
      checkout,
    });
    const session = client(t, sidecar.llmPort);
    const methods = ['HEAD', 'GET', 'POST', 'DELETE'];
    const streams = methods.map((method) => session.request({ ':method': method, ':path': '/v1/models' }));
    for (const stream of streams) stream.on('error', () => {}).end();
    await waitUntil('the provider was asked', () => asked === methods.length);
    for (const stream of streams) stream.close(errorCode.cancel);
    await waitUntil('the provider gets no further requests', () => left === methods.length);
    await waitUntil('no request is active', async () => {
      const page = await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`);
      const { llm } = (await page.json()) as { llm: { active_requests: number } };
      return llm.active_requests === 0;
    });
    t.equal(left, methods.length);
  },
);
