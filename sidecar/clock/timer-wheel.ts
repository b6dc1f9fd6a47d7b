/**
 * A hierarchical timer wheel. One wheel holds every deadline of the data path: calls, attempts, keepalive, idle streams.
 *
 * A sidecar arms and cancels several timers a call, and almost none of them ever fires. So arming and cancelling are
 * O(1) and allocate nothing: each timer brings its list node.
 *
 *     level 3   64 slots of 262,144 ticks   ── every 262,144 ticks, a slot's timers move to the levels below
 *     level 2   64 slots of   4,096 ticks   ──┐
 *     level 1   64 slots of      64 ticks   ──┤ cascade
 *     level 0   64 slots of       1 tick    ◀─┘ fires
 *
 * With ticks of 10 ms the four levels span 46 hours. A timer further away waits in the last slot that it can reach, and
 * the wheel places it again from there.
 */

const LEVELS = 4;
const SLOTS = 64;
const SLOT_MASK = SLOTS - 1;
const LEVEL_SPANS: readonly number[] = [1, SLOTS, SLOTS ** 2, SLOTS ** 3];
const WHEEL_SPAN = SLOTS ** LEVELS;
const NOT_ARMED = -1;

/**
 * A timer's node in a slot's circular list. A node without a timer is the slot's sentinel, which saves special cases.
 *
 * The node is an object of its own because there are many classes of timers: with these fields in six classes every
 * access was megamorphic, and arming took three times as long.
 */
class TimerNode {
  readonly timer: Timer | undefined;
  next: TimerNode | undefined;
  previous: TimerNode | undefined;
  tick = 0;
  level = NOT_ARMED;

  constructor(timer: Timer | undefined) {
    this.timer = timer;
    const neighbour = timer === undefined ? this : undefined;
    this.next = neighbour;
    this.previous = neighbour;
  }
}

/** A timer of a {@link TimerWheel}, armed on one wheel at a time. Extend it, or hold one per deadline. */
export abstract class Timer {
  /** Only the wheel uses it. */
  readonly timerNode = new TimerNode(this);

  /** The wheel calls it once when the timer is due. The timer is no longer armed then, and may be armed again. */
  abstract onTimeout(nowMs: number): void;

  get armed(): boolean {
    return this.timerNode.level !== NOT_ARMED;
  }
}

/** The wheel calls it when a timer is armed for a time before the one that the driver sleeps until. */
export type Waker = (atMs: number) => void;

export class TimerWheel {
  readonly tickMs: number;
  private readonly slots: readonly TimerNode[];
  private readonly levelSizes = [0, 0, 0, 0];
  private armed = 0;
  /** Every timer due at or before this tick has fired. */
  private tick = 0;
  /** While `advance` runs, the tick that it runs to: timers that a callback arms fire after it. */
  private targetTick = 0;
  private advancing = false;
  private wakeTick = Number.NEGATIVE_INFINITY;
  private waker: Waker | undefined;

  constructor(options: { tickMs?: number } = {}) {
    this.tickMs = options.tickMs ?? 10;
    if (!Number.isInteger(this.tickMs) || this.tickMs < 1) {
      throw new RangeError(`tickMs is ${this.tickMs}; give a whole number of milliseconds, 1 or more`);
    }
    this.slots = Array.from({ length: LEVELS * SLOTS }, () => new TimerNode(undefined));
  }

  get size(): number {
    return this.armed;
  }

  /**
   * Arms `timer` to fire at the first `advance` at or after `atMs`: where `advance` is called at each tick, at most one
   * tick late. A timer armed for a time that has passed fires at the next tick. Arming an armed timer moves it.
   */
  arm(timer: Timer, atMs: number): void {
    if (Number.isNaN(atMs)) throw new RangeError('a timer was armed for NaN; give a time in milliseconds');
    const node = timer.timerNode;
    if (node.level !== NOT_ARMED) this.unlink(node);
    const tick = Math.ceil(atMs / this.tickMs);
    // A callback that arms itself for "now" must not keep `advance` from ending.
    node.tick = tick > this.targetTick ? tick : this.targetTick + 1;
    this.place(node);
    if (node.tick < this.wakeTick) this.waker?.(node.tick * this.tickMs);
  }

  /** Does nothing when the timer is not armed. */
  cancel(timer: Timer): void {
    const node = timer.timerNode;
    if (node.level !== NOT_ARMED) this.unlink(node);
  }

