/**
 * Compares failure rates of endpoints that get a call every few seconds.
 *
 * Envoy compares success rates when at least 5 hosts had 100 requests each in 10 s; agents run 2 to 4 replicas at
 * one call a second, and would never be compared. With few calls a rate alone means little (one failure in two calls is
 * "50 %"), so this compares the bounds that the data allow:
 *
 *     rate        |--------[===l1=====p1=====u1===]------|   the endpoint
 *     rate        |-[l2=p2==u2]---------------------------|   all others together
 *                              ◀── surely worse by at least this much
 *
 * Wilson's score interval (1927) is accurate for rates near 0 and for a handful of calls, where the usual "mean ±
 * deviation" is not. For the difference of two rates Newcombe's method 10 (1998) combines two such intervals.
 */

/** The most outcomes in a window; at higher traffic it covers this many calls rather than a time. */
const CAPACITY = 128;

/**
 * 99.5 %, one-sided. The test runs after each failure, thousands of times a day, so 95 % would be wrong every hour; see
 * the figures in `detector.test.ts`.
 */
const Z = 2.576;

/** The outcomes of the latest attempts at one endpoint. Allocates only in its constructor. */
export class OutcomeWindow {
  private readonly failed = new Uint8Array(CAPACITY);
  private readonly atMs = new Float64Array(CAPACITY);
  private next = 0;
  calls = 0;
  failures = 0;

  push(failed: boolean, nowMs: number): void {
    if (this.calls === CAPACITY) this.dropOldest();
    const index = this.next;
    this.failed[index] = failed ? 1 : 0;
    this.atMs[index] = nowMs;
    this.next = (index + 1) % CAPACITY;
    this.calls++;
    if (failed) this.failures++;
  }

  /** Drops outcomes older than `windowMs`. Call it before reading `calls` and `failures`. */
  trim(nowMs: number, windowMs: number): void {
    while (this.calls > 0 && this.atMs[this.oldest]! <= nowMs - windowMs) this.dropOldest();
  }

  clear(): void {
    this.calls = 0;
    this.failures = 0;
  }

  private get oldest(): number {
    return (this.next - this.calls + CAPACITY) % CAPACITY;
  }

  private dropOldest(): void {
    this.failures -= this.failed[this.oldest]!;
    this.calls--;
  }
}

/** Returns the lower bound of the true rate, given `failures` of `calls`; 0 without calls. */
export function lowestRate(failures: number, calls: number): number {
  return calls === 0 ? 0 : Math.max(0, centre(failures, calls) - halfWidth(failures, calls));
}

/** Returns the upper bound of the true rate; 1 without calls. */
export function highestRate(failures: number, calls: number): number {
  return calls === 0 ? 1 : Math.min(1, centre(failures, calls) + halfWidth(failures, calls));
}

/** Returns by how much the first rate certainly exceeds the second; negative when it is not certain. */
export function leastDifference(
  failures: number,
  calls: number,
  otherFailures: number,
  otherCalls: number,
): number {
  if (calls === 0 || otherCalls === 0) return -1;
  const rate = failures / calls;
  const otherRate = otherFailures / otherCalls;
  const below = rate - lowestRate(failures, calls);
  const above = highestRate(otherFailures, otherCalls) - otherRate;
  return rate - otherRate - Math.sqrt(below * below + above * above);
}

function centre(failures: number, calls: number): number {
  return (failures + (Z * Z) / 2) / (calls + Z * Z);
}

function halfWidth(failures: number, calls: number): number {
  const spread = (failures * (calls - failures)) / calls + (Z * Z) / 4;
  return (Z / (calls + Z * Z)) * Math.sqrt(spread);
}
