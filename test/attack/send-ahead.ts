// Connections that send requests for as long as anybody takes them, whatever becomes of the answers.
import { connect, type Socket } from 'node:net';
import type { Test } from 'tap';

export interface AheadOptions {
  readonly port: number;
  readonly connections: number;
  /** Whether the answers are read. */
  readonly reads: boolean;
  /** How soon one that was closed is opened again. */
  readonly reopenMs?: number;
  /** What each connection sends once. */
  readonly first?: string;
  /** What it sends again and again after that. */
  readonly bytes: Buffer;
}

export interface Ahead {
  /** Connections so far: each is opened again when it is closed. */
  readonly opened: number;
  /** Bytes of answers. */
  readonly readBytes: number;
  /** Ends all, and resolves once they are closed. */
  stop(): Promise<void>;
}

export function sendAhead(t: Pick<Test, 'teardown'>, options: AheadOptions): Ahead {
  const { port, connections, reads, first = '', bytes, reopenMs = 20 } = options;
  const open = new Set<Socket>();
  let stopped = false;
  let opened = 0;
  let readBytes = 0;
  const begin = (): void => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' });
    open.add(socket);
    const more = (): void => {
      // An end to what is written in one go.
      for (let times = 0; times < 8 && socket.writable; times++) if (!socket.write(bytes)) return;
    };
    socket.on('connect', () => {
      opened++;
      if (first !== '') socket.write(first);
      more();
    });
    socket.on('drain', more);
    socket.on('error', () => {});
    socket.on('close', () => {
      open.delete(socket);
      if (!stopped) setTimeout(() => !stopped && begin(), reopenMs);
    });
    if (reads) socket.on('data', (part: Buffer) => (readBytes += part.length));
    else socket.pause();
  };
  for (let index = 0; index < connections; index++) begin();
  const stop = async (): Promise<void> => {
    stopped = true;
    const closed = [...open].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    for (const socket of open) socket.destroy();
    await Promise.all(closed);
  };
  t.teardown(stop);
  return {
    get opened() {
      return opened;
    },
    get readBytes() {
      return readBytes;
    },
    stop,
  };
}
