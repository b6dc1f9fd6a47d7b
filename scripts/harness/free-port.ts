// Allocates ports for processes that can't choose one themselves.
import { claimPort } from '../../agents/local/claimed-port.ts';

// Below the range of outgoing connections (32768 and up on Linux, 49152 elsewhere), so that none of those takes a port
// between the check and the use. Test processes begin in their own blocks, by process id, so that they rarely try the
// same port.
const first = 20_000;
const blocks = 600;
const blockSize = 20;
let next = (process.pid % blocks) * blockSize;

/**
 * A free TCP port on 127.0.0.1, for a process that will listen there, or for an address at which nobody does: no other test or
 * local system gets it while this process runs, and no outgoing connection.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < blocks * blockSize; tries += 1) {
    const port = first + next;
    next = (next + 1) % (blocks * blockSize);
    if (await claimPort(port, '0.0.0.0')) return port;
  }
  throw new Error(`no free port between ${first} and ${first + blocks * blockSize}`);
}
