/** Sends a last HTTP/1 response on a connection that has to close. */
import type { Socket } from 'node:net';

/** The longest time to send the response. */
const LIMIT_MS = 1_000;

/**
 * Sends a last response and closes the connection, whatever its client does. Ending only our half would keep it open, with
 * all that the request holds, until the client closes its half; a client that never does is often the reason for this.
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
