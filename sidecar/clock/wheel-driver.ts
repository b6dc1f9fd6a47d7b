/** Drives a timer wheel from one `setTimeout`. */
import type { TimerWheel } from './timer-wheel.ts';

/** A day is enough, and setTimeout takes no more than 2^31 - 1 ms. */
const LONGEST_SLEEP_MS = 86_400_000;

/**
 * Drives a wheel from one setTimeout, which is armed only while the wheel holds timers and never keeps the process alive.
 * The driver sleeps until the wheel has work, so an idle sidecar with only keepalive timers wakes a few times a minute.
 * Arming a timer costs a setTimeout only when the timer is due before the driver would wake.
 */
export class WheelDriver {
  private readonly wheel: TimerWheel;
  private readonly now: () => number;
  private sleep: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(wheel: TimerWheel, now: () => number = () => performance.now()) {
    this.wheel = wheel;
    this.now = now;
    this.sleepUntilNext();
  }

  /** Fires the timers that are due now. Useful at the end of a long stretch of work; the driver works without it. */
  kick(): void {
    if (this.stopped) return;
    try {
      this.wheel.advance(this.now());
    } finally {
      this.sleepUntilNext();
    }
  }

  /** Stops for good. The timers stay armed on the wheel and don't fire. */
  stop(): void {
    this.stopped = true;
    clearTimeout(this.sleep);
    this.sleep = undefined;
    this.wheel.wakeBefore(0, undefined);
  }

  private readonly tick = (): void => this.kick();

  private readonly sleepUntil = (atMs: number): void => {
    clearTimeout(this.sleep);
    // setTimeout may fire up to a millisecond early, which would cost a second wake-up: hence the ceiling and one.
    const sleepMs = Math.min(Math.max(Math.ceil(atMs - this.now()) + 1, 1), LONGEST_SLEEP_MS);
    this.sleep = setTimeout(this.tick, sleepMs).unref();
    this.wheel.wakeBefore(atMs, this.sleepUntil);
  };

  private sleepUntilNext(): void {
    if (this.stopped) return;
    const atMs = this.wheel.nextAtMs();
    if (atMs === undefined) {
      clearTimeout(this.sleep);
      this.wheel.wakeBefore(Number.POSITIVE_INFINITY, this.sleepUntil);
    } else {
      this.sleepUntil(atMs);
    }
  }
}
