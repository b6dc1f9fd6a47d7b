// A peer that accepts connections and sends nothing.
import { createServer, type Socket } from 'node:net';
import { waitUntil } from '../wait-until.ts';
import type { Owner } from './proxy.ts';

/** Listens at `host:port` until the caller calls the returned function, or the owner ends. */
export async function openBlackHole(owner: Owner, address: string): Promise<() => Promise<void>> {
  const [host, port] = address.split(':') as [string, string];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    // Never read: sent data fills the buffers.
    socket.pause();
  });
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
  owner.teardown(close);
  await waitUntil(
    `the black hole had ${address}`,
    () =>
      new Promise<boolean>((resolve) => {
        server.once('error', () => resolve(false));
        server.listen(Number(port), host, () => resolve(true));
      }),
  );
  return close;
}
