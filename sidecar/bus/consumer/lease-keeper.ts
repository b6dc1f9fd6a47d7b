/** Holds the lease of a run: extends it in time, and says when the run must stop. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { FencedError } from '../log/log-errors.ts';
import type { TaskLease } from '../log/task-log.ts';
import { LeaseTimes } from './lease-times.ts';

/**
 * Why a run must stop. `cancelled`: its task was cancelled, or its deadline has passed. `lost`: another run may have begun.
 * `late`: the lease can't be extended, and ends soon.
 */
export type LeaseEnd = 'cancelled' | 'lost' | 'late';

type HeldLease = Pick<TaskLease, 'extend' | 'cancelled'>;

export interface LeaseOptions {
  readonly leaseMs: number;
  /** Milliseconds since the log gave the lease. */
  readonly heldForMs: number;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  /** Called once, unless the keeper is stopped before. */
  onEnd(end: LeaseEnd): void;
}

export class LeaseKeeper extends Timer {
  private readonly lease: HeldLease;
  private readonly options: LeaseOptions;
  private readonly times: LeaseTimes;
  private over = false;

  constructor(lease: HeldLease, options: LeaseOptions) {
    super();
    this.lease = lease;
    this.options = options;
    this.times = new LeaseTimes(options.leaseMs, options.clock() - options.heldForMs);
  }

  start(): void {
    const { cancelled } = this.lease;
    if (cancelled.aborted) this.onAbort();
    else {
      cancelled.addEventListener('abort', this.onAbort, { once: true });
      this.arm();
    }
  }

  /** The run is over. */
  stop(): void {
    this.over = true;
    this.options.wheel.cancel(this);
    this.lease.cancelled.removeEventListener('abort', this.onAbort);
  }

  /** Whether the run must stop, or has ended. */
  get isOver(): boolean {
    return this.over;
  }

  override onTimeout(nowMs: number): void {
    if (this.over) return;
    if (nowMs >= this.times.cancelAtMs) {
      this.end('late');
      return;
    }
    if (nowMs >= this.times.extendAtMs) this.extend(nowMs);
    this.arm();
  }

  private extend(sentAtMs: number): void {
    this.times.onSent();
    this.lease.extend().then(
      () => {
        this.times.onExtended(sentAtMs);
        this.arm();
      },
      (error: unknown) => {
        if (error instanceof FencedError) {
          this.end(error.because);
          return;
        }
        this.times.onFailed(this.options.clock());
        this.arm();
      },
    );
  }

  private arm(): void {
    if (this.over) return;
    const { extendAtMs, cancelAtMs } = this.times;
    this.options.wheel.arm(this, Math.min(extendAtMs, cancelAtMs));
  }

  private readonly onAbort = (): void => {
    const { reason } = this.lease.cancelled;
    this.end(reason instanceof FencedError ? reason.because : 'cancelled');
  };

  private end(end: LeaseEnd): void {
    if (this.over) return;
    this.stop();
    this.options.onEnd(end);
  }
}
