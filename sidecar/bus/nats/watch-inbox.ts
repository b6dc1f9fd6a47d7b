/** Keeps what the server has told of one task and its watcher has not read yet, up to a bound. */
import type { Msg } from '@nats-io/transport-node';

/** A watcher that is so far behind reads from the store what it has missed. */
const MOST_WAITING_BYTES = 65_536;

export class WatchInbox {
  private messages: Msg[] = [];
  private bytes = 0;
  private hasMissed = false;
  private error: unknown;
  private notify: (() => void) | undefined;

  readonly push = (message: Msg): void => {
    this.bytes += message.data.length;
    if (this.bytes > MOST_WAITING_BYTES) {
      this.messages = [];
      this.hasMissed = true;
    }
    if (!this.hasMissed) this.messages.push(message);
    this.notify?.();
  };

  fail(error: unknown): void {
    this.error = error;
    this.notify?.();
  }

  /** `look`: the key has to be read. */
  async next(signal: AbortSignal, atMostMs: number): Promise<Msg | 'look' | undefined> {
    if (this.isEmpty() && !signal.aborted) await this.wait(signal, atMostMs);
    if (this.error !== undefined) throw this.error;
    if (signal.aborted) return undefined;
    if (this.hasMissed) {
      this.hasMissed = false;
      this.bytes = 0;
      return 'look';
    }
    const message = this.messages.shift();
    if (message === undefined) return 'look';
    this.bytes -= message.data.length;
    return message;
  }

  private isEmpty(): boolean {
    return this.messages.length === 0 && !this.hasMissed && this.error === undefined;
  }

  private wait(signal: AbortSignal, atMostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.notify = undefined;
        resolve();
      };
      const timer = setTimeout(done, atMostMs);
      signal.addEventListener('abort', done, { once: true });
      this.notify = done;
    });
  }
}
