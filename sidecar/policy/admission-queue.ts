/**
 * Who may come in, who waits, and who is better told at once to come back later. Pure: callers are nodes of an
 * intrusive list, time and randomness come in.
 *
 *                ┌── a slot is free ─────────────────────────▶ admitted ──leave()──▶ gone
 *     enter() ───┼── it will be in time ──▶ queued ──next()────▲
 *                │                            │  ├─ can't be in time any more ──▶ refused, given out by expired()
 *                │                            │  └─ has waited for max_wait ────▶ refused, given out by overdue()
 *                │                            └─ cancel(): its caller left
 *                └── queue full, or the wait too long for its deadline ──▶ refused, with a pushback
 *
 * A queue is for bursts. It can't help against more calls than an agent can do; then it only makes each of them
 * late. So it is short in three ways: in number, in the wait it may mean, and, once it has been in use for two calls'
 * time without a pause, in a quarter of a call's time, which keeps all slots busy and adds a quarter to the latency, not a
 * multiple (the idea is CoDel's, RFC 8289: a queue that never empties is doing no good).
 *
 * First in, first out. Under overload others serve the newest first, since the oldest have given up
 * unseen ("Fail at Scale", ACM Queue 13(8), 2015). Here callers that give up are seen (RST_STREAM), deadlines are known
 * (grpc-timeout), and whoever can't be served in time is refused when it comes. So nobody waits in vain, and the newest
 * first would only make it so.
 *
 * The wait is estimated from what calls took lately: (calls ahead + 1) × mean service time / limit. Whether there is
 * time for the call itself is judged by the median: a call with less time left has less than an even chance, and
 * under overload its slot is worth more to another.
 *
 * Places, in and in the queue, are shared among callers (`fair-places.ts`): of those that may have another place the call that
 * came first is next. So the calls of one caller that has more than its share hold up no other caller.
 */
import { FairPlaces, Holder } from './fair-places.ts';

/** What one caller has in a queue: calls that are in, and calls that wait, oldest first. The queue alone writes it. */
export class CallerCalls {
  readonly active = new Holder();
  readonly waiting = new Holder();
  oldest: Queueable | undefined = undefined;
  newest: Queueable | undefined = undefined;
  /** Its place among the callers that wait; -1 while none of its calls does. */
  waitsAt = -1;
}

/** What a call brings to wait with; the queue alone writes it. */
export interface Queueable {
  queueOlder: Queueable | undefined;
  queueNewer: Queueable | undefined;
  /** When it began to wait; NaN while it doesn't. */
  queuedAtMs: number;
  /** Which of all that ever waited it is: of two that wait, the lower one came first. */
  queueTurn: number;
  /** When the call must be over; 0 for no deadline. Read only. */
  readonly deadlineMs: number;
  /** The same object for all calls of one caller. */
  readonly callerCalls: CallerCalls;
}

/** `no_room`: the queue is full. `no_time`: the call would not be served in time. `too_long`: the wait is too long. */
export type Entry = 'admitted' | 'queued' | 'no_room' | 'no_time' | 'too_long';

export interface AdmissionSettings {
  /** Calls at once. */
  readonly limit: number;
  /** Calls that may wait. As many as run: then nobody waits for more than about one service time. */
  readonly maxQueued: number;
  /** The longest wait, by what is estimated and by what it turns out to be. 5 s: agents' callers wait for seconds anyway, and browsers' for not much more. */
  readonly maxWaitMs: number;
}

/** Weight of the newest call in the mean: it follows a change within some twenty calls. */
const MEAN_WEIGHT = 1 / 16;
/** Step of the running median, as a share of it. */
const MEDIAN_STEP = 0.05;
const MIN_SERVICE_MS = 0.1;
/** The queue counts as standing when it has been in use for so many median service times. */
const STANDING_SERVICES = 2;
const MIN_STANDING_MS = 100;
/** Of those at once, how many may wait in a standing queue. */
const STANDING_SHARE = 1 / 4;
/** A pushback that is shorter is a retry storm, one that is longer keeps callers away when all is well again. */
const MIN_PUSHBACK_MS = 50;
const MAX_PUSHBACK_MS = 30_000;
/** Until a call has ended nothing is known of how long they take. */
const UNKNOWN_PUSHBACK_MS = 1_000;

export class AdmissionQueue<Call extends Queueable> {
  #settings: AdmissionSettings;
  readonly #places: FairPlaces;
  readonly #line: FairPlaces;
  /** Those who have calls that wait, in no order. */
  readonly #waiting: CallerCalls[] = [];
  #turns = 0;
  /** Since when somebody has been waiting, but for gaps of less than a call's time. */
  #busySinceMs = 0;
  #emptySinceMs = Number.NEGATIVE_INFINITY;
  #meanServiceMs = 0;
  #medianServiceMs = 0;

