/**
 * Decides which calls are admitted, which wait, and which are refused at once with a pushback. Pure: callers are nodes
 * of an intrusive list, time and randomness come in.
 *
 *                ┌── a slot is free ─────────────────────────▶ admitted ──leave()──▶ ended
 *     enter() ───┼── it will be in time ──▶ queued ──next()────▲
 *                │                            │  ├─ can't be in time any more ──▶ refused, returned by expired()
 *                │                            │  └─ has waited for max_wait ────▶ refused, returned by overdue()
 *                │                            └─ cancel(): its caller left
 *                └── queue full, or the wait too long for its deadline ──▶ refused, with a pushback
 *
 * A queue absorbs bursts. It can't help against more calls than an agent can run; then it only delays each of them. So
 * it is limited in three ways: in number, in the wait that it may cause, and, once it has been in use for two calls'
 * time without a pause, to a quarter of a call's time. That keeps all slots busy and adds a quarter to the latency, not
 * a multiple (the idea is CoDel's, RFC 8289: a queue that never empties does no good).
 *
 * First in, first out. Under overload other systems serve the newest first, since the oldest callers have given up
 * unnoticed ("Fail at Scale", ACM Queue 13(8), 2015). Here the queue sees callers that give up (RST_STREAM) and knows
 * deadlines (grpc-timeout), and it refuses at once a call that it can't serve in time. So no call waits in vain, and
 * serving the newest first would only cause that.
 *
 * The estimated wait follows from recent calls: (calls ahead + 1) × mean service time / limit. The median decides
 * whether there is time for the call itself: a call with less time left has less than an even chance, and under
 * overload its slot is worth more to another call.
 *
 * Callers share the places of running and of queued calls (`fair-places.ts`): among the callers that may have another
 * place, the call that arrived first is next. So a caller with more calls than its share delays no other caller.
 */
import type { QueueSettings } from './admission-settings.ts';
import { FairPlaces, Holder } from './fair-places.ts';

/** The calls of one caller in a queue: the running ones, and the waiting ones, oldest first. Only the queue writes it. */
export class CallerCalls {
  readonly active = new Holder();
  readonly waiting = new Holder();
  oldest: Queueable | undefined = undefined;
  newest: Queueable | undefined = undefined;
  /** The caller's index in the list of waiting callers; -1 while none of its calls waits. */
  waitsAt = -1;
}

/** The fields that a call needs for waiting; only the queue writes them. */
export interface Queueable {
  queueOlder: Queueable | undefined;
  queueNewer: Queueable | undefined;
  /** When the call started to wait; NaN while it does not wait. */
  queuedAtMs: number;
  /** The call's number among all that ever waited: of two waiting calls, the lower one arrived first. */
  queueTurn: number;
  /** When the call must be over; 0 for no deadline. The queue only reads it. */
  readonly deadlineMs: number;
  /** The same object for all calls of one caller. */
  readonly callerCalls: CallerCalls;
}

/** `no_room`: the queue is full. `no_time`: the call would not be served in time. `too_long`: the wait is too long. */
export type Entry = 'admitted' | 'queued' | 'no_room' | 'no_time' | 'too_long';

export interface QueueLimits extends QueueSettings {
  /** The number of calls that may run at once. */
  readonly limit: number;
}

/** Weight of the newest call in the mean: the mean follows a change within some twenty calls. */
const MEAN_WEIGHT = 1 / 16;
/** Step of the running median, as a share of the median. */
const MEDIAN_STEP = 0.05;
const MIN_SERVICE_MS = 0.1;
/** A queue is standing when it has been in use for this many median service times. */
const STANDING_SERVICES = 2;
const MIN_STANDING_MS = 100;
/** The share of the limit that may wait in a standing queue. */
const STANDING_SHARE = 1 / 4;
/** A shorter pushback causes a retry storm; a longer one keeps callers away after the overload is over. */
const MIN_PUSHBACK_MS = 50;
const MAX_PUSHBACK_MS = 30_000;
/** The pushback while no call has ended and service times are unknown. */
const UNKNOWN_PUSHBACK_MS = 1_000;

export class AdmissionQueue<Call extends Queueable> {
  private currentSettings: QueueLimits;
  private readonly places: FairPlaces;
  private readonly line: FairPlaces;
  /** The callers with waiting calls, in no order. */
  private readonly waiting: CallerCalls[] = [];
  private turns = 0;
  /** Since when calls have been waiting, ignoring gaps shorter than a call's time. */
  private busySinceMs = 0;
  private emptySinceMs = Number.NEGATIVE_INFINITY;
  private smoothedServiceMs = 0;
  private medianServiceMs = 0;

