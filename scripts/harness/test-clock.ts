// A clock that stands still until a test moves it, for the data plane of a sidecar in the test's own process.
import type { TimerWheel } from '../../sidecar/clock/timer-wheel.ts';
import { EventQueue } from './event-queue.ts';

/**
 * Deadlines, delays, back-off and windows of the sidecars that share it pass when the test says so, and not while a busy
 * machine takes its time: what a test waits for is an event, and then it moves the clock. Wheels tick every 10 ms, so move
 * it by a tick more than what is to come due.
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

  /** For what a test's own servers do later. */
  after(ms: number, run: () => void): void {
    this.due.at(this.nowMs + ms, run);
  }

  /** Milliseconds until the next thing that `after` was told of; Infinity without one. */
  get nextInMs(): number {
    return this.due.nextAtMs - this.nowMs;
  }

  /** Lets so many milliseconds pass, and does what has come due in them, in its order. */
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
