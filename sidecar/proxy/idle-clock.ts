import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';

export interface Silent {
  /** Nothing has moved for so long; the clock has begun anew. */
  onIdle(): void;
}

/** Counts how long neither side of a call has sent anything. Made only for calls whose silence has a limit. */
export class IdleClock extends Timer {
  private readonly call: Silent;
  private readonly wheel: TimerWheel;
  private idleMs = 0;
  /** Written for each message, read when the clock strikes: messages move no timer. */
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
