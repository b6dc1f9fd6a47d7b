/** The interface of counters that several processes share: each takes parts of what a window of time allows them together. */

export interface CounterWindow {
  readonly counter: string;
  /** The number of the window since 1970. */
  readonly window: number;
  /** When the window is over, in milliseconds since 1970; the counter is of no use afterwards. */
  readonly endsAtMs: number;
}

/** Asks for a part of a counter's total. */
export interface Draw extends CounterWindow {
  /** What all processes together may take in the window. */
  readonly total: number;
  /** Less than this is of no use: then nothing is taken. */
  readonly least: number;
  readonly most: number;
}

/** Returns how much a draw gets of a counter of which so much is taken; 0 where less than it needs is left. */
export function drawn({ total, least, most }: Draw, taken: number): number {
  const left = total - taken;
  return left < least ? 0 : Math.min(left, most);
}

export interface SharedCounters {
  /**
   * Takes from `least` to `most` of what is left; resolves with 0 where less is left. Rejects while the counters can't be
   * reached; what a rejected draw has taken, if anything, is lost until the window ends.
   */
  take(draw: Draw): Promise<number>;
  /** Puts back a part that was taken and not used. */
  giveBack(of: CounterWindow, amount: number): Promise<void>;
}
