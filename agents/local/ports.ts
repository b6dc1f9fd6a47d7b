import { createServer } from 'node:net';

/**
 * Free ports come from below the range the system gives to outgoing connections (32768 and up on Linux), so
 * that none of those takes one between the look and the use.
 */
const lowest = 20_000;
const highest = 32_000;
const tries = 200;

/** Gives out loopback ports, each once. */
export class Ports {
  readonly #given = new Set<number>();
  /** What has to be said about ports that were not free. */
  readonly notices: string[] = [];

  /** @throws Error if none of many tries is free */
  async any(): Promise<number> {
    for (let count = 0; count < tries; count += 1) {
      const port = lowest + Math.floor(Math.random() * (highest - lowest));
      if (await this.#take(port)) return port;
    }
    throw new Error(`none of ${tries} ports between ${lowest} and ${highest} is free`);
  }

  /** The wanted port, or another one and a notice. */
  async preferably(wanted: number, what: string): Promise<number> {
    if (await this.#take(wanted)) return wanted;
    const port = await this.any();
    this.notices.push(`Port ${wanted} is taken: ${what} is on port ${port} instead.`);
    return port;
  }

  async #take(port: number): Promise<boolean> {
    if (this.#given.has(port) || !(await isFree(port))) return false;
    this.#given.add(port);
    return true;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
