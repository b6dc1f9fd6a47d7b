/** Connects the pure outlier detector with timers and events. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { OutlierDetector, type OutlierEvent } from './detector.ts';
import type { OutlierSettings } from './outlier-settings.ts';

/** How often the detector ticks while it has something to wait for; its own waits are coarser. */
const TICK_MS = 250;

/** Runs a cluster's outlier detector: calls `tick` while the detector needs it, and reports its events. */
export class OutlierWatch extends Timer {
  readonly detector: OutlierDetector;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly onEvent: (event: OutlierEvent) => void;
  /** All ejections since the start, by reason. */
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

  /** Starts the ticks; they go on until the detector has nothing to wait for. */
  wake(nowMs: number): void {
    if (!this.armed && !this.closed) this.wheel.arm(this, nowMs + TICK_MS);
  }

  override onTimeout(nowMs: number): void {
    for (const event of this.detector.tick(nowMs)) this.report(event);
    if (this.detector.nextAtMs(nowMs) !== Number.POSITIVE_INFINITY) this.wake(nowMs);
  }

  report(event: OutlierEvent | undefined): void {
    if (event === undefined) return;
    if (event.kind === 'ejected') {
      this.ejections.set(event.reason, (this.ejections.get(event.reason) ?? 0) + 1);
    }
    this.wake(this.clock());
    this.onEvent(event);
  }

  update(settings: OutlierSettings): void {
    for (const event of this.detector.update(settings, this.clock())) this.report(event);
  }

  close(): void {
    this.closed = true;
    this.wheel.cancel(this);
  }
}