  /**
   * Fires every timer due at `nowMs`. A callback that throws doesn't keep the others from firing: `advance` throws the
   * error (an AggregateError for several) after the last one. A call with an earlier time than the last does nothing.
   */
  advance(nowMs: number): void {
    const target = Math.floor(nowMs / this.tickMs);
    if (this.advancing || !(target > this.tick)) return;
    this.advancing = true;
    this.targetTick = target;
    let errors: unknown[] | undefined;
    while (this.tick < target) {
      this.tick = this.nextBusyTick(target);
      if ((this.tick & SLOT_MASK) === 0) this.cascade();
      const end = this.slots[this.tick & SLOT_MASK]!;
      for (let node = end.next!; node !== end; node = end.next!) {
        this.unlink(node);
        try {
          node.timer!.onTimeout(nowMs);
        } catch (error) {
          errors ??= [];
          errors.push(error);
        }
      }
    }
    this.advancing = false;
    if (errors !== undefined) {
      throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'several timers failed');
    }
  }

  /**
   * Returns when to call `advance` next: no later than the first timer is due, and exactly then when it is due in less
   * than 64 ticks. Undefined when no timer is armed. Reads up to 256 slots.
   */
  nextAtMs(): number | undefined {
    if (this.armed === 0) return undefined;
    let next = Number.POSITIVE_INFINITY;
    for (let level = 0; level < LEVELS; level++) {
      if (this.levelSizes[level] === 0) continue;
      const span = LEVEL_SPANS[level]!;
      const current = Math.floor(this.tick / span);
      for (let ahead = 1; ahead <= SLOTS; ahead++) {
        const end = this.slots[level * SLOTS + ((current + ahead) & SLOT_MASK)]!;
        if (end.next === end) continue;
        next = Math.min(next, (current + ahead) * span);
        break;
      }
    }
    return next * this.tickMs;
  }

  /** For the driver: from now on the wheel calls `waker` when a timer is armed for a time before `atMs`. */
  wakeBefore(atMs: number, waker: Waker | undefined): void {
    this.wakeTick = waker === undefined ? Number.NEGATIVE_INFINITY : Math.floor(atMs / this.tickMs);
    this.waker = waker;
  }

  /** Returns the next tick at which a timer can fire or cascade, and skips empty stretches. */
  private nextBusyTick(target: number): number {
    if (this.armed === 0) return target;
    let next = this.tick + 1;
    for (let level = 0; level < LEVELS - 1 && this.levelSizes[level] === 0; level++) {
      const span = LEVEL_SPANS[level + 1]!;
      next = (Math.floor(this.tick / span) + 1) * span;
    }
    return Math.min(next, target);
  }

  private place(node: TimerNode): void {
    const ahead = node.tick - this.tick;
    let level = 0;
    while (level < LEVELS - 1 && ahead >= LEVEL_SPANS[level + 1]!) level++;
    const reachable = ahead < WHEEL_SPAN ? node.tick : this.tick + WHEEL_SPAN - 1;
    const end = this.slots[level * SLOTS + ((reachable / LEVEL_SPANS[level]!) & SLOT_MASK)]!;
    const last = end.previous!;
    node.previous = last;
    node.next = end;
    last.next = node;
    end.previous = node;
    node.level = level;
    this.levelSizes[level]!++;
    this.armed++;
  }

  private unlink(node: TimerNode): void {
    const previous = node.previous!;
    const next = node.next!;
    previous.next = next;
    next.previous = previous;
    // A finished call that still pointed at its neighbours would keep the collector from freeing them.
    node.next = undefined;
    node.previous = undefined;
    this.levelSizes[node.level]!--;
    node.level = NOT_ARMED;
    this.armed--;
  }

  /** At the start of a level's slot, moves its timers to the levels below, the highest level first. */
  private cascade(): void {
    let top = 1;
    while (top < LEVELS - 1 && this.tick % LEVEL_SPANS[top + 1]! === 0) top++;
    for (let level = top; level > 0; level--) {
      if (this.levelSizes[level] === 0) continue;
      const end = this.slots[level * SLOTS + ((this.tick / LEVEL_SPANS[level]!) & SLOT_MASK)]!;
      // The loop ends, because no timer can be placed in the slot that begins now: its timers are due within its span
      // and go to a level below, and those beyond the wheel's span go to the slot that has just ended.
      for (let node = end.next!; node !== end; node = end.next!) {
        this.unlink(node);
        this.place(node);
      }
    }
  }
}
