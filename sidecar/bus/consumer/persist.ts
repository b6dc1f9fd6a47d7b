/** Repeats what the log could not store, until it is stored or no longer counts. */
import { backoffMs } from '../../clock/backoff.ts';
import { LogUnavailableError } from '../log/log-errors.ts';

const BACKOFF = { baseMs: 50, multiplier: 2, maxMs: 2_000 };

/**
 * Rejects with FencedError when the run no longer counts, and with LogUnavailableError when the log stays away until
 * `mayTry` says no, or the log itself. The log stores each step of a run once, however often it is asked.
 */
export async function persist(
  store: () => Promise<void>,
  mayTry: () => boolean,
  random: () => number,
): Promise<void> {
  for (let step = 1; ; step++) {
    try {
      await store();
      return;
    } catch (error) {
      if (!(error instanceof LogUnavailableError) || error.isFinal || !mayTry()) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, backoffMs(BACKOFF, step, random())));
  }
}
