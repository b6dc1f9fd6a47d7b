import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';

/** Which of an attempt's own clocks has struck; the names are those of `outrigger-reason` and of verdicts. */
export type AttemptClockName = 'per_try' | 'first_chunk' | 'idle';

export interface ClockedAttempt {
  onClock(clock: AttemptClockName): void;
}

/**
 * The clocks of one attempt, of which one runs at a time. Made only for attempts that have any.
 *
 *     started ──per_try and first_chunk, the shorter──▶ first message ──idle, anew with each message──▶ end
 */
export class AttemptClock extends Timer {
  private readonly attempt: ClockedAttempt;
  private readonly wheel: TimerWheel;
  private running: AttemptClockName = 'per_try';
  private idleMs = 0;
  /** Of either side. Written for each message, read when the clock strikes: messages move no timer. */
  lastMessageAtMs = 0;

  constructor(attempt: ClockedAttempt, wheel: TimerWheel) {
    super();
    this.attempt = attempt;
    this.wheel = wheel;
  }

  /** Until the first message; 0 is off. */
  startFirst(perTryMs: number, firstChunkMs: number, nowMs: number): void {
    const perTryFirst = perTryMs > 0 && (firstChunkMs === 0 || perTryMs <= firstChunkMs);
    this.running = perTryFirst ? 'per_try' : 'first_chunk';
    this.wheel.arm(this, nowMs + (perTryFirst ? perTryMs : firstChunkMs));
  }

  /** From the first message on, between messages. */
  startIdle(idleMs: number, nowMs: number): void {
    this.running = 'idle';
    this.idleMs = idleMs;
    this.lastMessageAtMs = nowMs;
    this.wheel.arm(this, nowMs + idleMs);
  }

  restartIdle(nowMs: number): void {
    this.startIdle(this.idleMs, nowMs);
  }

  stop(): void {
    this.wheel.cancel(this);
  }

  override onTimeout(nowMs: number): void {
    if (this.running === 'idle' && nowMs < this.lastMessageAtMs + this.idleMs) {
      this.wheel.arm(this, this.lastMessageAtMs + this.idleMs);
      return;
    }
    this.attempt.onClock(this.running);
  }
}
