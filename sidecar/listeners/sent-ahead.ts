import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Responses to requests that were sent ahead (pipelining, RFC 9112 §9.3.2), which wait for their turn on a connection. When
 * it ends, Node closes only the one whose turn it is; the others would never hear of it, and count as running for ever.
 */
export class SentAhead {
  private readonly waiting = new WeakMap<Socket, Set<ServerResponse>>();

  /** Does nothing where it is the response's turn already. */
  add(socket: Socket, response: ServerResponse): void {
    if (response.socket !== null) return;
    let responses = this.waiting.get(socket);
    if (responses === undefined) {
      const all = new Set<ServerResponse>();
      responses = all;
      this.waiting.set(socket, all);
      socket.once('close', () => closeUnsent(all));
    }
    responses.add(response);
    response.once('close', () => responses.delete(response));
  }
}

function closeUnsent(responses: ReadonlySet<ServerResponse>): void {
  for (const response of [...responses]) {
    if (response.socket !== null) continue;
    response.destroy();
    response.emit('close');
  }
}
