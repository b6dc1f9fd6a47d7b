/** Decides when a run's lease is extended, and when its agent must have been cancelled. Pure. */

/** A third of the lease: two extensions may fail before it ends. */
const EXTENDED_AFTER = 1 / 3;
/** The last fifth is for the agent to stop: nobody else begins the task before the lease ends. */
const CANCELLED_AFTER = 4 / 5;
/** The wait after a failed extension. */
const RETRIED_AFTER = 1 / 20;

/**
 * The times of one lease, on this process's monotonic clock. What counts is when a successful extension was sent, because
 * the log may have stored it at any time from then on.
 */
export class LeaseTimes {
  private readonly leaseMs: number;
  private heldFromMs: number;
  private extendedAtMs: number;

  /** @param heldFromMs when the log gave the lease, or earlier */
  constructor(leaseMs: number, heldFromMs: number) {
    this.leaseMs = leaseMs;
    this.heldFromMs = heldFromMs;
    this.extendedAtMs = heldFromMs + leaseMs * EXTENDED_AFTER;
  }

  /** When the next extension is due; Infinity while one is on its way. */
  get extendAtMs(): number {
    return this.extendedAtMs;
  }

  /** When the agent's call is cancelled, unless an extension succeeds before. */
  get cancelAtMs(): number {
    return this.heldFromMs + this.leaseMs * CANCELLED_AFTER;
  }

  /** An extension is on its way. */
  onSent(): void {
    this.extendedAtMs = Number.POSITIVE_INFINITY;
  }

  onExtended(sentAtMs: number): void {
    this.heldFromMs = Math.max(this.heldFromMs, sentAtMs);
    this.extendedAtMs = this.heldFromMs + this.leaseMs * EXTENDED_AFTER;
  }

  /** The log could not be reached. */
  onFailed(nowMs: number): void {
    this.extendedAtMs = nowMs + this.leaseMs * RETRIED_AFTER;
  }
}