  constructor(settings: QueueLimits) {
    this.currentSettings = checked(settings);
    this.places = new FairPlaces(settings.limit);
    this.line = new FairPlaces(settings.maxCalls);
  }

  get settings(): QueueLimits {
    return this.currentSettings;
  }

  /** A lower limit ends no call; after a higher one, call `next` until it returns undefined. */
  set settings(settings: QueueLimits) {
    this.currentSettings = checked(settings);
    this.places.limit = settings.limit;
  }

  get active(): number {
    return this.places.used;
  }

  get queued(): number {
    return this.line.used;
  }

  /** The mean time between admission and end, in milliseconds; 0 while unknown. */
  get meanServiceMs(): number {
    return this.smoothedServiceMs;
  }

  /** A call arrived. Pair 'admitted' with `leave`; `next`, `expired` or `overdue` returns a queued one. */
  enter(call: Call, nowMs: number): Entry {
    const { maxCalls, maxWaitMs } = this.currentSettings;
    const { callerCalls: caller } = call;
    const inTurn = this.queued === 0 || (caller.waiting.held === 0 && this.inTurn === undefined);
    if (inTurn && this.places.take(caller.active)) return 'admitted';
    this.line.limit = this.standing(nowMs) ? this.standingMax : maxCalls;
    if (!this.line.hasRoomFor(caller.waiting)) return 'no_room';
    const waitMs = this.waitMs(call);
    if (waitMs > maxWaitMs) return 'too_long';
    if (call.deadlineMs > 0 && nowMs + waitMs + this.medianServiceMs > call.deadlineMs) return 'no_time';
    this.append(call, nowMs);
    return 'queued';
  }

  /** An admitted call ended; call `next` afterwards. `serviceMs` is the time since its admission. */
  leave({ callerCalls }: Call, serviceMs: number): void {
    if (callerCalls.active.held === 0)
      throw new Error(
        'a call left that was not in; leave once for each call that was admitted or given by next()',
      );
    this.places.release(callerCalls.active);
    const service = Math.max(serviceMs, MIN_SERVICE_MS);
    if (this.medianServiceMs === 0) {
      this.smoothedServiceMs = service;
      this.medianServiceMs = service;
      return;
    }
    this.smoothedServiceMs += (service - this.smoothedServiceMs) * MEAN_WEIGHT;
    if (service > this.medianServiceMs) this.medianServiceMs *= 1 + MEDIAN_STEP;
    else if (service < this.medianServiceMs) this.medianServiceMs /= 1 + MEDIAN_STEP;
  }

  /**
   * Admits and returns the next call in turn. Undefined when no waiting caller may have another place, or when the next
   * call must be refused: so call `expired` before.
   */
  next(nowMs: number): Call | undefined {
    const call = this.inTurn;
    if (call === undefined || this.isLate(call, nowMs)) return undefined;
    this.remove(call, nowMs);
    this.places.take(call.callerCalls.active);
    return call;
  }

  /**
   * Removes and returns the next call in turn if it can't be served in time any more: refuse it. A call whose deadline
   * leaves too little time may still try while no call waits behind it.
   */
  expired(nowMs: number): Call | undefined {
    const call = this.inTurn ?? this.oldest;
    if (call === undefined || !this.isLate(call, nowMs)) return undefined;
    this.remove(call, nowMs);
    return call;
  }

  /** Removes and returns the oldest call, if it has waited for the longest time that a call may. */
  overdue(nowMs: number): Call | undefined {
    const call = this.oldest;
    if (call === undefined || nowMs < call.queuedAtMs + this.currentSettings.maxWaitMs) return undefined;
    this.remove(call, nowMs);
    return call;
  }

  /** When `overdue` will return a call, unless its turn comes first; Infinity while no call waits. For a timer. */
  get overdueAtMs(): number {
    const call = this.oldest;
    return call === undefined ? Number.POSITIVE_INFINITY : call.queuedAtMs + this.currentSettings.maxWaitMs;
  }

  private isLate({ deadlineMs }: Call, nowMs: number): boolean {
    if (deadlineMs === 0) return false;
    return nowMs + (this.queued === 1 ? 0 : this.medianServiceMs) >= deadlineMs;
  }

  /** The call that arrived first, of the callers that may have another place. */
  private get inTurn(): Call | undefined {
    let first: Queueable | undefined;
    for (const caller of this.waiting) {
      const { oldest } = caller;
      if (first !== undefined && oldest!.queueTurn > first.queueTurn) continue;
      if (this.places.hasRoomFor(caller.active)) first = oldest;
    }
    return first as Call | undefined;
  }

