/** A timer for a deadline that may be further away than timers reach, and that may move. */

const LONGEST_TIMER_MS = 2_147_483_647;

export class DeadlineTimer {
  private readonly onPassed: () => void;
  private timer: NodeJS.Timeout | undefined;

  constructor(onPassed: () => void) {
    this.onPassed = onPassed;
  }

  /** The deadline is so far away now, whatever was said before. */
  start(leftMs: number): void {
    clearTimeout(this.timer);
    const stepMs = Math.min(Math.max(0, Math.ceil(leftMs)), LONGEST_TIMER_MS);
    const restMs = leftMs - stepMs;
    this.timer = setTimeout(() => (restMs > 0 ? this.start(restMs) : this.onPassed()), stepMs);
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}
