/** How long to wait before trying again. Pure: the random number in [0, 1) comes in. */

const CONNECTION_BASE_MS = 1000;
const CONNECTION_MULTIPLIER = 1.6;
const CONNECTION_MAX_MS = 120_000;
const JITTER = 0.2;

/**
 * Milliseconds between the start of the last attempt to connect and the next, after `failures` (1 or more) in a
 * row: 1 s × 1.6 up to 120 s, each ±20 % (gRPC "Connection Backoff Protocol").
 */
export function connectionBackoffMs(failures: number, random: number): number {
  return growing(CONNECTION_BASE_MS, CONNECTION_MULTIPLIER, CONNECTION_MAX_MS, failures) * jitter(random);
}

export interface RetryBackoff {
  baseMs: number;
  maxMs: number;
  /** 2 when not given. */
  multiplier?: number;
}

/**
 * Milliseconds before retry `retry` (1 for the first): base × multiplier^(retry - 1), at most the maximum, ±20 %
 * (gRPC proposal A6, "Exponential Backoff").
 */
export function retryBackoffMs(
  { baseMs, maxMs, multiplier = 2 }: RetryBackoff,
  retry: number,
  random: number,
): number {
  return growing(baseMs, multiplier, maxMs, retry) * jitter(random);
}

function growing(baseMs: number, multiplier: number, maxMs: number, step: number): number {
  return Math.min(baseMs * multiplier ** Math.max(step - 1, 0), maxMs);
}

function jitter(random: number): number {
  return 1 - JITTER + 2 * JITTER * random;
}
