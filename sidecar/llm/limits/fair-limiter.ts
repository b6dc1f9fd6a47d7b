/**
 * Shares requests and tokens a minute fairly among callers. Pure: the time comes in, in milliseconds that never go
 * back, and `minute-gate.ts` calls `grant` at the time that `nextAtMs` names.
 *
 * Both limits are buckets that refill steadily and hold a minute's worth. A request takes what it may use at most
 * (its reservation) when it is admitted, and gives back what it did not use when it has ended. A request that used more
 * leaves the bucket below zero, and the next requests wait until it has refilled.
 *
 * Start-time fair queueing (Goyal, Vin, Cheng 1996) admits the waiting requests: each caller has a virtual time that its
 * requests advance by what they reserve, and the caller that is furthest behind is next. A caller that floods waits
 * behind itself; a caller with a single request does not wait behind the flood.
 */

export interface FairLimits {
  /** 0 is no limit. */
  readonly requestsPerMinute: number;
  readonly tokensPerMinute: number;
  /** Requests at a time; 0 is no limit. */
  readonly concurrent?: number;
  /** More requests do not wait: they are turned away. */
  readonly maxWaiting?: number;
}

/** A request that waits or was admitted. */
export interface Ticket {
  readonly caller: string;
  /** The reservation, which the bucket gives when the request is admitted. */
  readonly tokens: number;
  granted: boolean;
  /** The virtual time of its turn. */
  readonly start: number;
}

const MINUTE_MS = 60_000;
/** The limiter remembers so many callers without a waiting request, for their debts, before it looks through them. */
const IDLE_CALLERS = 256;

class Bucket {
  perMinute: number;
  private lastLevel: number;
  private atMs: number;

  constructor(perMinute: number, nowMs: number) {
    this.perMinute = perMinute;
    this.lastLevel = perMinute;
    this.atMs = nowMs;
  }

  level(nowMs: number): number {
    if (nowMs > this.atMs) {
      this.lastLevel = Math.min(
        this.perMinute,
        this.lastLevel + ((nowMs - this.atMs) * this.perMinute) / MINUTE_MS,
      );
      this.atMs = nowMs;
    }
    return this.lastLevel;
  }

  take(amount: number): void {
    this.lastLevel -= amount;
  }

  /** A full bucket admits a request that is larger than it; the requests after it wait until the debt is paid. */
  freeAtMs(amount: number, nowMs: number): number {
    if (this.perMinute === 0) return nowMs;
    const missing = Math.min(amount, this.perMinute) - this.level(nowMs);
    // The sums of parts may be off by a millionth.
    return missing <= 1e-6 ? nowMs : nowMs + (missing * MINUTE_MS) / this.perMinute;
  }
}

interface Caller {
  readonly waiting: Ticket[];
  /** The virtual time at which its last request is done. */
  finish: number;
}

export class FairLimiter {
  private requests: Bucket;
  private tokens: Bucket;
  private readonly callers = new Map<string, Caller>();
  private virtualNow = 0;
  private waitingCount = 0;
  private running = 0;
  private concurrent: number;

  constructor(limits: FairLimits, nowMs: number) {
    this.requests = new Bucket(limits.requestsPerMinute, nowMs);
    this.tokens = new Bucket(limits.tokensPerMinute, nowMs);
    this.concurrent = limits.concurrent ?? 0;
  }

  get waiting(): number {
    return this.waitingCount;
  }

  /** New limits apply at once. What was used stays used, as far as the new bucket holds so much. */
  setLimits(limits: FairLimits, nowMs: number): void {
    this.concurrent = limits.concurrent ?? 0;
    for (const [bucket, perMinute] of [
      [this.requests, limits.requestsPerMinute],
      [this.tokens, limits.tokensPerMinute],
    ] as const) {
      const used = bucket.perMinute - bucket.level(nowMs);
      const hadNone = bucket.perMinute === 0;
      bucket.perMinute = perMinute;
      bucket.take(bucket.level(nowMs) - (hadNone ? perMinute : perMinute - used));
    }
  }

