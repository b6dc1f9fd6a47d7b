/** Claims a loopback port for a child process. */
import { createServer, type ListenOptions, type Server } from 'node:net';

/**
 * Claims a loopback port for this process, for a child process to listen on: false when a process listens there or
 * another process has claimed it.
 *
 * A check alone does not suffice: two processes that check at the same moment both find the port free. So a name in
 * Linux's abstract socket namespace holds the claim, and the kernel releases it when this process ends. On other
 * systems the check has to suffice.
 *
 * @param host the address that has to be free
 */
export async function claimPort(port: number, host = '127.0.0.1'): Promise<boolean> {
  const claim = await listening({ path: `\0outrigger-port-${port}` });
  if (claim instanceof Error && (claim as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
  const server = await listening({ port, host, exclusive: true });
  if (server instanceof Error) {
    if (!(claim instanceof Error)) claim.close();
    return false;
  }
  await new Promise((resolve) => server.close(resolve));
  if (!(claim instanceof Error)) claim.unref();
  return true;
}

/** A server that listens there, or the error. */
export function listening(options: ListenOptions): Promise<Server | Error> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen(options, () => resolve(server));
  });
}
