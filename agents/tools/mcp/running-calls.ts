/** The calls by MCP that run, so that the runner's end waits for them, and ends them when it has waited for long enough. */

export interface Calls {
  /** `stopping` fires when the call has to end. @param id the request's */
  begin(id: string | number): { readonly stopping: AbortSignal; end(): void };
}

export class RunningCalls implements Calls {
  private readonly stopping = new AbortController();
  private running = 0;
  private idle = () => {};

  begin(_id: string | number = '') {
    this.running++;
    const end = () => {
      this.running--;
      if (this.running === 0) this.idle();
    };
    return { stopping: this.stopping.signal, end };
  }

  /** Resolves true if all had ended within the limit; the others are told to end, and get a moment for it. */
  async stop(limitMs: number, farewellMs: number): Promise<boolean> {
    const inTime = await this.within(limitMs);
    this.stopping.abort();
    if (!inTime) await this.within(farewellMs);
    return inTime;
  }

  private within(limitMs: number): Promise<boolean> {
    if (this.running === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), limitMs);
      this.idle = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }
}
