// The fuzzer's own connections: from addresses of their own, so that they share no place with the bystander, and counted.
import { connect, type Socket } from 'node:net';
import { H2Peer } from '../../../scripts/harness/h2-peer.ts';
import type { Dice } from './dice.ts';

/** Connections that stay open at a time without a word. */
const MAX_LINGERING = 40;
const CONNECT_LIMIT_MS = 3_000;

/**
 * Connects from one of eight loopback addresses; undefined when the other end does not take the connection in time, which
 * the driver's own checks judge.
 */
export function openSocket(dice: Dice, port: number): Promise<Socket | undefined> {
  // Only Linux has all of 127.0.0.0/8.
  const from = process.platform === 'linux' ? { localAddress: `127.0.0.${dice.int(2, 9)}` } : {};
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, ...from });
  socket.on('error', () => {});
  return new Promise((resolve) => {
    const give = (connected: Socket | undefined): void => {
      clearTimeout(timer);
      resolve(connected);
    };
    const timer = setTimeout(() => socket.destroy(), CONNECT_LIMIT_MS);
    socket.once('connect', () => give(socket));
    socket.once('close', () => give(undefined));
  });
}

export async function openPeer(dice: Dice, port: number): Promise<H2Peer | undefined> {
  const socket = await openSocket(dice, port);
  return socket === undefined ? undefined : new H2Peer(socket, 'client');
}

/** Connections that are left open for a while, a bounded number of them. */
export class Lingering {
  private readonly sockets = new Map<Socket, NodeJS.Timeout>();

  add(socket: Socket, forMs: number): void {
    const timer = setTimeout(() => this.end(socket), forMs);
    this.sockets.set(socket, timer);
    socket.once('close', () => this.end(socket));
    for (const oldest of this.sockets.keys()) {
      if (this.sockets.size <= MAX_LINGERING) break;
      this.end(oldest);
    }
  }

  private end(socket: Socket): void {
    clearTimeout(this.sockets.get(socket));
    this.sockets.delete(socket);
    socket.destroy();
  }

  close(): void {
    for (const socket of [...this.sockets.keys()]) this.end(socket);
  }
}
