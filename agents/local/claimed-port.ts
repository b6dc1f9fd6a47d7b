import { createServer, type ListenOptions, type Server } from 'node:net';

/**
 * Takes a loopback port for this process, to be listened on by a process that it starts: false when something listens
 * there or another process has taken it.
 *
 * A look alone would not do: of two processes that look at the same moment both find the port free. So the port is
 * held by a name in Linux's abstract socket namespace, which the kernel gives back when this process ends. Where there
 * are no such names, the look has to do.
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

/** A server that listens there, or why there is none. */
export function listening(options: ListenOptions): Promise<Server | Error> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen(options, () => resolve(server));
  });
}
