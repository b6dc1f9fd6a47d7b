/**
 * Bounds the tokens and the money of whoever they belong to: a task, a caller, a caller's day. Pure.
 *
 *     spent + reserved ≤ limit, in tokens and in money
 *
 * Money is a whole number of nano-dollars (1 USD is 1,000,000,000): sums of whole numbers never drift, and up to nine
 * million dollars they are exact.
 */

export const NANOS_PER_USD = 1_000_000_000;

/** What is limited: tokens, or money in nano-dollars. Infinity is no limit. */
export interface Limit {
  readonly tokens: number;
  readonly nanos: number;
}

export const NO_LIMIT: Limit = { tokens: Number.POSITIVE_INFINITY, nanos: Number.POSITIVE_INFINITY };

/** What a request takes. Undefined is unknown: a budget that limits such an amount can't be kept, so it refuses. */
export interface Amount {
  readonly tokens: number | undefined;
  /** Nano-dollars. */
  readonly nanos: number | undefined;
}

/** The two things that a budget can lack. */
export type Unit = 'tokens' | 'usd';

export class Budget {
  private max: Limit;
  private spentTokens = 0;
  private spentMoney = 0;
  private reservedTokens = 0;
  private reservedMoney = 0;

  /** Throws RangeError. */
  constructor(limit: Limit) {
    this.max = checked(limit);
  }

  get limit(): Limit {
    return this.max;
  }

  get spent(): Limit {
    return { tokens: this.spentTokens, nanos: this.spentMoney };
  }

  get reserved(): Limit {
    return { tokens: this.reservedTokens, nanos: this.reservedMoney };
  }

  /** What can still be reserved. */
  get left(): Limit {
    const { tokens, nanos } = this.max;
    return {
      tokens: Math.max(0, tokens - this.spentTokens - this.reservedTokens),
      nanos: Math.max(0, nanos - this.spentMoney - this.reservedMoney),
    };
  }

  /** Sets another limit; what is spent and reserved stays. A limit below that leaves nothing. Throws RangeError. */
  limitTo(limit: Limit): void {
    this.max = checked(limit);
  }

  /** Counts what was spent elsewhere: before a restart, or at another replica. */
  addSpent({ tokens, nanos }: Limit): void {
    this.spentTokens += tokens;
    this.spentMoney += nanos;
  }

  /** Says which unit has no room for an amount; undefined where both have. */
  lacks({ tokens, nanos }: Amount): Unit | undefined {
    const { left, max } = this;
    // Written so that NaN lacks, too.
    if (Number.isFinite(max.tokens) && !((tokens ?? Number.NaN) <= left.tokens)) return 'tokens';
    if (Number.isFinite(max.nanos) && !((nanos ?? Number.NaN) <= left.nanos)) return 'usd';
    return undefined;
  }

  /** Use it after {@link lacks}, in the same turn. */
  take({ tokens = 0, nanos = 0 }: Amount): void {
    this.reservedTokens += tokens;
    this.reservedMoney += nanos;
  }

  /** Replaces what was taken by the real use; a use above it leaves less for the rest. */
  settle(taken: Amount, used: Limit): void {
    this.reservedTokens -= taken.tokens ?? 0;
    this.reservedMoney -= taken.nanos ?? 0;
    this.spentTokens += used.tokens;
    this.spentMoney += used.nanos;
  }
}

function checked(limit: Limit): Limit {
  const { tokens, nanos } = limit;
  if (!(tokens >= 0) || !(nanos >= 0))
    throw new RangeError(`a budget is ${tokens} tokens and ${nanos} nano-dollars; give numbers, 0 or more`);
  return limit;
}
