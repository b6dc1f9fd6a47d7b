// Waits for something outside to become true, and gives up with a reason.
import { setTimeout as sleep } from 'node:timers/promises';
import { PATIENCE_MS } from './patience.ts';

/** A value that stands for "not yet" is false, undefined or null; anything else ends the waiting. */
type NotYet = false | undefined | null;

/**
 * Asks `check` every `everyMs` until it gives something, and returns that. A check that throws has
 * not come true yet; its last error is the cause of the one that ends the waiting after `limitMs`.
 */
export async function waitUntil<T>(
  what: string,
  check: () => T | NotYet | Promise<T | NotYet>,
  { limitMs = PATIENCE_MS, everyMs = 20 }: { limitMs?: number; everyMs?: number } = {},
): Promise<T> {
  const endMs = performance.now() + limitMs;
  let cause: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value !== false && value !== undefined && value !== null) return value;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= endMs) {
      throw new Error(`waited ${limitMs} ms in vain until ${what}`, cause === undefined ? {} : { cause });
    }
    await sleep(everyMs);
  }
}
