// Checks of sockets, and their ends.
import { connect, type Socket } from 'node:net';

/** Whether this port of 127.0.0.1 accepts TCP connections. */
export function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/**
 * Ends a connection by a reset. Node refuses that while the socket's own end is on its way (EINVAL): the connection then stays open for
 * good, and the process can't end by itself (`CleanupHandles` waits for the socket without a pause). So this waits for that end.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  if (socket.writableEnded && !socket.writableFinished && socket.writableLength === 0)
    socket.once('finish', () => socket.resetAndDestroy());
  else socket.resetAndDestroy();
}
