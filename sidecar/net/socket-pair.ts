/**
 * Makes two connected sockets of this process. Nobody else can connect: the listener between them lives for this one
 * connection, and takes only the socket that has our client's port.
 */
import { type AddressInfo, createServer, type OnReadOpts, Socket } from 'node:net';

const HOST = '127.0.0.1';
/** Strangers that connect before our own client does wait for nothing. */
const MAX_STRANGERS = 16;

export interface SocketPairOptions {
  /** How the client reads, as in `net.connect`; by `data` events with buffers of their own when undefined. */
  readonly onread?: OnReadOpts | undefined;
  /** Receives the server's end, once both ends are connected. */
  readonly onServer: (server: Socket) => void;
}

/**
 * Returns the client's end at once; it connects in a moment, and takes what is written before that, as every socket does.
 * When no pair can be made (no free port, no loopback interface), its `error` event says why.
 */
export function socketPair({ onread, onServer }: SocketPairOptions): Socket {
  const client = new PairedSocket(onread);
  const listener = createServer({ noDelay: true });
  const strangers: Socket[] = [];
  let accepted: Socket | undefined;
  const accept = (server: Socket): void => {
    if (client.localPort === undefined && strangers.length < MAX_STRANGERS) {
      // Our client's own event may come later: until then nobody knows whose socket this is.
      strangers.push(server);
    } else if (accepted === undefined && server.remotePort === client.localPort) {
      accepted = server;
      listener.close();
      server.removeAllListeners('error');
      onServer(server);
    } else server.destroy();
  };
  listener.on('connection', (server) => {
    // Until its owner listens, the end of a stranger's connection must not end the process.
    server.on('error', () => {});
    accept(server);
  });
  listener.on('error', (error) => client.destroy(error));
  client.once('connect', () => {
    client.setNoDelay(true);
    for (const server of strangers.splice(0)) accept(server);
  });
  client.once('close', () => {
    listener.close();
    for (const server of strangers) server.destroy();
  });
  listener.listen({ port: 0, host: HOST, backlog: MAX_STRANGERS, exclusive: true }, () => {
    if (client.destroyed) listener.close();
    else client.connect({ port: (listener.address() as AddressInfo).port, host: HOST });
  });
  return client;
}

/** A socket that will connect as soon as there is a port to connect to. */
class PairedSocket extends Socket {
  constructor(onread: OnReadOpts | undefined) {
    super(onread === undefined ? {} : { onread });
    // Node keeps what is written to a socket that connects, and fails what is written to one that has not begun to.
    Object.assign(this, { connecting: true });
  }
}
