/**
 * How many retries and hedges a cluster may get on top of its calls, so that retries of a failing cluster do not become
 * the load that keeps it failing. Pure.
 *
 * A retry is allowed when one of these holds:
 *
 * - the share: retries of the last 10 s, or the running ones if there are more, are below `percent` of the calls of the
 *   last 10 s, or of the running ones if there are more. Either count alone is wrong for some traffic: calls of a
 *   minute still run when the window has forgotten their start, and of fast calls none may be running at a given
 *   moment;
 * - the floor: fewer than `min_concurrent` retries are running, and fewer than that many began in this second. It
 *   serves thin traffic, whose share is nothing: at one call a second every call can use all of its attempts. The limit
 *   in time is needed because retries that fail at once would never be many at a time.
 *
 * So a cluster that fails everything gets at most its calls, `percent` more, and `min_concurrent` more a second.
 * Percent 20 and 3 at a time are Envoy's figures; its users ask for the window in time.
 */
import type { RetryBudgetSettings } from './retry-settings.ts';
import { ShareWindow } from './share-window.ts';

/** Ten buckets of a second, see `ShareWindow`. */
const WINDOW_MS = 10_000;

export class RetryBudget {
  settings: RetryBudgetSettings;
  /** The number of retries that were not allowed so far. */
  exhausted = 0;
  private runningRetries = 0;
  /** Counts calls and, as marked events, retries. */
  private readonly window = new ShareWindow(WINDOW_MS);

  constructor(settings: RetryBudgetSettings) {
    this.settings = settings;
  }

  /** The number of allowed retries that were not released yet. */
  get running(): number {
    return this.runningRetries;
  }

  /** A call began (not an attempt). */
  countCall(nowMs: number): void {
    this.window.add(nowMs);
  }

  /**
   * Asks for one more attempt. If it returns true, call `release` when the attempt ends, or when it is not made after
   * all.
   *
   * @param callsInFlight in the cluster, including this call
   */
  tryAcquire(nowMs: number, callsInFlight: number): boolean {
    if (!this.allows(nowMs, callsInFlight)) {
      this.exhausted++;
      return false;
    }
    this.runningRetries++;
    this.window.mark(nowMs);
    return true;
  }

  private allows(nowMs: number, callsInFlight: number): boolean {
    const { percent, minConcurrent } = this.settings;
    if (this.runningRetries < minConcurrent && this.window.markedNow(nowMs) < minConcurrent) return true;
    this.window.count(nowMs, 0);
    const { total, marked } = this.window;
    return Math.max(marked, this.runningRetries) * 100 < percent * Math.max(total, callsInFlight);
  }

  /** Throws when more is released than was acquired, which would raise the limit unnoticed. */
  release(): void {
    if (this.runningRetries === 0)
      throw new Error('a retry was released twice; release once for each tryAcquire() that was true');
    this.runningRetries--;
  }
}
