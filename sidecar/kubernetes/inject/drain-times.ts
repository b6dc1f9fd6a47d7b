/** The division of a pod's grace period, in seconds. */
export interface DrainTimes {
  /** From "not ready" to the first GOAWAY: callers that learn of the change late still connect in this time. */
  readonly delay: number;
  /** The delay of the app's SIGTERM, so that the app serves while the sidecar sends callers away. */
  readonly appSleep: number;
  /** From the first GOAWAY to the end of the remaining calls. */
  readonly timeout: number;
}

/** The longest time for a change of endpoints to reach callers: a watch, the TTL of a DNS answer, a refresh. */
const LONGEST_DELAY = 5;
/** Between the last answer and SIGKILL. */
const MARGIN = 2;

/**
 * Everything derives from the pod's grace period: calls get what it leaves.
 *
 *     deletion                                                        SIGKILL
 *     ├── delay ──┤GOAWAY                                                   │
 *     │           ├──────────────── timeout ───────────────┤'draining'      │
 *     ├── appSleep ──┤SIGTERM to the app … ends ┤SIGTERM to the sidecar     │
 *     0                                                              grace ─┘
 *
 * The sidecar's preStop hook starts its drain at once, at the same time as the app's; a native sidecar gets SIGTERM
 * after the other containers have ended.
 */
export function drainTimes(graceSeconds: number): DrainTimes {
  // A second is the least in which callers learn of the end; less than three leave no time for it.
  const delay = graceSeconds < 3 ? 0 : Math.min(LONGEST_DELAY, Math.max(1, Math.floor(graceSeconds / 6)));
  return {
    delay,
    appSleep: graceSeconds >= 4 ? delay + 1 : 0,
    timeout: Math.max(1, graceSeconds - delay - MARGIN),
  };
}
