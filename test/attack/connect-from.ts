// Callers that have addresses of their own, on one machine: all of 127.0.0.0/8 is loopback.
import { connect, type Socket } from 'node:net';
import type { Test } from 'tap';
import { H2Peer, preface, settings } from '../../scripts/harness/h2-peer.ts';

/** A connected socket to a port of this machine. Rejects when it is not let in. */
export async function connectFrom(
  t: Pick<Test, 'teardown'>,
  localAddress: string,
  port: number,
): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, localAddress });
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('close', () => reject(new Error(`${localAddress} was not let in`)));
  });
  return socket;
}

/** A well-behaved HTTP/2 client that has sent its preface and SETTINGS. */
export async function peerFrom(
  t: Pick<Test, 'teardown'>,
  localAddress: string,
  port: number,
): Promise<H2Peer> {
  const peer = new H2Peer(await connectFrom(t, localAddress, port), 'client').behave();
  await peer.send(preface, settings());
  return peer;
}
