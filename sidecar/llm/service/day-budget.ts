/** Bounds the tokens or the money that a caller of the service uses in a day of UTC, at all replicas together. */
import type { Fetched, LeasedShare, SharePart } from '../../policy/leased-share.ts';
import { showUsd } from '../../policy/money.ts';
import type { Reservation, Shortage, TokenSource } from '../../policy/token-budget.ts';

interface DayReservation extends Reservation {
  readonly part: SharePart;
}

export class DayBudget implements TokenSource {
  private readonly share: LeasedShare;
  private readonly caller: string;
  private readonly wallClock: () => number;
  private readonly unit: 'tokens' | 'usd';

  /** @param share of the tokens of a day, or of its nano-dollars */
  constructor(share: LeasedShare, caller: string, wallClock: () => number, unit: 'tokens' | 'usd') {
    this.unit = unit;
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
      message: `the caller ${caller} has used its ${this.show(share.most)} of this day (llm.callers[].budget.${this.unit}_per_day), or other replicas hold the rest`,
      againMs: share.endsAtMs(nowMs) - nowMs,
    };
  }

  private show(amount: number): string {
    return this.unit === 'tokens' ? `${amount} tokens` : showUsd(amount);
  }

  fetch(tokens: number): Promise<Fetched> {
    return this.share.fetch(tokens, this.wallClock);
  }
}
