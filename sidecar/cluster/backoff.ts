/** When to connect again to an endpoint that could not be reached. */
import { type Backoff, backoffMs } from '../clock/backoff.ts';

/** The values of gRPC's "Connection Backoff Protocol". */
const CONNECTION_BACKOFF: Backoff = { baseMs: 1000, multiplier: 1.6, maxMs: 120_000 };

/**
 * Milliseconds between the start of the last attempt to connect and the next, after `failures` (1 or more) in a
 * row. `random` is in [0, 1).
 */
export function connectionBackoffMs(failures: number, random: number): number {
  return backoffMs(CONNECTION_BACKOFF, failures, random);
}
