// A wire that breaks where the test says: forwards TCP, and cuts a connection at a byte.
import { connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

/** Where the next connection is cut: behind so many bytes of either direction. */
export interface Cut {
  readonly from: 'client' | 'server';
  readonly atByte: number;
  /** The server does not notice: its connection stays open and silent, as when a host loses its power. */
  readonly serverStays?: boolean;
  /** Nobody notices: both connections stay open and silent. */
  readonly bothStay?: boolean;
}

export interface Cutter {
  readonly port: number;
  readonly address: string;
  /** For the next connection; the ones behind it are whole. */
  next: Cut | undefined;
  /** Cuts the open connections, behind so many of the bytes that come from now on. */
  arm(cut: Cut): void;
  /** Where connections from now on lead; undefined: they are closed at once; 'silent': nobody says a word. */
  target: number | 'silent' | undefined;
  /** Connections from now on are refused, until {@link accept}. */
  refuse(): void;
  accept(): Promise<void>;
  /** When the last connection was cut, by `performance.now()`. */
  cutAtMs: number;
  /** Bytes that the last connection has carried. */
  readonly carried: { client: number; server: number };
  /** From the client's bytes that contain this text on, nothing more of the client's reaches the server. */
  muteBehind: string | undefined;
  /** Connections that were muted so. */
  muted: number;
  /** Connections that were cut. */
  cuts: number;
  readonly open: number;
  /** Drops what is open now. */
  drop(): void;
}

export async function startCutter(t: Pick<Test, 'teardown'>, targetPort: number): Promise<Cutter> {
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  const arms = new Set<(cut: Cut) => void>();
  const carried = { client: 0, server: 0 };
  const server = createServer({ noDelay: true }, (client) => {
    if (cutter.target === undefined) {
      client.destroy();
      return;
    }
    if (cutter.target === 'silent') {
      sockets.add(client);
      client.on('error', () => {});
      client.on('close', () => sockets.delete(client));
      return;
    }
    const target = connect({ port: cutter.target, host: '127.0.0.1', noDelay: true });
    let { next } = cutter;
    let counted = { client: 0, server: 0 };
    const silent = { now: false };
    let tail = '';
    let isMute = false;
    const sendMuting = (bytes: Buffer, text: string): void => {
      if (isMute) return;
      target.write(bytes);
      // The text may come in two pieces.
      tail = (tail + bytes.toString('latin1')).slice(-bytes.length - text.length);
      isMute = tail.includes(text);
      if (isMute) cutter.muted++;
    };
    cutter.next = undefined;
    carried.client = 0;
    carried.server = 0;
    const arm = (armed: Cut): void => {
      next = armed;
      counted = { client: 0, server: 0 };
    };
    arms.add(arm);
    const cut = (): void => {
      cutter.cuts++;
      cutter.cutAtMs = performance.now();
      silent.now = true;
      if (next!.bothStay === true) return;
      client.destroy();
      if (next!.serverStays !== true) target.destroy();
    };
    clients.add(client);
    for (const socket of [client, target]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        arms.delete(arm);
        clients.delete(socket);
        if (!silent.now) for (const other of [client, target]) other.destroy();
      });
    }
    for (const [from, source, sink] of [
      ['client', client, target],
      ['server', target, client],
    ] as const) {
      source.on('data', (bytes: Buffer) => {
        if (silent.now) return;
        const left = next?.from === from ? next.atByte - counted[from] : Number.POSITIVE_INFINITY;
        carried[from] += bytes.length;
        counted[from] += bytes.length;
        if (from === 'client' && cutter.muteBehind !== undefined) sendMuting(bytes, cutter.muteBehind);
        else if (bytes.length < left) sink.write(bytes);
        // Behind the write: what came before the cut does arrive.
        else sink.write(bytes.subarray(0, left), cut);
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) server.close();
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('the cutter has no port');
  const cutter: Cutter = {
    port: bound.port,
    address: `127.0.0.1:${bound.port}`,
    next: undefined,
    arm: (cut) => {
      for (const arm of arms) arm(cut);
    },
    target: targetPort,
    refuse: () => void server.close(),
    accept: () => new Promise((resolve) => server.listen(bound.port, '127.0.0.1', resolve)),
    cutAtMs: 0,
    muteBehind: undefined,
    muted: 0,
    carried,
    cuts: 0,
    get open() {
      return clients.size;
    },
    drop() {
      for (const socket of sockets) socket.destroy();
    },
  };
  return cutter;
}
