/**
 * How many retries and hedges a cluster may get on top of its calls, so that retries of a failing cluster do not
 * become the load that keeps it failing. Pure.
 *
 * A retry is allowed when either holds:
 *
 * - the share: retries of the last 10 s, or those running if there are more, are below `percent` of the calls of the
 *   last 10 s, or of those running if there are more. Both are taken because either alone is wrong for some traffic:
 *   what was begun 10 s ago is forgotten while calls of a minute still run, and of fast calls none is running at the
 *   moment one looks;
 * - the floor: fewer than `min_concurrent` retries are running, and fewer than that many began in this second. It is
 *   for thin traffic, of which a share is nothing: at one call a second every call can use all of its attempts. The
 *   limit in time is there because retries that fail at once would never be many at a time.
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
  /** Retries that were not allowed, ever. */
  exhausted = 0;
  #running = 0;
  /** Calls and, marked, retries. */
  readonly #window = new ShareWindow(WINDOW_MS);

  constructor(settings: RetryBudgetSettings) {
    this.settings = settings;
  }

  /** Retries that were allowed and have not been released. */
  get running(): number {
    return this.#running;
  }

  /** A call began (not an attempt). */
  countCall(nowMs: number): void {
    this.#window.add(nowMs);
  }

  /**
   * May one more attempt be made? If so it must be released when it ends, or when it is not made after all.
   *
   * @param callsInFlight in the cluster, the call in question included
   */
  tryAcquire(nowMs: number, callsInFlight: number): boolean {
    if (!this.#allows(nowMs, callsInFlight)) {
      this.exhausted++;
      return false;
    }
    this.#running++;
    this.#window.mark(nowMs);
    return true;
  }

  #allows(nowMs: number, callsInFlight: number): boolean {
    const { percent, minConcurrent } = this.settings;
    if (this.#running < minConcurrent && this.#window.markedNow(nowMs) < minConcurrent) return true;
    this.#window.look(nowMs, 0);
    const { total, marked } = this.#window;
    return Math.max(marked, this.#running) * 100 < percent * Math.max(total, callsInFlight);
  }

  /** Throws when more is released than was acquired, which would quietly lift the limit. */
  release(): void {
    if (this.#running === 0)
      throw new Error('a retry was released twice; release once for each tryAcquire() that was true');
    this.#running--;
  }
}
