/**
 * Bounds the tokens that a task may use. Pure.
 *
 * Before a request is sent, the most that it may use is reserved; when it has ended, its real use replaces the
 * reservation. So any number of concurrent requests can't use more than the total:
 *
 *     spent + reserved ≤ total
 *
 * A part can be granted to a called agent: it stays reserved here until the call has ended.
 */

/** The field of a call's metadata, or of a request's headers, that limits the tokens of its task. */
export const TOKEN_BUDGET_HEADER = 'outrigger-token-budget';

/** A whole number; -1, which means no budget, for any other text. */
export function parseTokenBudget(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : -1;
}

export interface Reservation {
  /** Below 0 once the reservation is settled. */
  tokens: number;
}

/** The source of a request's tokens: one budget, or several that must all have room. */
export interface TokenSource {
  /** The number of tokens that can still be reserved. */
  readonly left: number;
  /** Undefined when fewer tokens are left. Each reservation must be settled, even when nothing was used. */
  reserve(tokens: number): Reservation | undefined;
  /** Replaces the reservation by the real use. Further calls do nothing. */
  settle(reservation: Reservation, usedTokens: number): void;
}

export class TokenBudget implements TokenSource {
  readonly total: number;
  private spentTokens = 0;
  private reservedTokens = 0;

  /** Throws RangeError. */
  constructor(total: number) {
    if (!(total >= 0)) throw new RangeError(`a token budget is ${total}; give a number, 0 or more`);
    this.total = total;
  }

  get spent(): number {
    return this.spentTokens;
  }

  get reserved(): number {
    return this.reservedTokens;
  }

  /** The number of tokens that can still be reserved. */
  get left(): number {
    return Math.max(0, this.total - this.spentTokens - this.reservedTokens);
  }

  /** Undefined when fewer tokens are left. Each reservation must be settled, even when nothing was used. */
  reserve(tokens: number): Reservation | undefined {
    if (!(tokens >= 0) || tokens > this.left) return undefined;
    this.reservedTokens += tokens;
    return { tokens };
  }

  /**
   * Replaces the reservation by the real use; a use above the reservation leaves less for the rest. Further calls do
   * nothing.
   */
  settle(reservation: Reservation, usedTokens: number): void {
    if (reservation.tokens < 0) return;
    this.reservedTokens -= reservation.tokens;
    reservation.tokens = -1;
    this.spentTokens += Math.max(0, usedTokens);
  }
}

interface JointReservation extends Reservation {
  readonly parts: readonly [Reservation, Reservation];
}

/** Two budgets for the same requests: that of the owner call, and the operator's budget for its task. */
export class JointBudget implements TokenSource {
  private readonly one: TokenBudget;
  private readonly other: TokenBudget;

  constructor(one: TokenBudget, other: TokenBudget) {
    this.one = one;
    this.other = other;
  }

  get left(): number {
    return Math.min(this.one.left, this.other.left);
  }

  reserve(tokens: number): JointReservation | undefined {
    if (!(tokens >= 0) || tokens > this.left) return undefined;
    return { tokens, parts: [this.one.reserve(tokens)!, this.other.reserve(tokens)!] };
  }

  settle(reservation: JointReservation, usedTokens: number): void {
    reservation.tokens = -1;
    this.one.settle(reservation.parts[0], usedTokens);
    this.other.settle(reservation.parts[1], usedTokens);
  }
}
