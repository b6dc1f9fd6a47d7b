/** Bounds how many runs there are at once; the others wait in turn, and no longer than their callers do. */
import { AgentError } from '../../runtime/errors.ts';

export class Places {
  private free: number;
  private readonly mostWaiting: number;
  private readonly waiting = new Set<() => void>();

  constructor(most: number, mostWaiting: number) {
    this.free = most;
    this.mostWaiting = mostWaiting;
  }

  /** Resolves with what gives the place back. @throws AgentError RESOURCE_EXHAUSTED; the signal's reason */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.free > 0) this.free--;
    else await this.turn(signal);
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      const [next] = this.waiting;
      if (next === undefined) this.free++;
      else next();
    };
  }

  private turn(signal: AbortSignal): Promise<void> {
    if (this.waiting.size >= this.mostWaiting) {
      const message = `all places of the tool runner are taken, and ${this.waiting.size} calls wait`;
      throw new AgentError('RESOURCE_EXHAUSTED', message, { retryAfterMs: 1000 });
    }
    return new Promise((resolve, reject) => {
      const begin = () => {
        this.waiting.delete(begin);
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        this.waiting.delete(begin);
        reject(signal.reason);
      };
      this.waiting.add(begin);
      signal.addEventListener('abort', leave, { once: true });
    });
  }
}
