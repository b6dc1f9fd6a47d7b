/** Exponential back-off. The jitter keeps peers that failed together from retrying together. */

export interface Backoff {
  /** The wait before the first new try. */
  baseMs: number;
  multiplier: number;
  /** Before jitter. */
  maxMs: number;
}

const JITTER = 0.2;

/**
 * Returns the milliseconds to wait before new try `step`, 1 for the first: base × multiplier^(step - 1), at most the
 * maximum, then ±20 % by `random` in [0, 1). Both of gRPC's back-offs have this shape: the one of connections
 * ("Connection Backoff Protocol") and the one of retries (proposal A6, "Exponential Backoff").
 */
export function backoffMs({ baseMs, multiplier, maxMs }: Backoff, step: number, random: number): number {
  const waitMs = Math.min(baseMs * multiplier ** Math.max(step - 1, 0), maxMs);
  return waitMs * (1 - JITTER + 2 * JITTER * random);
}
