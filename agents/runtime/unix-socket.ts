import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';

/**
 * Removes the socket file a process left behind when it was killed, so that its successor can bind. A socket
 * somebody still accepts on stays, and so does a file that is no socket.
 *
 * @param listen an address; anything but `unix:/path` is left alone
 */
export async function removeStaleSocket(listen: string): Promise<void> {
  if (!listen.startsWith('unix:')) return;
  const path = listen.slice('unix:'.length);
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSocket() && !(await isAccepting(path))) await unlink(path);
}

function isAccepting(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Only a refusal proves that nobody listens.
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}
