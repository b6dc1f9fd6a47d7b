/** Removes stale Unix sockets. */
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';

/**
 * Removes the socket file of a killed process, so that its successor can bind. A socket with a listening process stays,
 * and so does a file that is no socket.
 *
 * @param listen an address; ignored unless it is `unix:/path`
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
    // Only a refused connection proves that no process listens.
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}
