/** Tells the log, and so all publishers, that this sidecar takes tasks. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import type { Consumer, TaskLog } from '../log/task-log.ts';

/** The log forgets a consumer that has been silent for a lease. */
const TOLD_AFTER = 1 / 3;

export interface AnnouncerOptions {
  readonly log: TaskLog;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly leaseMs: number;
}

export class Announcer extends Timer {
  private readonly options: AnnouncerOptions;
  /** The last announcement. */
  private told: Consumer | undefined = undefined;

  constructor(options: AnnouncerOptions) {
    super();
    this.options = options;
  }

  /** @param consumer `places` 0 withdraws it */
  tell(consumer: Consumer): void {
    this.told = consumer;
    this.say();
  }

  stop(): void {
    this.options.wheel.cancel(this);
    this.told = undefined;
  }

  override onTimeout(): void {
    this.say();
  }

  private say(): void {
    const { log, wheel, clock, leaseMs } = this.options;
    if (this.told === undefined) return;
    // The next time follows soon, and says the same.
    log.announce(this.told).catch(() => {});
    if (this.told.places > 0) wheel.arm(this, clock() + leaseMs * TOLD_AFTER);
    else wheel.cancel(this);
  }
}
