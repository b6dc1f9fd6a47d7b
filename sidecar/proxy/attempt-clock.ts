/** Limits the time from the start of an attempt to its first message. */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';

/** The clock of an attempt that expired; `outrigger-reason` and verdicts use the same names. */
export type AttemptClockName = 'per_try' | 'first_chunk';

export interface ClockedAttempt {
  onClock(clock: AttemptClockName): void;
}

/**
 * Runs from the start of an attempt to its first message, for the shorter of two limits. Only attempts with a limit
 * have one.
 */
export class AttemptClock extends Timer {
  private readonly attempt: ClockedAttempt;
  private readonly wheel: TimerWheel;
  private running: AttemptClockName = 'per_try';

  constructor(attempt: ClockedAttempt, wheel: TimerWheel) {
    super();
    this.attempt = attempt;
    this.wheel = wheel;
  }

  /** Starts the clock, which runs until the first message. 0 turns a limit off; at least one of the two must be on. */
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
