/** Adds up the tokens of one request over all its attempts, and settles them with the task's budget. */
import type { Reservation, TokenSource } from '../../policy/token-budget.ts';
import type { LlmPairStats } from '../../telemetry/llm-stats.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { LlmRecord } from '../shared/request-observer.ts';
import { reasonOf, statusOfEnd, tokensUsed } from './attempt-verdict.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';

/** Where an attempt's tokens are written down. */
export interface Accounts {
  readonly budget: TokenSource | undefined;
  readonly reservation: Reservation | undefined;
  readonly pair: LlmPairStats;
}

export class TokenLedger {
  private readonly facts: RequestFacts;
  /** How the last attempt ended. */
  last: ProviderAttemptEnd | undefined = undefined;
  /** Of all attempts together. */
  usedTokens = 0;
  private isBegun = false;
  private input = 0;
  private output = 0;
  private wasted = 0;
  private exact = true;

  constructor(facts: RequestFacts) {
    this.facts = facts;
  }

  /** An attempt is made. One that stands in for another that came to nothing is not the first of its request either. */
  begin(pair: LlmPairStats): void {
    if (this.isBegun) pair.retries++;
    this.isBegun = true;
  }

  settle(end: ProviderAttemptEnd, cancelled: boolean, { budget, reservation, pair }: Accounts): void {
    this.last = end;
    const { input, output, exact } = tokensUsed(end, this.facts, cancelled);
    this.usedTokens += input + output;
    this.exact &&= exact;
    // What can't be known counts as all that was reserved: a budget is never overspent.
    if (reservation !== undefined) budget?.settle(reservation, exact ? input + output : reservation.tokens);
    if (end.failure === undefined && !cancelled) {
      pair.tokens.input += input;
      pair.tokens.output += output;
      this.input += input;
      this.output += output;
    } else {
      pair.tokens.wasted += input + output;
      this.wasted += input + output;
    }
    pair.countAttempt(cancelled ? 'cancelled' : reasonOf(end) || 'success');
    if (end.firstByteMs > 0 && statusOfEnd(end) < 400) pair.firstToken.record(end.firstByteMs / 1000);
  }

  record(): Pick<
    LlmRecord,
    | 'responseModel'
    | 'responseId'
    | 'finishReason'
    | 'inputTokens'
    | 'outputTokens'
    | 'wastedTokens'
    | 'tokensAreExact'
    | 'firstByteMs'
  > {
    const facts = this.last?.facts;
    return {
      responseModel: facts?.model,
      responseId: facts?.id,
      finishReason: facts?.finishReason,
      inputTokens: this.input,
      outputTokens: this.output,
      wastedTokens: this.wasted,
      tokensAreExact: this.exact,
      firstByteMs: this.last?.firstByteMs ?? 0,
    };
  }
}
