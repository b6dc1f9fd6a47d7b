/** Schedules when to connect again to an endpoint that could not be reached. */
import { type Backoff, backoffMs } from '../../clock/backoff.ts';

/** The values of gRPC's "Connection Backoff Protocol". */
const CONNECTION_BACKOFF: Backoff = { baseMs: 1000, multiplier: 1.6, maxMs: 120_000 };

/**
 * Returns the milliseconds between the start of the last attempt to connect and the next, after `failures` (1 or more) in
 * a row. `random` is in [0, 1).
 */
export function connectionBackoffMs(failures: number, random: number): number {
  return backoffMs(CONNECTION_BACKOFF, failures, random);
}

/**
 * The back-off for an endpoint that calls need, because no other can be reached. It detects the return within a third of
 * the time that the endpoint was away, and within half a second. ±20 %, so that the attempts of a fleet spread out.
 */
export const WANTED_BACKOFF: Backoff = { baseMs: 100, multiplier: 1.3, maxMs: 500 };

/**
 * When to try an unreachable endpoint again: by gRPC's back-off in any case, and sooner when a call needs it. The sooner
 * tries do not delay the others. Pure: monotonic milliseconds come in as arguments.
 */
export class ReconnectSchedule {
  /** When to try it even if no call needs it; Infinity after a success. */
  dueAtMs = Number.POSITIVE_INFINITY;
  /** When a call may try it. */
  wantedAtMs = Number.NEGATIVE_INFINITY;
  private failures = 0;
  private wantedFailures = 0;

  /** @param startedAtMs when the failed try began. @param random in [0, 1) */
  failed(startedAtMs: number, random: number): void {
    this.wantedFailures++;
    this.wantedAtMs = startedAtMs + backoffMs(WANTED_BACKOFF, this.wantedFailures, random);
    if (this.failures > 0 && startedAtMs < this.dueAtMs) return;
    this.failures++;
    this.dueAtMs = startedAtMs + connectionBackoffMs(this.failures, random);
  }

  succeeded(): void {
    this.dueAtMs = Number.POSITIVE_INFINITY;
    this.wantedAtMs = Number.NEGATIVE_INFINITY;
    this.failures = 0;
    this.wantedFailures = 0;
  }
}
