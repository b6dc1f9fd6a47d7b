// One hostile conversation with an HTTP listener, over plain text or TLS.
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { resetSocket } from '../../../scripts/harness/net.ts';
import type { Dice } from './dice.ts';
import { anyRequest, type HttpTarget } from './http-requests.ts';
import { type Lingering, openSocket } from './sockets.ts';

const MAX_WAITING_BYTES = 8_000_000;
const MAX_WAIT_MS = 600;
const HANDSHAKE_LIMIT_MS = 2_000;

/** Sends some requests over one connection. Ends within about a second. */
export async function talkToHttpListener(
  dice: Dice,
  port: number,
  target: HttpTarget,
  lingering: Lingering,
  { tls = false }: { tls?: boolean } = {},
): Promise<void> {
  const plain = await openSocket(dice, port);
  if (plain === undefined) return;
  // One in ten says no TLS to a listener that wants it.
  const socket = tls && dice.chance(0.9) ? await secured(plain) : plain;
  if (socket === undefined) return;
  if (dice.chance(0.9)) socket.resume();
  const requests = 1 + dice.size(4);
  for (let index = 0; index < requests; index++) {
    const parts = anyRequest(dice, target, dice.seed());
    for (const part of parts) {
      const bytes = dice.chance(0.02) ? dice.damage(part) : part;
      const pauseMs = dice.chance(0.1) ? dice.int(0, 20) : 0;
      if (socket.destroyed || socket.writableLength > MAX_WAITING_BYTES) break;
      socket.write(bytes);
      if (pauseMs > 0) await sleep(pauseMs);
    }
  }
  await leave(socket, dice, lingering);
}

function secured(plain: Socket): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    // Its certificate is its own, and nothing of it is at stake here.
    const socket = connectTls({ socket: plain, rejectUnauthorized: false });
    const timer = setTimeout(() => socket.destroy(), HANDSHAKE_LIMIT_MS);
    socket.on('error', () => {});
    socket.once('secureConnect', () => resolve(socket));
    socket.once('close', () => {
      clearTimeout(timer);
      resolve(undefined);
    });
    socket.once('secureConnect', () => clearTimeout(timer));
  });
}

async function leave(socket: Socket, dice: Dice, lingering: Lingering): Promise<void> {
  const way = dice.weighted([
    [6, 'destroy'],
    [3, 'end'],
    [1, 'reset'],
    [1, 'linger'],
  ] as const);
  const waitMs = dice.chance(0.8) ? dice.int(5, MAX_WAIT_MS) : 0;
  const lingerMs = dice.int(1_000, 15_000);
  if (way === 'linger') {
    lingering.add(socket, lingerMs);
    return;
  }
  if (way === 'end') socket.end();
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  if (!socket.destroyed) await Promise.race([closed, sleep(waitMs)]);
  // What TLS wraps can not be reset.
  if (way === 'reset' && !('encrypted' in socket)) resetSocket(socket);
  else socket.destroy();
}
