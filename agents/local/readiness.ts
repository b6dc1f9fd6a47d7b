/** Checks whether a process of the local system is ready. */
import { connect } from 'node:net';

const limitMs = 2000;

/** Whether a URL answers with a 2xx. */
export async function answersOk(url: string): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(limitMs) });
  await answer.body?.cancel();
  return answer.ok;
}

/** Whether a port of 127.0.0.1 accepts connections. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(limitMs, () => socket.destroy());
    socket.once('connect', () => {
      resolve(true);
      socket.destroy();
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}
