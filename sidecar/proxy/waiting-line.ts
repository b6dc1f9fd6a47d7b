/** Streams that wait, each for the same time. */

import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { LinkedList, ListNode } from '../collections/linked-list.ts';

/** A place in a line. */
export class LinePlace<Waiter> extends ListNode<LinePlace<Waiter>> {
  readonly waiter: Waiter;
  readonly untilMs: number;
  private readonly line: { remove(place: LinePlace<Waiter>): void };

  constructor(line: { remove(place: LinePlace<Waiter>): void }, waiter: Waiter, untilMs: number) {
    super();
    this.line = line;
    this.waiter = waiter;
    this.untilMs = untilMs;
  }

  /** Does nothing when it was left already. */
  leave(): void {
    if (this.listed) this.line.remove(this);
  }
}

/** Those who wait, the one that came first at the front. */
export class WaitingLine<Waiter> extends Timer {
  size = 0;
  private readonly places = new LinkedList<LinePlace<Waiter>>();
  private readonly wheel: TimerWheel;
  private readonly onDue: (waiter: Waiter) => void;

  /** @param onDue the time of this one, who has left the line, is over */
  constructor(wheel: TimerWheel, onDue: (waiter: Waiter) => void) {
    super();
    this.wheel = wheel;
    this.onDue = onDue;
  }

  get first(): Waiter | undefined {
    return this.places.oldest?.waiter;
  }

  *[Symbol.iterator](): Generator<Waiter> {
    for (let place = this.places.oldest; place !== undefined; place = place.newer) yield place.waiter;
  }

  add(waiter: Waiter, untilMs: number): LinePlace<Waiter> {
    const place = new LinePlace(this, waiter, untilMs);
    this.places.add(place);
    this.size++;
    if (!this.armed) this.wheel.arm(this, untilMs);
    return place;
  }

  /** Use {@link LinePlace.leave}. */
  remove(place: LinePlace<Waiter>): void {
    this.places.remove(place);
    if (--this.size === 0) this.wheel.cancel(this);
  }

  stop(): void {
    this.wheel.cancel(this);
  }

  override onTimeout(nowMs: number): void {
    for (let place = this.places.oldest; place !== undefined; place = this.places.oldest) {
      if (place.untilMs > nowMs) {
        this.wheel.arm(this, place.untilMs);
        return;
      }
      this.remove(place);
      this.onDue(place.waiter);
    }
  }
}
