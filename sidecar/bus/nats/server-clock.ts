/** The clock of the NATS server, estimated from the time that it gives in answers. */

export class ServerClock {
  /** Added to the monotonic clock, it is the server's time. */
  private offsetMs = Date.now() - performance.now();
  private errorMs = Number.POSITIVE_INFINITY;

  nowMs(): number {
    return performance.now() + this.offsetMs;
  }

  /** The next samples count although they may be less exact: the server is another one, or its clock was set. */
  restart(): void {
    this.errorMs = Number.POSITIVE_INFINITY;
  }

  /** @param serverMs the server's time at a moment between the two, which are of the monotonic clock */
  sample(serverMs: number, sentMs: number, receivedMs: number): void {
    const errorMs = (receivedMs - sentMs) / 2;
    if (!Number.isFinite(serverMs) || errorMs > this.errorMs) return;
    this.errorMs = errorMs;
    this.offsetMs = serverMs - (sentMs + receivedMs) / 2;
  }
}
