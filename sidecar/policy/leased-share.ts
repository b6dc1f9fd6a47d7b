/**
 * Holds this process's share of an amount that several processes may use together in a window of time: the tokens of a
 * caller's day, its requests of a minute. Pure but for the counters that it draws from; times are milliseconds since 1970.
 *
 *     with shared counters      it takes slices of the total as it needs them, and gives back what it does not use;
 *                               what a dead process has taken is lost until the window ends
 *     without                   it has the total divided by the number of processes
 *
 * So all together never use more than the total, whichever of them dies and whether or not the counters can be reached.
 */
import type { SharedCounters } from './shared-counters.ts';

/** A part of the share that is in use; settle it once. */
export interface SharePart {
  readonly amount: number;
  readonly window: number;
  isSettled: boolean;
}

/** `more`: there may be enough now. `none`: the total of the window is used up. `away`: the counters can't be reached. */
export type Fetched = 'more' | 'none' | 'away';

/** A slice is a twentieth of the total, so that twenty idle processes do not hold all of it. */
const SLICES = 20;
/** A share that was not used for this part of its window is given back. */
const IDLE_PART = 0.1;
const MAX_IDLE_MS = 30_000;
/** How long an answer of the counters that nothing is left, or no answer, counts for the next requests. */
const REMEMBER_MS = 250;

export class LeasedShare {
  readonly counter: string;
  readonly windowMs: number;
  private readonly countersNow: () => SharedCounters | undefined;
  private counters: SharedCounters | undefined;
  private total = 0;
  private processes = 1;
  private window = -1;
  /** What is free to use. Below 0 where more was used than reserved. */
  private free = 0;
  private usedAtMs = 0;
  private drawing: Promise<void> | undefined = undefined;
  /** The least amount that the counters had not, and until when nobody asks again. */
  private refused:
    | { readonly amount: number; readonly untilMs: number; readonly because: Fetched }
    | undefined = undefined;

  /**
   * @param counter the name of the amount, equal in all processes
   * @param countersNow undefined while no counters are shared
   */
  constructor(counter: string, windowMs: number, countersNow: () => SharedCounters | undefined) {
    this.counter = counter;
    this.windowMs = windowMs;
    this.countersNow = countersNow;
    this.counters = countersNow();
  }

  /** @param total for all processes together; 0 is no bound */
  configure(total: number, processes: number): void {
    if (this.counters === undefined && this.window >= 0)
      this.free += Math.floor(total / processes) - Math.floor(this.total / this.processes);
    this.total = total;
    this.processes = processes;
  }

  get isBound(): boolean {
    return this.total > 0;
  }

  get most(): number {
    return this.total;
  }

  left(nowMs: number): number {
    this.roll(nowMs);
    return Math.max(0, this.free);
  }

  /** When the present window ends. */
  endsAtMs(nowMs: number): number {
    return (Math.floor(nowMs / this.windowMs) + 1) * this.windowMs;
  }

  /** Undefined where less is free: `fetch` may get more. */
  reserve(amount: number, nowMs: number): SharePart | undefined {
    this.roll(nowMs);
    if (!(amount >= 0) || amount > this.free) return undefined;
    this.free -= amount;
    this.usedAtMs = nowMs;
    return { amount, window: this.window, isSettled: false };
  }

  /** Replaces the reserved amount by the real one. What was not used of an earlier window is lost. */
  settle(part: SharePart, used: number, nowMs: number): void {
    if (part.isSettled) return;
    part.isSettled = true;
    this.roll(nowMs);
    if (part.window === this.window) this.free += part.amount - Math.max(0, used);
  }

  /** Gets more from the counters, until `amount` is free. */
  async fetch(amount: number, nowMs: () => number): Promise<Fetched> {
    while (this.drawing !== undefined) await this.drawing;
    const startedMs = nowMs();
    this.roll(startedMs);
    if (amount <= this.free) return 'more';
    if (this.counters === undefined || amount > this.total) return 'none';
    const { refused } = this;
    if (refused !== undefined && startedMs < refused.untilMs && amount - this.free >= refused.amount)
      return refused.because;
    const drawing = this.draw(this.counters, amount - this.free, nowMs);
    this.drawing = drawing.then(() => {
      this.drawing = undefined;
    });
    return await drawing;
  }

  private async draw(counters: SharedCounters, least: number, nowMs: () => number): Promise<Fetched> {
    const { counter, total, window } = this;
    const most = Math.max(least, Math.ceil(total / SLICES));
    let because: Fetched = 'none';
    try {
      const endsAtMs = (window + 1) * this.windowMs;
      const taken = await counters.take({ counter, window, endsAtMs, total, least, most });
      this.roll(nowMs());
      if (taken > 0) {
        if (this.window === window) this.free += taken;
        this.usedAtMs = nowMs();
        return 'more';
      }
    } catch {
      because = 'away';
    }
    this.refused = { amount: least, untilMs: nowMs() + REMEMBER_MS, because };
    return because;
  }

  /** Gives back what has not been used for a while. Call it now and then. */
  async giveBackIdle(nowMs: number): Promise<void> {
    this.roll(nowMs);
    const idleMs = Math.min(MAX_IDLE_MS, this.windowMs * IDLE_PART);
    if (nowMs - this.usedAtMs >= idleMs) await this.giveBack(nowMs);
  }

  /** Gives back all that is free. Where it is unknown whether that was heard, the amount is lost until the window ends. */
  async giveBack(nowMs: number): Promise<void> {
    this.roll(nowMs);
    if (this.counters === undefined || this.drawing !== undefined || this.free <= 0) return;
    const amount = this.free;
    this.free = 0;
    const { counter, window } = this;
    const of = { counter, window, endsAtMs: (window + 1) * this.windowMs };
    await this.counters.giveBack(of, amount).catch(() => {});
  }

  private roll(nowMs: number): void {
    const counters = this.countersNow();
    if (counters !== this.counters) {
      this.counters = counters;
      // What was held of the total by other rules is lost until the window ends.
      if (this.window >= 0) this.free = Math.min(0, this.free);
    }
    const window = Math.floor(nowMs / this.windowMs);
    // A clock that goes back leaves the later window in use.
    if (window <= this.window) return;
    this.window = window;
    this.refused = undefined;
    this.free = this.counters === undefined ? Math.floor(this.total / this.processes) : 0;
  }
}
