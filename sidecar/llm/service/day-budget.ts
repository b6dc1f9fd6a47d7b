/** Bounds what a caller of the service uses in a day of UTC, at all replicas together. */
import type { Fetched, LeasedShare, SharePart } from '../../policy/leased-share.ts';
import type { Reservation, Shortage, TokenSource } from '../../policy/token-budget.ts';

interface DayReservation extends Reservation {
  readonly part: SharePart;
}

export class DayBudget implements TokenSource {
  private readonly share: LeasedShare;
  private readonly caller: string;
  private readonly wallClock: () => number;

  /** @param share of the tokens of a day */
  constructor(share: LeasedShare, caller: string, wallClock: () => number) {
    this.share = share;
    this.caller = caller;
    this.wallClock = wallClock;
  }

  get left(): number {
    return this.share.left(this.wallClock());
  }

  reserve(tokens: number): DayReservation | undefined {
    const part = this.share.reserve(tokens, this.wallClock());
    return part && { tokens, part };
  }

  settle(reservation: DayReservation, usedTokens: number): void {
    reservation.tokens = -1;
    this.share.settle(reservation.part, usedTokens, this.wallClock());
  }

  shortage(tokens: number): Shortage | undefined {
    const { left, share, caller } = this;
    if (tokens <= left) return undefined;
    const nowMs = this.wallClock();
    return {
      message: `the caller ${caller} has used its ${share.most} tokens of this day (llm.callers[].budget.tokens_per_day), or other replicas hold the rest`,
      againMs: share.endsAtMs(nowMs) - nowMs,
    };
  }

  fetch(tokens: number): Promise<Fetched> {
    return this.share.fetch(tokens, this.wallClock);
  }
}
