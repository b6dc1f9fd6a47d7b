// An agent sends requests ahead of their answers on one connection, which then ends: it leaves, or sends what Node closes
// connections for. Those behind the first have no turn to be closed at: they must not count as running for ever, or after
// 1,024 of them no request is served any more.
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import t, { type Test } from 'tap';
import { resetSocket } from '../../scripts/harness/net.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startScene } from './scene.ts';
import { sendAhead } from './send-ahead.ts';

t.setTimeout(120_000);

const CONNECTIONS = 60;
const AHEAD = 25;
const ANSWER = JSON.stringify({
  object: 'chat.completion',
  choices: [{ index: 0, message: { role: 'assistant', content: 'hello' }, finish_reason: 'stop' }],
});

/** Answers all but those that ask for silence. */
async function startProvider(t: Test): Promise<{ url: string; answered: () => number }> {
  let answered = 0;
  const server = createServer((incoming, response) => {
    incoming.resume();
    if (incoming.headers['x-silent'] !== undefined) return;
    answered++;
    response.writeHead(200, { 'content-type': 'application/json' }).end(ANSWER);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    answered: () => answered,
  };
}

const body = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hello' }] });
const request = (more = ''): string =>
  `POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n${more}Content-Length: ${body.length}\r\n\r\n${body}`;

t.test(
  'memory is bounded under abandoned connections with pipelined requests',
  { skip: skipWithout('python') },
  async (t) => {
    const provider = await startProvider(t);
    const config = { llm: { upstreams: [{ name: 'model', url: provider.url }] } };
    const scene = await startScene(t, { config });
    const { llmPort, adminPort } = scene.sidecar;
    const active = async (): Promise<number> => {
      const stats = (await (await fetch(`http://127.0.0.1:${adminPort}/stats`)).json()) as {
        llm: { active_requests: number };
      };
      return stats.llm.active_requests;
    };
    const { bystander } = await scene.during(async () => {
      for (let index = 0; index < CONNECTIONS; index++) {
        const socket = connect({ port: llmPort, host: '127.0.0.1' });
        t.teardown(() => socket.destroy());
        socket.on('error', () => {}).resume();
        const closed = new Promise((resolve) => socket.once('close', resolve));
        const ahead = request('X-Silent: 1\r\n') + request().repeat(AHEAD);
        if (index % 4 === 0) {
          const before = provider.answered();
          socket.write(ahead);
          await waitUntil('one that was sent ahead is answered', () => provider.answered() > before);
          resetSocket(socket);
        } else socket.write(`${ahead}CONNECT model:443 HTTP/1.1\r\nHost: model\r\n\r\n`);
        await closed;
      }
      await waitUntil('no request runs any more', async () => (await active()) === 0, { limitMs: 20_000 });
    });
    const response = await fetch(`http://127.0.0.1:${llmPort}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    t.equal(response.status, 200, 'another request is served');
    t.equal(await response.text(), ANSWER);
    scene.holds(t, bystander);
  },
);

t.test(
  'memory is bounded under requests without an end, and bodies in one-byte chunks',
  { skip: skipWithout('python') },
  async (t) => {
    const provider = await startProvider(t);
    const config = { llm: { upstreams: [{ name: 'model', url: provider.url }] } };
    const scene = await startScene(t, { config, checkout: process.env['ATTACKED_CHECKOUT'] });
    const { llmPort, healthPort } = scene.sidecar;
    const chunked =
      'POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n';
    const attacks = [
      { what: 'wrong paths', bytes: 'GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1_000) },
      { what: 'tasks', bytes: request().repeat(100) },
      { what: 'chunks', first: `${chunked}1\r\n{\r\n`, bytes: '1\r\n \r\n'.repeat(10_000) },
    ];
    const { bystander } = await scene.during(async () => {
      for (const { what, first = '', bytes } of attacks) {
        const sent = { first, bytes: Buffer.from(bytes), reopenMs: 200 };
        const ahead = sendAhead(t, { port: llmPort, connections: 20, reads: false, ...sent });
        await waitUntil('all have connected', () => ahead.opened >= 20);
        for (let probes = 0; probes < 20; probes++) {
          const { status } = await fetch(`http://127.0.0.1:${healthPort}/healthz/live`);
          if (status !== 200) t.fail(`live answers ${status} under ${what}`);
        }
        await ahead.stop();
        t.comment(`${what}: ${scene.peakBytes() / 1e6} MB`);
      }
    });
    scene.holds(t, bystander);
  },
);
