// A clock that stands still until a test moves it, for the data plane of a sidecar in the test's own process.
import type { TimerWheel } from '../../sidecar/clock/timer-wheel.ts';

/**
 * Deadlines, delays, back-off and windows of the sidecars that share it pass when the test says so, and not while a busy
 * machine takes its time: what a test waits for is an event, and then it moves the clock.
 */
export class TestClock {
  nowMs = 1_000_000;
  private readonly wheels = new Set<TimerWheel>();

  readonly now = (): number => this.nowMs;

  /** Timers of this wheel fire by this clock. */
  drive(wheel: TimerWheel): void {
    this.wheels.add(wheel);
  }

  /** Lets so many milliseconds pass, and fires what has come due in them. */
  advance(ms: number): void {
    this.nowMs += ms;
    for (const wheel of this.wheels) wheel.advance(this.nowMs);
  }
}
