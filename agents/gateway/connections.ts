/** Bounds the connections of the gateway's server. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { AheadBound } from '../../sidecar/node/sent-ahead.ts';

/** More than a gateway's clients open at a time; each costs some kilobytes. */
const maxConnections = 1024;

/**
 * The requests of one connection that may wait for their answers. No client pipelines this many; the server closes the
 * connection of one that does.
 */
export const sentAhead: AheadBound = { maxRequests: 16, above: 'end' };

interface Connection {
  readonly socket: Socket;
  readonly address: string;
  /** The latest request and its answer. */
  request: IncomingMessage | undefined;
  response: ServerResponse | undefined;
}

/**
 * Bounds a server's connections. A connection with a request in progress keeps its place. When all places are taken, a
 * new connection replaces the oldest idle one, of the address with the most connections; only if there is none, the
 * server refuses it. A sidecar's pages answer in milliseconds and refuse no connection; a task takes minutes, and a new
 * connection must not end it.
 */
export function boundConnections(server: Server, max = maxConnections): void {
  /** Oldest first. */
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

/** The whole request has arrived, and the answer is not sent yet. */
function works({ request, response }: Connection): boolean {
  return request?.complete === true && response?.closed === false && !response.writableFinished;
}
