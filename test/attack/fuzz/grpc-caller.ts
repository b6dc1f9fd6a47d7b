// One hostile conversation with a gRPC listener: HTTP/2 frames that are mostly right, in an order that is often wrong.
import { setTimeout as sleep } from 'node:timers/promises';
import type { H2Peer } from '../../../scripts/harness/h2-peer.ts';
import { resetSocket } from '../../../scripts/harness/net.ts';
import type { Dice } from './dice.ts';
import { firstBytes, nextStep, Talk } from './grpc-steps.ts';
import { type Lingering, openPeer } from './sockets.ts';

/** One conversation sends no more than this. */
const MAX_SENT_BYTES = 3_000_000;
/** What may wait in this process for a listener that does not read. */
const MAX_WAITING_BYTES = 1_000_000;
const MAX_WAIT_MS = 400;

/**
 * Connects to a gRPC listener and says what the dice decide. Ends within about a second.
 *
 * @param path of every request; any when undefined
 * @param lingering takes connections that are left open without a word
 */
export async function talkToGrpcListener(
  dice: Dice,
  port: number,
  lingering: Lingering,
  path?: string,
): Promise<void> {
  const peer = await openPeer(dice, port);
  if (peer === undefined) return;
  if (dice.chance(0.85)) peer.behave({ reads: dice.chance(0.9) });
  if (dice.chance(0.05)) peer.socket.pause();
  const talk = new Talk(dice, path);
  let sent = await say(peer, dice, firstBytes(talk));
  for (let steps = 1 + dice.size(60); steps > 0 && sent < MAX_SENT_BYTES; steps--) {
    const bytes = nextStep(talk);
    if (peer.closed || peer.socket.writableLength > MAX_WAITING_BYTES) break;
    sent += await say(peer, dice, bytes);
  }
  await leave(peer, dice, lingering);
}

/** Sends in one piece, or in several with time between them. @returns the bytes */
async function say(peer: H2Peer, dice: Dice, bytes: Buffer): Promise<number> {
  if (dice.chance(0.9) || bytes.length < 2) void peer.send(bytes);
  else {
    const at = dice.int(1, bytes.length - 1);
    void peer.send(bytes.subarray(0, at));
    await sleep(dice.int(0, 5));
    void peer.send(bytes.subarray(at));
  }
  if (dice.chance(0.1)) await sleep(dice.int(0, 10));
  return bytes.length;
}

async function leave(peer: H2Peer, dice: Dice, lingering: Lingering): Promise<void> {
  const way = dice.weighted([
    [6, 'destroy'],
    [2, 'reset'],
    [2, 'end'],
    [1, 'linger'],
  ] as const);
  const waitMs = dice.chance(0.8) ? dice.int(5, MAX_WAIT_MS) : 0;
  const lingerMs = dice.int(1_000, 15_000);
  if (way === 'linger') {
    lingering.add(peer.socket, lingerMs);
    return;
  }
  if (way === 'end') peer.socket.end();
  await peer.until('', () => peer.closed, waitMs).catch(() => {});
  if (way === 'reset') resetSocket(peer.socket);
  else peer.socket.destroy();
}
