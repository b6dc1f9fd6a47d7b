// Work that takes time and can be done only so much at a time: what gives a replica a capacity.

export class WorkQueue {
  #working = 0;
  readonly #waiting: (() => void)[] = [];

  /** Resolves when the work is done, or its caller has gone. */
  async work(forMs: number, workers: number, signal: AbortSignal): Promise<void> {
    if (workers > 0 && this.#working >= workers) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      // The place has been handed over. An agent that notices does not begin what nobody waits for.
      if (signal.aborted) return this.#release();
    } else this.#working++;
    if (forMs > 0) await new Promise((resolve) => setTimeout(resolve, forMs));
    this.#release();
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#working--;
    else next();
  }
}
