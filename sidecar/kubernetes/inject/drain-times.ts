/** How the time that a pod has to end is shared out, in seconds. */
export interface DrainTimes {
  /** From "not ready" to the first GOAWAY: so long do callers that hear late still come. */
  readonly delay: number;
  /** How long the app's SIGTERM is held back, so that it serves while its callers are sent away. */
  readonly appSleep: number;
  /** From the first GOAWAY to the end of the calls that are left. */
  readonly timeout: number;
}

/** What a change of endpoints takes to reach callers: a watch, a DNS answer's life, a refresh. */
const LONGEST_DELAY = 5;
/** Between the last answer and SIGKILL. */
const MARGIN = 2;

/**
 * The pod's grace period is the one truth: what it leaves is what calls get.
 *
 *     deletion                                                        SIGKILL
 *     ├── delay ──┤GOAWAY                                                   │
 *     │           ├──────────────── timeout ───────────────┤'draining'      │
 *     ├── appSleep ──┤SIGTERM to the app … ends ┤SIGTERM to the sidecar     │
 *     0                                                              grace ─┘
 *
 * The sidecar's preStop hook starts its drain at once, beside the app's; a native sidecar gets SIGTERM when the
 * other containers have ended.
 */
export function drainTimes(graceSeconds: number): DrainTimes {
  const delay = Math.min(LONGEST_DELAY, Math.floor(graceSeconds / 6));
  return {
    delay,
    appSleep: graceSeconds >= 6 ? delay + 1 : 0,
    timeout: Math.max(1, graceSeconds - delay - MARGIN),
  };
}