  /** The call that arrived first. */
  private get oldest(): Call | undefined {
    let first: Queueable | undefined;
    for (const { oldest } of this.waiting)
      if (first === undefined || oldest!.queueTurn < first.queueTurn) first = oldest;
    return first as Call | undefined;
  }

  /** The caller of a waiting call left, or its deadline passed; returns false when the call was not waiting. */
  cancel(call: Call, nowMs: number): boolean {
    if (Number.isNaN(call.queuedAtMs)) return false;
    this.remove(call, nowMs);
    return true;
  }

  /** How long a new call would wait behind all waiting calls; 0 while unknown. */
  get estimatedWaitMs(): number {
    return this.waitBehindMs(this.queued);
  }

  /**
   * How long this call would wait. Of each other caller, at most as many calls go before it as its own caller then has
   * waiting: a caller with many more waiting calls already has its share of the places.
   */
  waitMs({ callerCalls: { waiting } }: Call): number {
    let ahead = 0;
    for (const other of this.waiting) ahead += Math.min(other.waiting.held, waiting.held + 1);
    return this.waitBehindMs(ahead);
  }

  private waitBehindMs(calls: number): number {
    return (this.smoothedServiceMs * (calls + 1)) / Math.max(this.currentSettings.limit, 1);
  }

  /**
   * How long a refused caller should wait: until the waiting calls are served, plus a random part of up to the same
   * time, so that calls refused together do not come back together. `random` is in [0, 1).
   */
  pushbackMs(random: number): number {
    if (this.smoothedServiceMs === 0) return UNKNOWN_PUSHBACK_MS * (1 + random);
    const clamped = Math.min(Math.max(this.estimatedWaitMs, MIN_PUSHBACK_MS), MAX_PUSHBACK_MS / 2);
    return clamped * (1 + random);
  }

  private standing(nowMs: number): boolean {
    // Until a call has ended, it is unknown how long a queue may be in use.
    if (this.medianServiceMs === 0 || this.wasIdle(nowMs)) return false;
    const standingMs = Math.max(this.medianServiceMs * STANDING_SERVICES, MIN_STANDING_MS);
    return nowMs - this.busySinceMs > standingMs;
  }

  /** Even under the heaviest load a short queue is empty at times: that alone does not end its use. */
  private wasIdle(nowMs: number): boolean {
    return this.queued === 0 && nowMs - this.emptySinceMs > this.medianServiceMs;
  }

  private get standingMax(): number {
    const { limit, maxCalls } = this.currentSettings;
    return Math.min(Math.max(Math.floor(limit * STANDING_SHARE), 1), maxCalls);
  }

  private append(call: Call, nowMs: number): void {
    if (!Number.isNaN(call.queuedAtMs)) throw new Error('the call waits already; enter it once');
    if (this.wasIdle(nowMs)) this.busySinceMs = nowMs;
    const { callerCalls: caller } = call;
    const last = caller.newest;
    call.queuedAtMs = nowMs;
    call.queueTurn = this.turns++;
    call.queueOlder = last;
    call.queueNewer = undefined;
    caller.newest = call;
    if (last === undefined) {
      caller.oldest = call;
      caller.waitsAt = this.waiting.push(caller) - 1;
    } else last.queueNewer = call;
    this.line.take(caller.waiting);
  }

  private remove(call: Call, nowMs: number): void {
    const { callerCalls: caller, queueOlder: older, queueNewer: newer } = call;
    if (older === undefined) caller.oldest = newer;
    else older.queueNewer = newer;
    if (newer === undefined) caller.newest = older;
    else newer.queueOlder = older;
    call.queueOlder = undefined;
    call.queueNewer = undefined;
    call.queuedAtMs = Number.NaN;
    this.line.release(caller.waiting);
    if (caller.waiting.held === 0) this.waitsNoMore(caller);
    if (this.queued === 0) this.emptySinceMs = nowMs;
  }

  private waitsNoMore(caller: CallerCalls): void {
    const last = this.waiting.pop()!;
    if (last !== caller) {
      this.waiting[caller.waitsAt] = last;
      last.waitsAt = caller.waitsAt;
    }
    caller.waitsAt = -1;
  }
}

function checked(settings: QueueLimits): QueueLimits {
  for (const [name, value] of Object.entries(settings)) {
    if (!(value >= 0)) throw new RangeError(`${name} is ${value}; give a number, 0 or more`);
  }
  return settings;
}
