// Pairs of sockets within the process.
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { socketPair } from './socket-pair.ts';

function makePair(t: Test): { client: Socket; server: Promise<Socket> } {
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const client = socketPair({ onServer: resolve });
  t.teardown(async () => {
    client.destroy();
    if (client.localPort !== undefined) (await promise).destroy();
  });
  return { client, server: promise };
}

const received = (socket: Socket): (() => string) => {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk;
  });
  return () => text;
};

t.test('what is written before the pair is connected arrives, and both directions work', async (t) => {
  const { client, server } = makePair(t);
  t.equal(client.connecting, true);
  client.write('first ');
  const heardBack = received(client);
  const other = await server;
  const heard = received(other);
  client.write('second');
  other.write('answer');
  await waitUntil('all has arrived', () => heard() === 'first second' && heardBack() === 'answer');
  t.equal(other.remotePort, client.localPort);
  client.end();
  await waitUntil('the end has arrived', () => other.readableEnded);
});

t.test('pairs made at the same time have nothing in common, and nobody else can connect', async (t) => {
  const pairs = Array.from({ length: 20 }, () => makePair(t));
  for (const [index, { client }] of pairs.entries()) client.write(`pair ${index}`);
  const heard = await Promise.all(pairs.map(async ({ server }) => received(await server)));
  await waitUntil('all have arrived', () => heard.every((text) => text() !== ''));
  t.strictSame(
    heard.map((text) => text()),
    pairs.map((_, index) => `pair ${index}`),
  );
  for (const { client } of pairs) {
    const refused = new Promise<string>((resolve) => {
      connect(client.remotePort!, '127.0.0.1').on('error', (error) =>
        resolve((error as NodeJS.ErrnoException).code!),
      );
    });
    t.equal(await refused, 'ECONNREFUSED');
  }
});

t.test('a stranger that connects first gets nothing', async (t) => {
  const { client, server } = makePair(t);
  // The pair's port is known only when its client begins to connect: the stranger races it in the same turn.
  const stranger = await new Promise<Socket>((resolve) => {
    const original = client.connect.bind(client);
    client.connect = ((options: { port: number }) => {
      const early = connect(options.port, '127.0.0.1', () => resolve(early)).on('error', () =>
        resolve(early),
      );
      return original(options);
    }) as typeof client.connect;
  });
  client.write('secret');
  const heard = received(await server);
  await waitUntil('the right end has it', () => heard() === 'secret');
  await waitUntil('the stranger is gone', () => stranger.destroyed || stranger.readableEnded);
  t.equal(stranger.bytesRead, 0);
});

t.test('a client that is destroyed before it connects leaves nothing behind', async (t) => {
  let given = 0;
  const client = socketPair({ onServer: () => given++ });
  client.destroy();
  await waitUntil('it is closed', () => client.closed);
  const { server } = makePair(t);
  await server;
  t.equal(given, 0);
});
