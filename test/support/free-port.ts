// Ports for processes that can't choose one themselves.
import { createServer } from 'node:net';

// Below the range that the kernel hands to outgoing connections (32768 and up on Linux, 49152 elsewhere),
// so that none of those takes a port between the look and the use. Test processes start in blocks of
// their own, by process id.
const first = 20_000;
const blocks = 600;
const blockSize = 20;
let next = (process.pid % blocks) * blockSize;

/** A TCP port on 127.0.0.1 that nothing listens on. Never the same twice in a process. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < blocks * blockSize; tries += 1) {
    const port = first + next;
    next = (next + 1) % (blocks * blockSize);
    if (await canListen(port)) return port;
  }
  throw new Error(`no free port between ${first} and ${first + blocks * blockSize}`);
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
