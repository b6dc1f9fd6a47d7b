/**
 * Bounds the tokens that a task may use, or its money in nano-dollars. Pure.
 *
 * Before a request is sent, the most that it may use is reserved; when it has ended, its real use replaces the
 * reservation. So any number of concurrent requests can't use more than the total:
 *
 *     spent + reserved ≤ total
 *
 * A part can be granted to a called agent: it stays reserved here until the call has ended.
 */

import type { Fetched } from './leased-share.ts';

/** The field of a call's metadata, or of a request's headers, that limits the tokens of its task. */
export const TOKEN_BUDGET_HEADER = 'outrigger-token-budget';

/** The header in which a sidecar tells the service how much one request may use, over all its attempts there. */
export const REQUEST_BUDGET_HEADER = 'outrigger-request-budget';

/**
 * The tokens that a call with a budget has used, in its trailers. A service tells a sidecar in the head of an answer what
 * attempts before this answer have used.
 */
export const TOKENS_USED_HEADER = 'outrigger-tokens-used';

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
  /** Says why so many tokens can't be reserved; undefined where they can. */
  shortage(tokens: number): Shortage | undefined;
  /** Gets more tokens from where the budget is shared; undefined where `left` is all there is. */
  fetch?(tokens: number): Promise<Fetched> | undefined;
}

export interface Shortage {
  /** In words for the caller. */
  readonly message: string;
  /** When the budget is new, in milliseconds from now; undefined where it never is. */
  readonly againMs: number | undefined;
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

  shortage(tokens: number): Shortage | undefined {
    const { left } = this;
    return tokens <= left ? undefined : { message: this.describe(left), againMs: undefined };
  }

  protected describe(left: number): string {
    return `the task has ${left} tokens left, and the request may use more; ask for fewer tokens`;
  }
}

interface JointReservation extends Reservation {
  readonly parts: readonly Reservation[];
}

/** Several budgets for the same requests: that of the owner call, the operator's for its task, and those of its caller. */
export class JointBudget implements TokenSource {
  private readonly sources: readonly TokenSource[];

  constructor(...sources: readonly TokenSource[]) {
    this.sources = sources;
  }

  get left(): number {
    return Math.min(...this.sources.map(({ left }) => left));
  }

  reserve(tokens: number): JointReservation | undefined {
    if (!(tokens >= 0) || tokens > this.left) return undefined;
    return { tokens, parts: this.sources.map((source) => source.reserve(tokens)!) };
  }

  settle(reservation: JointReservation, usedTokens: number): void {
    reservation.tokens = -1;
    for (const [index, source] of this.sources.entries())
      source.settle(reservation.parts[index]!, usedTokens);
  }

  shortage(tokens: number): Shortage | undefined {
    return this.lacking(tokens)?.shortage(tokens);
  }

  fetch(tokens: number): Promise<Fetched> | undefined {
    return this.lacking(tokens)?.fetch?.(tokens);
  }

  private lacking(tokens: number): TokenSource | undefined {
    return this.sources.find(({ left }) => tokens > left);
  }
}
