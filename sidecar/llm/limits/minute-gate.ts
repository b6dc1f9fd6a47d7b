/** Lets requests wait for the limits of a minute: it admits each one at its turn, or turns it away in time. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { FairLimiter, type FairLimits, type Ticket } from './fair-limiter.ts';

/** A request at the gate. The gate calls one of the two methods, later or at once. */
export interface Entering {
  onLetIn(ticket: Ticket): void;
  /** The limits do not admit the request in time. @param againMs after how long another try may be admitted */
  onTurnedAway(againMs: number): void;
}

interface Waiting {
  readonly entering: Entering;
  readonly timer: Patience;
}

class Patience extends Timer {
  private readonly leave: () => void;

  constructor(onTimeout: () => void) {
    super();
    this.leave = onTimeout;
  }

  override onTimeout(): void {
    this.leave();
  }
}

/** When one that is turned away may come again, where the limits of a minute do not say: a running request may have ended. */
const FULL_AGAIN_MS = 1_000;

/** Drives a {@link FairLimiter}: a request that it does not admit now waits, up to a time, and a timer admits it. */
export class MinuteGate {
  private readonly limiter: FairLimiter;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly waitingByTicket = new Map<Ticket, Waiting>();
  private readonly opener = new Patience(() => this.open());
  private currentLimits: FairLimits;

  constructor(limits: FairLimits, wheel: TimerWheel, clock: () => number) {
    this.currentLimits = limits;
    this.limiter = new FairLimiter(limits, clock());
    this.wheel = wheel;
    this.clock = clock;
  }

  get waiting(): number {
    return this.waitingByTicket.size;
  }

  /** Whether there are limits at all. */
  get limits(): boolean {
    const { requestsPerMinute, tokensPerMinute, concurrent = 0 } = this.currentLimits;
    return requestsPerMinute > 0 || tokensPerMinute > 0 || concurrent > 0;
  }

  /** Requests that it has let in and that have not ended. */
  get active(): number {
    return this.limiter.active;
  }

  /** Whether a request that came now would have to wait. */
  isFull(tokens: number): boolean {
    return this.limits && this.limiter.isFull(tokens, this.clock());
  }

  setLimits(limits: FairLimits): void {
    this.currentLimits = limits;
    this.limiter.setLimits(limits, this.clock());
    this.open();
  }

  /**
   * Requests admission with so many tokens, by a time at the latest. Returns a function that leaves the line; it does
   * nothing after the admission.
   */
  enter(caller: string, tokens: number, untilMs: number, entering: Entering): () => void {
    const { maxWaiting = Number.POSITIVE_INFINITY } = this.currentLimits;
    if (this.waiting >= maxWaiting) {
      entering.onTurnedAway(Math.max(FULL_AGAIN_MS, this.limiter.waitMs(tokens, this.clock())));
      return () => {};
    }
    const ticket = this.limiter.enter(caller, tokens);
    const leave = (): void => {
      const waiting = this.waitingByTicket.get(ticket);
      if (waiting === undefined) return;
      this.wheel.cancel(waiting.timer);
      this.waitingByTicket.delete(ticket);
      this.limiter.leave(ticket);
    };
    const turnAway = (): void => {
      leave();
      entering.onTurnedAway(Math.max(FULL_AGAIN_MS, this.limiter.waitMs(tokens, this.clock())));
    };
    const timer = new Patience(turnAway);
    this.waitingByTicket.set(ticket, { entering, timer });
    this.open();
    if (!this.waitingByTicket.has(ticket)) return leave;
    // Even with no other request before it, it would be too late: turn it away at once.
    if (this.clock() + this.limiter.waitMs(tokens, this.clock()) > untilMs) turnAway();
    else this.wheel.arm(timer, untilMs);
    return leave;
  }

  settle(ticket: Ticket, usedTokens: number): void {
    this.limiter.settle(ticket, usedTokens);
    this.open();
  }

  giveBack(ticket: Ticket): void {
    this.limiter.giveBack(ticket);
    this.open();
  }

  close(): void {
    this.wheel.cancel(this.opener);
    for (const { timer } of this.waitingByTicket.values()) this.wheel.cancel(timer);
    this.waitingByTicket.clear();
  }

  private open(): void {
    const nowMs = this.clock();
    for (let ticket = this.limiter.grant(nowMs); ticket !== undefined; ticket = this.limiter.grant(nowMs)) {
      const waiting = this.waitingByTicket.get(ticket);
      if (waiting === undefined) continue;
      this.waitingByTicket.delete(ticket);
      this.wheel.cancel(waiting.timer);
      waiting.entering.onLetIn(ticket);
    }
    const nextAtMs = this.limiter.nextAtMs(nowMs);
    if (Number.isFinite(nextAtMs)) this.wheel.arm(this.opener, nextAtMs);
    else this.wheel.cancel(this.opener);
  }
}
