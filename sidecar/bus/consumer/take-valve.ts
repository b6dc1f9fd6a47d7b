/** Decides whether the places of a consumer take tasks, and wakes them when that changes. */
import { setMaxListeners } from 'node:events';

/** Why no tasks are taken. */
export type ClosedBy = 'drain' | 'app' | 'alone' | 'pause' | 'log';

export class TakeValve {
  private readonly reasons = new Set<ClosedBy>();
  private turn = newTurn();
  private waiting: (() => void)[] = [];

  get isOpen(): boolean {
    return this.reasons.size === 0;
  }

  /** Aborts when the valve closes. */
  get signal(): AbortSignal {
    return this.turn.signal;
  }

  /** Ends waits for tasks: the places ask anew. */
  close(by: ClosedBy): void {
    this.reasons.add(by);
    this.turn.abort();
  }

  open(by: ClosedBy): void {
    if (!this.reasons.delete(by) || this.reasons.size > 0) return;
    this.turn = newTurn();
    this.wake();
  }

  /** Resolves when the valve opens, or at `wake`. */
  async whenChanged(): Promise<void> {
    await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  /** Something else has changed: the places look for themselves. */
  wake(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }

  /** Ends waits for tasks once, because what is taken has changed. */
  renew(): void {
    this.turn.abort();
    if (this.isOpen) this.turn = newTurn();
    this.wake();
  }
}

function newTurn(): AbortController {
  const turn = new AbortController();
  // Each place listens.
  setMaxListeners(0, turn.signal);
  return turn;
}
