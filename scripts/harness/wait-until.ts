// Waits until an external condition is true, and fails with a reason after a time limit.
import { setTimeout as sleep } from 'node:timers/promises';
import { PATIENCE_MS } from './patience.ts';

/** False, undefined and null mean "not yet"; any other value ends the wait. */
type NotYet = false | undefined | null;

/**
 * Calls `check` every `everyMs` until it returns a value, and returns that. A check that throws counts as "not yet";
 * its last error becomes the cause of the error after `limitMs`.
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
      throw new Error(
        `timeout of ${limitMs} ms while waiting until ${what}`,
        cause === undefined ? {} : { cause },
      );
    }
    await sleep(everyMs);
  }
}
