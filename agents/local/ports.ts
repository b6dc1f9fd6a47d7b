/** Chooses loopback ports for the local system. */
import { claimPort, listening } from './claimed-port.ts';

/**
 * Free ports come from below the range of outgoing connections (32768 and up on Linux), so that none of those takes one
 * between the check and the use. Each starter begins in its own slice, by process id, so that two starters rarely try
 * the same port.
 */
const lowest = 20_000;
const sliceSize = 200;
const slices = 60;

/** A name in Linux's abstract socket namespace, held by the one local system that has the usual ports. */
const usualPortsLock = '\0outrigger-local-system';

/** Allocates loopback ports, each once. */
export class Ports {
  private readonly given = new Set<number>();
  private readonly mayTakeUsual: boolean;
  private next: number;
  /** Notices about ports that were not free. */
  readonly notices: string[] = [];

  private constructor(mayTakeUsual: boolean, processId: number) {
    this.mayTakeUsual = mayTakeUsual;
    this.next = (processId % slices) * sliceSize;
  }

  /** Checks whether another local system of this machine has the usual ports, or is about to take them. */
  static async open(processId: number = process.pid): Promise<Ports> {
    const lock = await listening({ path: usualPortsLock });
    // Held until the process ends; it must not keep the process alive. On systems without such names no process holds
    // it.
    if (lock instanceof Error)
      return new Ports((lock as NodeJS.ErrnoException).code !== 'EADDRINUSE', processId);
    lock.unref();
    return new Ports(true, processId);
  }

  /** @throws Error if there is none */
  async any(): Promise<number> {
    for (let count = 0; count < slices * sliceSize; count += 1) {
      const port = lowest + this.next;
      this.next = (this.next + 1) % (slices * sliceSize);
      if (await this.take(port)) return port;
    }
    throw new Error(`no port from ${lowest} to ${lowest + slices * sliceSize - 1} is free`);
  }

  /**
   * The wanted port, or another one and a notice.
   *
   * @param isUsual whether every local system wants this port, and not only this user
   */
  async preferably(wanted: number, what: string, isUsual: boolean): Promise<number> {
    const mayTake = this.mayTakeUsual || !isUsual;
    if (mayTake && (await this.take(wanted))) return wanted;
    const port = await this.any();
    const why = mayTake ? 'is taken' : 'belongs to another local system on this machine';
    this.notices.push(`Port ${wanted} ${why}: ${what} uses port ${port} instead.`);
    return port;
  }

  private async take(port: number): Promise<boolean> {
    if (this.given.has(port)) return false;
    if (!(await claimPort(port))) return false;
    this.given.add(port);
    return true;
  }
}
