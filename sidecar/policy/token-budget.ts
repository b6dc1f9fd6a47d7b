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

export class TokenBudget {
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
