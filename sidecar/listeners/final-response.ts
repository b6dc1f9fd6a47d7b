import type { Socket } from 'node:net';

/** For what was said to get out, at the most. */
const LIMIT_MS = 1_000;

/**
 * Says why, and ends the connection, whatever its client does. Only to end our own half would leave it open until the
 * client closes it, with all that the request holds: and one that never does is often why it is ended.
 */
export function sendFinalResponse(socket: Socket, response: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const timer = setTimeout(() => socket.destroy(), LIMIT_MS).unref();
  socket.once('close', () => clearTimeout(timer));
  socket.end(response, () => socket.destroy());
}
