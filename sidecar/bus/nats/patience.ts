/** Does again what an outage of the bus has kept from being done: at once when the bus is back, and until its time is over. */
import { LogUnavailableError } from '../log/log-errors.ts';

/** `away`: no server. `preparing`: its streams are being checked. */
export type LinkState = 'away' | 'preparing' | 'ready' | 'closed';

const WAIT_MS = { least: 50, doublings: 5 };

export class Patience {
  private readonly state: () => LinkState;
  private readonly waiting = new Set<() => void>();

  constructor(state: () => LinkState) {
    this.state = state;
  }

  async persist<T>(untilMs: number, attempt: () => Promise<T>): Promise<T> {
    let isOutcomeUnknown = false;
    for (let tries = 0; ; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof LogUnavailableError)) throw error;
        isOutcomeUnknown ||= error.isOutcomeUnknown;
        if (performance.now() >= untilMs || this.state() === 'closed')
          throw new LogUnavailableError(error.message, isOutcomeUnknown, error);
        const waitMs = WAIT_MS.least * 2 ** Math.min(tries, WAIT_MS.doublings);
        await this.wait(Math.min(untilMs - performance.now(), waitMs));
      }
    }
  }

  /** The bus is back, or closed for good. */
  wake(): void {
    for (const resolve of [...this.waiting]) resolve();
  }

  private async wait(limitMs: number): Promise<void> {
    const wasReady = this.state() === 'ready';
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(1, limitMs));
      if (!wasReady) this.waiting.add(done);
    });
  }
}