  constructor(settings: AdmissionSettings) {
    this.#settings = checked(settings);
    this.#places = new FairPlaces(settings.limit);
    this.#line = new FairPlaces(settings.maxQueued);
  }

  get settings(): AdmissionSettings {
    return this.#settings;
  }

  /** A lower limit turns nobody out; after a higher one, ask `next` until it gives nobody. */
  set settings(settings: AdmissionSettings) {
    this.#settings = checked(settings);
    this.#places.limit = settings.limit;
  }

  get active(): number {
    return this.#places.used;
  }

  get queued(): number {
    return this.#line.used;
  }

  /** Mean time between admission and leaving, in milliseconds; 0 while unknown. */
  get meanServiceMs(): number {
    return this.#meanServiceMs;
  }

  /** A call comes. 'admitted' must be paired with `leave`; a queued one is given out by `next` or `expired`. */
  enter(call: Call, nowMs: number): Entry {
    const { maxQueued, maxWaitMs } = this.#settings;
    const { callerCalls: caller } = call;
    const inTurn = this.queued === 0 || (caller.waiting.held === 0 && this.#inTurn === undefined);
    if (inTurn && this.#places.take(caller.active)) return 'admitted';
    this.#line.limit = this.#standing(nowMs) ? this.#standingMax : maxQueued;
    if (!this.#line.hasRoomFor(caller.waiting)) return 'no_room';
    const waitMs = this.waitMs(call);
    if (waitMs > maxWaitMs) return 'too_long';
    if (call.deadlineMs > 0 && nowMs + waitMs + this.#medianServiceMs > call.deadlineMs) return 'no_time';
    this.#append(call, nowMs);
    return 'queued';
  }

  /** A call that was admitted has ended; ask `next` afterwards. `serviceMs` is the time since its admission. */
  leave({ callerCalls }: Call, serviceMs: number): void {
    if (callerCalls.active.held === 0)
      throw new Error(
        'a call left that was not in; leave once for each call that was admitted or given by next()',
      );
    this.#places.release(callerCalls.active);
    const service = Math.max(serviceMs, MIN_SERVICE_MS);
    if (this.#medianServiceMs === 0) {
      this.#meanServiceMs = service;
      this.#medianServiceMs = service;
      return;
    }
    this.#meanServiceMs += (service - this.#meanServiceMs) * MEAN_WEIGHT;
    if (service > this.#medianServiceMs) this.#medianServiceMs *= 1 + MEDIAN_STEP;
    else if (service < this.#medianServiceMs) this.#medianServiceMs /= 1 + MEDIAN_STEP;
  }

  /**
   * The call whose turn it is, admitted; undefined when there is no place for any caller that waits, or the first in turn
   * must be refused first: so ask `expired` before.
   */
  next(nowMs: number): Call | undefined {
    const call = this.#inTurn;
    if (call === undefined || this.#isLate(call, nowMs)) return undefined;
    this.#remove(call, nowMs);
    this.#places.take(call.callerCalls.active);
    return call;
  }

  /**
   * The next in turn if it can't be served in time any more, taken out of the queue: answer it as if it had been
   * refused. One whose deadline leaves too little, while nobody waits behind it, may as well try.
   */
  expired(nowMs: number): Call | undefined {
    const call = this.#inTurn ?? this.#oldest;
    if (call === undefined || !this.#isLate(call, nowMs)) return undefined;
    this.#remove(call, nowMs);
    return call;
  }

  /** The oldest, if it has waited for as long as a call may, taken out of the queue. */
  overdue(nowMs: number): Call | undefined {
    const call = this.#oldest;
    if (call === undefined || nowMs < call.queuedAtMs + this.#settings.maxWaitMs) return undefined;
    this.#remove(call, nowMs);
    return call;
  }

  /** When there will be one, unless its turn comes first; Infinity while nobody waits. For a timer. */
  get overdueAtMs(): number {
    const call = this.#oldest;
    return call === undefined ? Number.POSITIVE_INFINITY : call.queuedAtMs + this.#settings.maxWaitMs;
  }

  #isLate({ deadlineMs }: Call, nowMs: number): boolean {
    if (deadlineMs === 0) return false;
    return nowMs + (this.queued === 1 ? 0 : this.#medianServiceMs) >= deadlineMs;
  }

  /** Of the callers that may have another place, the call that came first. */
  get #inTurn(): Call | undefined {
    let first: Queueable | undefined;
    for (const caller of this.#waiting) {
      const { oldest } = caller;
      if (first !== undefined && oldest!.queueTurn > first.queueTurn) continue;
      if (this.#places.hasRoomFor(caller.active)) first = oldest;
    }
    return first as Call | undefined;
  }

  /** The call that came first. */
  get #oldest(): Call | undefined {
    let first: Queueable | undefined;
    for (const { oldest } of this.#waiting)
      if (first === undefined || oldest!.queueTurn < first.queueTurn) first = oldest;
    return first as Call | undefined;
  }

  /** The caller of a waiting call left, or its deadline came; false when it was not waiting. */
  cancel(call: Call, nowMs: number): boolean {
    if (Number.isNaN(call.queuedAtMs)) return false;
    this.#remove(call, nowMs);
    return true;
  }

  /** How long a call that comes now would wait, if all that wait went before it; 0 while nothing is known. */
  get estimatedWaitMs(): number {
    return this.#waitBehindMs(this.queued);
  }

  /**
   * How long this one would. Of each other caller as many calls go before it as its own caller has then: who has many more
   * that wait has its share of the places already.
   */
  waitMs({ callerCalls: { waiting } }: Call): number {
    let ahead = 0;
    for (const other of this.#waiting) ahead += Math.min(other.waiting.held, waiting.held + 1);
    return this.#waitBehindMs(ahead);
  }

  #waitBehindMs(calls: number): number {
    return (this.#meanServiceMs * (calls + 1)) / Math.max(this.#settings.limit, 1);
  }

  /**
   * What a refused caller should wait: until those who wait now have been served, and up to as long again, so that
   * those who were refused together don't come back together. `random` is in [0, 1).
   */
  pushbackMs(random: number): number {
    if (this.#meanServiceMs === 0) return UNKNOWN_PUSHBACK_MS * (1 + random);
    const clamped = Math.min(Math.max(this.estimatedWaitMs, MIN_PUSHBACK_MS), MAX_PUSHBACK_MS / 2);
    return clamped * (1 + random);
  }

  #standing(nowMs: number): boolean {
    // Until a call has ended nothing is known of how long a queue may be in use.
    if (this.#medianServiceMs === 0 || this.#wasIdle(nowMs)) return false;
    const standingMs = Math.max(this.#medianServiceMs * STANDING_SERVICES, MIN_STANDING_MS);
    return nowMs - this.#busySinceMs > standingMs;
  }

  /** A short queue is empty now and then, under the heaviest load, too: that alone ends nothing. */
  #wasIdle(nowMs: number): boolean {
    return this.queued === 0 && nowMs - this.#emptySinceMs > this.#medianServiceMs;
  }

  get #standingMax(): number {
    const { limit, maxQueued } = this.#settings;
    return Math.min(Math.max(Math.floor(limit * STANDING_SHARE), 1), maxQueued);
  }

  #append(call: Call, nowMs: number): void {
    if (!Number.isNaN(call.queuedAtMs)) throw new Error('the call waits already; enter it once');
    if (this.#wasIdle(nowMs)) this.#busySinceMs = nowMs;
    const { callerCalls: caller } = call;
    const last = caller.newest;
    call.queuedAtMs = nowMs;
    call.queueTurn = this.#turns++;
    call.queueOlder = last;
    call.queueNewer = undefined;
    caller.newest = call;
    if (last === undefined) {
      caller.oldest = call;
      caller.waitsAt = this.#waiting.push(caller) - 1;
    } else last.queueNewer = call;
    this.#line.take(caller.waiting);
  }

  #remove(call: Call, nowMs: number): void {
    const { callerCalls: caller, queueOlder: older, queueNewer: newer } = call;
    if (older === undefined) caller.oldest = newer;
    else older.queueNewer = newer;
    if (newer === undefined) caller.newest = older;
    else newer.queueOlder = older;
    call.queueOlder = undefined;
    call.queueNewer = undefined;
    call.queuedAtMs = Number.NaN;
    this.#line.release(caller.waiting);
    if (caller.waiting.held === 0) this.#waitsNoMore(caller);
    if (this.queued === 0) this.#emptySinceMs = nowMs;
  }

  #waitsNoMore(caller: CallerCalls): void {
    const last = this.#waiting.pop()!;
    if (last !== caller) {
      this.#waiting[caller.waitsAt] = last;
      last.waitsAt = caller.waitsAt;
    }
    caller.waitsAt = -1;
  }
}

function checked(settings: AdmissionSettings): AdmissionSettings {
  for (const [name, value] of Object.entries(settings)) {
    if (!(value >= 0)) throw new RangeError(`${name} is ${value}; give a number, 0 or more`);
  }
  return settings;
}
