/** When to connect again to an endpoint that could not be reached. */
import { type Backoff, backoffMs } from '../../clock/backoff.ts';

/** The values of gRPC's "Connection Backoff Protocol". */
const CONNECTION_BACKOFF: Backoff = { baseMs: 1000, multiplier: 1.6, maxMs: 120_000 };

/**
 * Milliseconds between the start of the last attempt to connect and the next, after `failures` (1 or more) in a
 * row. `random` is in [0, 1).
 */
export function connectionBackoffMs(failures: number, random: number): number {
  return backoffMs(CONNECTION_BACKOFF, failures, random);
}

/**
 * Between tries of an endpoint that calls wait for, because no other can be had: its return is noticed within a third of
 * the time that it was away, and within half a second. ±20 %, so that a fleet does not come in step.
 */
export const WANTED_BACKOFF: Backoff = { baseMs: 100, multiplier: 1.3, maxMs: 500 };

/**
 * When an endpoint that could not be reached is tried again: by gRPC's back-off whatever happens, and sooner when somebody
 * wants it. The sooner tries do not make the others later. Pure: time comes in, in milliseconds that never go back.
 */
export class ReconnectSchedule {
  /** When it is tried whether or not somebody wants it; Infinity after a success. */
  dueAtMs = Number.POSITIVE_INFINITY;
  /** When it may be tried for somebody. */
  wantedAtMs = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #wantedFailures = 0;

  /** @param startedAtMs of the try that has failed. @param random in [0, 1) */
  failed(startedAtMs: number, random: number): void {
    this.#wantedFailures++;
    this.wantedAtMs = startedAtMs + backoffMs(WANTED_BACKOFF, this.#wantedFailures, random);
    if (this.#failures > 0 && startedAtMs < this.dueAtMs) return;
    this.#failures++;
    this.dueAtMs = startedAtMs + connectionBackoffMs(this.#failures, random);
  }

  succeeded(): void {
    this.dueAtMs = Number.POSITIVE_INFINITY;
    this.wantedAtMs = Number.NEGATIVE_INFINITY;
    this.#failures = 0;
    this.#wantedFailures = 0;
  }
}
