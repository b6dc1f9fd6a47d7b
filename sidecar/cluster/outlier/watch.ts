import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { OutlierDetector, type OutlierEvent } from './detector.ts';
import type { OutlierSettings } from './outlier-settings.ts';

/** How often a cluster with something to wait for is looked at; the detector's own waits are coarser. */
const TICK_MS = 250;

/** Runs a cluster's outlier detector: gives it time while it needs any, and tells of what it decides. */
export class OutlierWatch extends Timer {
  readonly detector: OutlierDetector;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly onEvent: (event: OutlierEvent) => void;
  /** Ejections ever, by reason. */
  readonly ejections = new Map<string, number>();
  private closed = false;

  constructor(
    settings: OutlierSettings,
    wheel: TimerWheel,
    clock: () => number,
    onEvent: (event: OutlierEvent) => void,
  ) {
    super();
    this.detector = new OutlierDetector(settings);
    this.wheel = wheel;
    this.clock = clock;
    this.onEvent = onEvent;
  }

  /** Something runs or waits that time may change: `tick` follows until nothing does. */
  wake(nowMs: number): void {
    if (!this.armed && !this.closed) this.wheel.arm(this, nowMs + TICK_MS);
  }

  override onTimeout(nowMs: number): void {
    for (const event of this.detector.tick(nowMs)) this.tell(event);
    if (this.detector.nextAtMs(nowMs) !== Number.POSITIVE_INFINITY) this.wake(nowMs);
  }

  tell(event: OutlierEvent | undefined): void {
    if (event === undefined) return;
    if (event.kind === 'ejected') {
      this.ejections.set(event.reason, (this.ejections.get(event.reason) ?? 0) + 1);
    }
    this.wake(this.clock());
    this.onEvent(event);
  }

  update(settings: OutlierSettings): void {
    for (const event of this.detector.update(settings, this.clock())) this.tell(event);
  }

  close(): void {
    this.closed = true;
    this.wheel.cancel(this);
  }
}
