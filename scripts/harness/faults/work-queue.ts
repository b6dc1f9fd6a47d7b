// A queue for work with limited concurrency, which gives a replica its capacity.

export class WorkQueue {
  private working = 0;
  private readonly waiting: (() => void)[] = [];

  /** Resolves when the work is done, or its caller has disconnected. */
  async work(forMs: number, workers: number, signal: AbortSignal): Promise<void> {
    if (workers > 0 && this.working >= workers) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
      // The place was handed over. An attentive agent does not begin work whose caller has left.
      if (signal.aborted) return this.release();
    } else this.working++;
    if (forMs > 0) await new Promise((resolve) => setTimeout(resolve, forMs));
    this.release();
  }

  private release(): void {
    const next = this.waiting.shift();
    if (next === undefined) this.working--;
    else next();
  }
}
