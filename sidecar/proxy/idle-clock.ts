/** Detects calls on which neither side sends anything. */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';

export interface Silent {
  /** Nothing was sent for as long as the limit allows; the clock has started again. */
  onIdle(): void;
}

/** Measures how long neither side of a call has sent anything. Only calls with such a limit have one. */
export class IdleClock extends Timer {
  private readonly call: Silent;
  private readonly wheel: TimerWheel;
  private idleMs = 0;
  /** Written for each message and read when the clock expires, so that messages move no timer. */
  movedAtMs = 0;

  constructor(call: Silent, wheel: TimerWheel) {
    super();
    this.call = call;
    this.wheel = wheel;
  }

  start(idleMs: number, nowMs: number): void {
    this.idleMs = idleMs;
    this.restart(nowMs);
  }

  restart(nowMs: number): void {
    this.movedAtMs = nowMs;
    this.wheel.arm(this, nowMs + this.idleMs);
  }

  stop(): void {
    this.wheel.cancel(this);
  }

  override onTimeout(nowMs: number): void {
    const atMs = this.movedAtMs + this.idleMs;
    if (nowMs < atMs) {
      this.wheel.arm(this, atMs);
      return;
    }
    this.restart(nowMs);
    this.call.onIdle();
  }
}