  /** Adds a request to its caller's line; `grant` admits it, perhaps at once. */
  enter(caller: string, tokens: number): Ticket {
    let line = this.callers.get(caller);
    if (line === undefined) {
      line = { waiting: [], finish: 0 };
      this.callers.set(caller, line);
    }
    const start = Math.max(this.virtualNow, line.finish);
    line.finish = start + Math.max(1, tokens);
    const ticket: Ticket = { caller, tokens, granted: false, start };
    line.waiting.push(ticket);
    this.waitingCount++;
    return ticket;
  }

  /** The request waits no longer. */
  leave(ticket: Ticket): void {
    const line = this.callers.get(ticket.caller);
    const index = line?.waiting.indexOf(ticket) ?? -1;
    if (line === undefined || index < 0) return;
    line.waiting.splice(index, 1);
    this.waitingCount--;
    this.forget(ticket.caller, line);
  }

  /** Admits the next request if it may go now. */
  grant(nowMs: number): Ticket | undefined {
    const next = this.next();
    if (next === undefined || this.freeAtMs(next, nowMs) > nowMs) return undefined;
    const line = this.callers.get(next.caller)!;
    line.waiting.shift();
    this.waitingCount--;
    this.virtualNow = Math.max(this.virtualNow, next.start);
    this.requests.take(1);
    this.tokens.take(next.tokens);
    next.granted = true;
    this.running++;
    this.forget(next.caller, line);
    return next;
  }

  /** An admitted request has ended: it gives back what it did not use. */
  settle(ticket: Ticket, usedTokens: number): void {
    if (!ticket.granted) return;
    ticket.granted = false;
    this.running--;
    this.tokens.take(usedTokens - ticket.tokens);
  }

  /** An admitted request was never sent. */
  giveBack(ticket: Ticket): void {
    if (ticket.granted) this.requests.take(-1);
    this.settle(ticket, 0);
  }

  /** Whether a request that came now would have to wait. */
  isFull(tokens: number, nowMs: number): boolean {
    if (this.waitingCount > 0) return true;
    return (this.concurrent > 0 && this.running >= this.concurrent) || this.waitMs(tokens, nowMs) > 0;
  }

  /** When `grant` will admit the next request; Infinity when none waits. */
  nextAtMs(nowMs: number): number {
    const next = this.next();
    return next === undefined ? Number.POSITIVE_INFINITY : this.freeAtMs(next, nowMs);
  }

  /** The number of requests that were admitted and have not ended. */
  get active(): number {
    return this.running;
  }

  /** How long a request that came now would wait at least, with no other before it; nobody knows when a running one ends. */
  waitMs(tokens: number, nowMs: number): number {
    return Math.max(this.requests.freeAtMs(1, nowMs), this.tokens.freeAtMs(tokens, nowMs)) - nowMs;
  }

  private freeAtMs(ticket: Ticket, nowMs: number): number {
    if (this.concurrent > 0 && this.running >= this.concurrent) return Number.POSITIVE_INFINITY;
    return Math.max(this.requests.freeAtMs(1, nowMs), this.tokens.freeAtMs(ticket.tokens, nowMs));
  }

  private next(): Ticket | undefined {
    if (this.waitingCount === 0) return undefined;
    let best: Ticket | undefined;
    for (const { waiting } of this.callers.values()) {
      const first = waiting[0];
      if (first !== undefined && (best === undefined || first.start < best.start)) best = first;
    }
    return best;
  }

  /** Forgets a caller without requests whose virtual time is over: it has no more claims or debts than a new one. */
  private forget(name: string, line: Caller): void {
    if (this.waitingCount === 0) {
      // No request waits, so there are no turns to share.
      this.callers.clear();
      return;
    }
    if (line.waiting.length === 0 && line.finish <= this.virtualNow) this.callers.delete(name);
    if (this.callers.size <= 2 * this.waitingCount + IDLE_CALLERS) return;
    for (const [other, { waiting, finish }] of this.callers)
      if (waiting.length === 0 && finish <= this.virtualNow) this.callers.delete(other);
  }
}
