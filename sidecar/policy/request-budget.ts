/** Bounds one request in tokens and in money at once: both are reserved, or neither is. Pure. */
import type { Fetched } from './leased-share.ts';
import type { Reservation, Shortage, TokenSource } from './token-budget.ts';

/** The most that an attempt may use. */
export interface Most {
  readonly tokens: number;
  /** Nano-dollars. */
  readonly nanos: number;
}

/** What an attempt has reserved; settle it once. */
export interface Reserved {
  readonly most: Most;
  readonly tokens: Reservation | undefined;
  readonly money: Reservation | undefined;
}

export class RequestBudget {
  /** Undefined without a bound in tokens. */
  readonly tokens: TokenSource | undefined;
  /** Undefined without a bound in money; its unit is the nano-dollar. */
  readonly money: TokenSource | undefined;

  constructor(tokens: TokenSource | undefined, money: TokenSource | undefined) {
    this.tokens = tokens;
    this.money = money;
  }

  /** Returns a budget of the given sources; undefined without any. */
  static of(tokens: TokenSource | undefined, money: TokenSource | undefined): RequestBudget | undefined {
    return tokens === undefined && money === undefined ? undefined : new RequestBudget(tokens, money);
  }

  /** Undefined where one of the two has less left. */
  reserve(most: Most): Reserved | undefined {
    const tokens = this.tokens?.reserve(most.tokens);
    if (this.tokens !== undefined && tokens === undefined) return undefined;
    const money = this.money?.reserve(most.nanos);
    if (this.money !== undefined && money === undefined) {
      if (tokens !== undefined) this.tokens?.settle(tokens, 0);
      return undefined;
    }
    return { most, tokens, money };
  }

  /** Replaces the reservation by the real use. */
  settle({ tokens, money }: Reserved, used: Most): void {
    if (tokens !== undefined) this.tokens?.settle(tokens, used.tokens);
    if (money !== undefined) this.money?.settle(money, used.nanos);
  }

  /** Says why so much can't be reserved; undefined where it can. */
  shortage({ tokens, nanos }: Most): Shortage | undefined {
    return this.tokens?.shortage(tokens) ?? this.money?.shortage(nanos);
  }

  /** Gets more of what lacks from where it is shared; undefined where what is left is all there is. */
  fetch({ tokens, nanos }: Most): Promise<Fetched> | undefined {
    if (this.tokens !== undefined && tokens > this.tokens.left) return this.tokens.fetch?.(tokens);
    return this.money?.fetch?.(nanos);
  }
}
