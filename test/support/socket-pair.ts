// Two ends of one real TCP connection.
import { connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

export async function socketPair(t: Pick<Test, 'teardown'>): Promise<[Socket, Socket]> {
  const server = createServer({ noDelay: true });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('the server has no port');
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const near = connect({ port: bound.port, host: '127.0.0.1', noDelay: true });
  await new Promise<void>((resolve) => near.once('connect', resolve));
  const far = await accepted;
  server.close();
  for (const socket of [near, far]) {
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
  }
  return [near, far];
}
