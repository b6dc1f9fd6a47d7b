// A clock that only a test advances, for a sidecar's data plane in the test's own process.
import type { TimerWheel } from '../../sidecar/clock/timer-wheel.ts';
import { EventQueue } from './event-queue.ts';

/**
 * Deadlines, delays, back-off and windows of the sidecars that share this clock pass when the test advances it, and not
 * while a busy machine is slow: a test waits for an event, and then advances the clock. Wheels tick every 10 ms, so
 * advance it by a tick more than the time that is to expire.
 */
export class TestClock {
  nowMs = 1_000_000;
  private readonly wheels = new Set<TimerWheel>();
  private readonly due = new EventQueue();

  readonly now = (): number => this.nowMs;

  /** Timers of this wheel fire by this clock. */
  drive(wheel: TimerWheel): void {
    this.wheels.add(wheel);
  }

  /** Schedules later actions of a test's own servers. */
  after(ms: number, run: () => void): void {
    this.due.at(this.nowMs + ms, run);
  }

  /** Milliseconds until the next action of `after`; Infinity without one. */
  get nextInMs(): number {
    return this.due.nextAtMs - this.nowMs;
  }

  /** Advances the clock by this time, and runs all due actions in order. */
  advance(ms: number): void {
    const targetMs = this.nowMs + ms;
    while (this.due.nextAtMs <= targetMs) {
      this.moveTo(this.due.nextAtMs);
      this.due.runNext();
    }
    this.moveTo(targetMs);
  }

  private moveTo(atMs: number): void {
    this.nowMs = Math.max(this.nowMs, atMs);
    for (const wheel of this.wheels) wheel.advance(this.nowMs);
  }
}
