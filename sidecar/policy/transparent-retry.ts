/** What is known of an attempt that failed. */
export interface FailedAttempt {
  /** The endpoint provably never processed it: REFUSED_STREAM, GOAWAY below its id, no connection. */
  readonly unprocessed: boolean;
  readonly responseStarted: boolean;
  /** All of the request that has come is still here. */
  readonly requestWhole: boolean;
  /** Attempts so far, this one included. */
  readonly attempts: number;
  readonly endpoints: number;
  readonly timeLeftMs: number;
  /** The endpoint has lowered its limit of streams while this one was on its way: it was refused for that. */
  readonly limitLowered: boolean;
}

/** Enough to walk past a few dead replicas, few enough that a server which refuses everything ends a call soon. */
const MAX_TRANSPARENT_RETRIES = 4;

/** A server that changes its mind ends a call, too, at last. */
const MAX_LIMIT_RETRIES = 32;

/**
 * gRPC retries transparently what never reached the server's application logic (proposal A6, "Transparent
 * Retries"): it can't run anything twice, and costs no budget. Pure.
 */
export function mayRetryTransparently(failed: FailedAttempt): boolean {
  if (!failed.unprocessed || failed.responseStarted || !failed.requestWhole || failed.timeLeftMs <= 0)
    return false;
  // The next stream is opened within the new limit; only one that is lowered again and again refuses it, too.
  if (failed.limitLowered) return failed.attempts <= MAX_LIMIT_RETRIES;
  return failed.attempts <= Math.min(Math.max(failed.endpoints, 1), MAX_TRANSPARENT_RETRIES);
}
