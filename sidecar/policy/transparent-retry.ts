/** Decides on retries of what no server has processed (gRPC proposal A6, "Transparent Retries"). */

/** What is known about a failed attempt. */
export interface FailedAttempt {
  /** The endpoint provably never processed it: REFUSED_STREAM, GOAWAY below its id, no connection. */
  readonly unprocessed: boolean;
  readonly responseStarted: boolean;
  /** All of the request that has arrived is still in memory. */
  readonly requestWhole: boolean;
  /** The number of attempts so far, this one included. */
  readonly attempts: number;
  readonly endpoints: number;
  readonly timeLeftMs: number;
  /** The endpoint lowered its limit of streams while this attempt was on its way, and refused it for that reason. */
  readonly limitLowered: boolean;
}

/** Enough to skip a few dead replicas, and few enough that a server which refuses everything ends a call soon. */
const MAX_TRANSPARENT_RETRIES = 4;

/** Bounds the attempts at a server that keeps changing its limit. */
const MAX_LIMIT_RETRIES = 32;

/**
 * gRPC transparently retries a call that never reached the server's application logic (proposal A6, "Transparent
 * Retries"): such a retry can't run anything twice, and uses no budget. Pure.
 */
export function mayRetryTransparently(failed: FailedAttempt): boolean {
  if (!failed.unprocessed || failed.responseStarted || !failed.requestWhole || failed.timeLeftMs <= 0)
    return false;
  // The next stream is opened within the new limit; it is refused only if the limit decreases again.
  if (failed.limitLowered) return failed.attempts <= MAX_LIMIT_RETRIES;
  return failed.attempts <= Math.min(Math.max(failed.endpoints, 1), MAX_TRANSPARENT_RETRIES);
}
