/**
 * The tokens that a task may use. Pure.
 *
 * What a request may use at most is reserved before it is sent, and what it did use takes the reservation's place
 * when it has ended, so that any number of requests at once can't use more than there is:
 *
 *     spent + reserved ≤ total
 *
 * A part can be granted to somebody else (an agent that is called): it is reserved here until the call has ended.
 */

/** In a call's metadata, or a request's headers: how many tokens its task may use. */
export const TOKEN_BUDGET_HEADER = 'outrigger-token-budget';

/** A whole number; -1 when it is none, which is no budget. */
export function parseTokenBudget(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : -1;
}

export interface Reservation {
  /** Below 0 once it is settled. */
  tokens: number;
}

/** What requests draw on: a budget, or several that must all have room. */
export interface TokenSource {
  /** What can still be reserved. */
  readonly left: number;
  /** Undefined when so much is not left. Must be settled, also when nothing was used. */
  reserve(tokens: number): Reservation | undefined;
  /** What was really used. Once is enough. */
  settle(reservation: Reservation, usedTokens: number): void;
}

export class TokenBudget implements TokenSource {
  readonly total: number;
  #spent = 0;
  #reserved = 0;

  /** Throws RangeError. */
  constructor(total: number) {
    if (!(total >= 0)) throw new RangeError(`a token budget is ${total}; give a number, 0 or more`);
    this.total = total;
  }

  get spent(): number {
    return this.#spent;
  }

  get reserved(): number {
    return this.#reserved;
  }

  /** What can still be reserved. */
  get left(): number {
    return Math.max(0, this.total - this.#spent - this.#reserved);
  }

  /** Undefined when so much is not left. Must be settled, also when nothing was used. */
  reserve(tokens: number): Reservation | undefined {
    if (!(tokens >= 0) || tokens > this.left) return undefined;
    this.#reserved += tokens;
    return { tokens };
  }

  /** What was really used; a provider that took more than was reserved leaves less for the rest. Once is enough. */
  settle(reservation: Reservation, usedTokens: number): void {
    if (reservation.tokens < 0) return;
    this.#reserved -= reservation.tokens;
    reservation.tokens = -1;
    this.#spent += Math.max(0, usedTokens);
  }
}

interface JointReservation extends Reservation {
  readonly parts: readonly [Reservation, Reservation];
}

/** Two budgets that hold for the same requests: that of the call that they are made for, and the operator's for its task. */
export class JointBudget implements TokenSource {
  readonly #one: TokenBudget;
  readonly #other: TokenBudget;

  constructor(one: TokenBudget, other: TokenBudget) {
    this.#one = one;
    this.#other = other;
  }

  get left(): number {
    return Math.min(this.#one.left, this.#other.left);
  }

  reserve(tokens: number): JointReservation | undefined {
    if (!(tokens >= 0) || tokens > this.left) return undefined;
    return { tokens, parts: [this.#one.reserve(tokens)!, this.#other.reserve(tokens)!] };
  }

  settle(reservation: JointReservation, usedTokens: number): void {
    reservation.tokens = -1;
    this.#one.settle(reservation.parts[0], usedTokens);
    this.#other.settle(reservation.parts[1], usedTokens);
  }
}
