// A provider answers the handshakes of WebSockets with interim answers without an end: as many as fit into a read, or with
// heads as large as they may be.
import { once as onceOf } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startScene } from './scene.ts';

t.setTimeout(120_000);

/** Of one caller, most that may be open: 256, and three quarters of them. */
const HANDSHAKES = 190;

const ATTACKS: Readonly<Record<string, string>> = {
  'many without a field': 'HTTP/1.1 103 A\r\n\r\n'.repeat(3_000),
  'large ones': `HTTP/1.1 102 Processing\r\nx-large: ${'v'.repeat(60_000)}\r\n\r\n`.repeat(4),
};

/** @param once what it sends once; else it sends it again and again */
async function startProvider(t: Test, block: string, once = false): Promise<string> {
  const sockets = new Set<Socket>();
  const bytes = Buffer.from(block, 'latin1');
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    const send = (): void => {
      if (once) socket.end(bytes);
      else while (!socket.destroyed && socket.write(bytes));
    };
    if (!once) socket.on('drain', send);
    socket.once('data', send);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

const HANDSHAKE =
  'GET /v1/realtime?model=m HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

for (const [name, block] of Object.entries(ATTACKS)) {
  t.test(
    `interim answers without an end are bounded: ${name}`,
    { skip: skipWithout('python') },
    async (t) => {
      const url = await startProvider(t, block);
      const scene = await startScene(t, {
        config: { llm: { upstreams: [{ name: 'odd', url }] } },
        checkout: process.env['ATTACKED_CHECKOUT'],
      });
      const { result, bystander } = await scene.during(async () => {
        const answers: string[] = [];
        const sockets = Array.from({ length: HANDSHAKES }, () => {
          const socket = connect({ port: scene.sidecar.llmPort, host: '127.0.0.1' });
          t.teardown(() => socket.destroy());
          let text = '';
          socket.on('error', () => {});
          socket.on('data', (bytes: Buffer) => {
            text += bytes.toString('latin1');
          });
          socket.on('close', () => answers.push(text.slice(9, 12)));
          socket.write(HANDSHAKE);
          return socket;
        });
        await waitUntil('each is notified', () => answers.length === sockets.length);
        return answers;
      });
      // 502, and 503 once the circuit is open.
      const wrong = result.filter((status) => status !== '502' && status !== '503');
      t.strictSame(wrong, [], 'they get this state');
      scene.holds(t, bystander);
      t.comment(`peak ${scene.peakBytes() / 1e6} MB`);
    },
  );
}

t.test('bytes after a handshake answer in the same read pass completely', async (t) => {
  const frames = Array.from({ length: 40_000 }, (_, at) => String.fromCharCode(at % 256)).join('');
  for (const interim of [0, 1, 100]) {
    const answer = `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-fill: ${'f'.repeat(interim)}\r\n\r\n`;
    const sent = 'HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n'.repeat(interim) + answer + frames;
    const url = await startProvider(t, sent, true);
    const scene = await startScene(t, { app: false, config: { llm: { upstreams: [{ name: 'odd', url }] } } });
    const socket = connect({ port: scene.sidecar.llmPort, host: '127.0.0.1' });
    let got = '';
    socket.on('data', (bytes: Buffer) => {
      got += bytes.toString('latin1');
    });
    socket.write(HANDSHAKE);
    await onceOf(socket, 'close');
    t.match(got, /^HTTP\/1\.1 101 /);
    t.ok(got.slice(got.indexOf('\r\n\r\n') + 4) === frames, `behind ${interim} interim answers`);
  }
});
