import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';

/** Which of an attempt's own clocks has struck; the names are those of `outrigger-reason` and of verdicts. */
export type AttemptClockName = 'per_try' | 'first_chunk';

export interface ClockedAttempt {
  onClock(clock: AttemptClockName): void;
}

/** From the start of an attempt to its first message: the shorter of the two limits. Made only for attempts that have one. */
export class AttemptClock extends Timer {
  private readonly attempt: ClockedAttempt;
  private readonly wheel: TimerWheel;
  private running: AttemptClockName = 'per_try';

  constructor(attempt: ClockedAttempt, wheel: TimerWheel) {
    super();
    this.attempt = attempt;
    this.wheel = wheel;
  }

  /** Until the first message; 0 is off, and one of the two is not. */
  start(perTryMs: number, firstChunkMs: number, nowMs: number): void {
    const perTryFirst = perTryMs > 0 && (firstChunkMs === 0 || perTryMs <= firstChunkMs);
    this.running = perTryFirst ? 'per_try' : 'first_chunk';
    this.wheel.arm(this, nowMs + (perTryFirst ? perTryMs : firstChunkMs));
  }

  stop(): void {
    this.wheel.cancel(this);
  }

  override onTimeout(): void {
    this.attempt.onClock(this.running);
  }
}
