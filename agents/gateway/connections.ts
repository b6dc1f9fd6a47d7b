import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { AheadBound } from '../../sidecar/node/sent-ahead.ts';

/** More than a gateway's clients have at a time; each costs some kilobytes. */
const maxConnections = 1024;

/** Requests of one connection that may wait for their answers. No client sends that many ahead: one that does is cut off. */
export const sentAhead: AheadBound = { maxRequests: 16, above: 'end' };

interface Connection {
  readonly socket: Socket;
  readonly address: string;
  /** The latest request and its answer. */
  request: IncomingMessage | undefined;
  response: ServerResponse | undefined;
}

/**
 * Bounds a server's connections. One that works on a request keeps its place. When all are taken a newcomer gets the place
 * of the oldest that waits for its client, of the address that has most, and is turned away only where there is none. The
 * pages of a sidecar answer in milliseconds and turn nobody away; a task takes minutes, and no newcomer may end it.
 */
export function boundConnections(server: Server, max = maxConnections): void {
  /** The oldest first. */
  const open = new Map<Socket, Connection>();
  server.on('connection', (socket: Socket) => {
    if (open.size >= max) (oldestWaiting(open.values())?.socket ?? socket).destroy();
    if (socket.destroyed) return;
    open.set(socket, {
      socket,
      address: socket.remoteAddress ?? '',
      request: undefined,
      response: undefined,
    });
    socket.once('close', () => open.delete(socket));
  });
  server.on('request', (request, response) => {
    const connection = open.get(request.socket);
    if (connection === undefined) return;
    connection.request = request;
    connection.response = response;
  });
}

function oldestWaiting(open: Iterable<Connection>): Connection | undefined {
  const held = new Map<string, number>();
  const oldest = new Map<string, Connection>();
  for (const connection of open) {
    const { address, socket } = connection;
    if (socket.destroyed) continue;
    held.set(address, (held.get(address) ?? 0) + 1);
    if (!works(connection) && !oldest.has(address)) oldest.set(address, connection);
  }
  let found: Connection | undefined;
  for (const connection of oldest.values())
    if (found === undefined || held.get(connection.address)! > held.get(found.address)!) found = connection;
  return found;
}

/** Its request has come whole, and the answer is not out yet. */
function works({ request, response }: Connection): boolean {
  return request?.complete === true && response?.closed === false && !response.writableFinished;
}
