/** Adds up the tokens of one request over all its attempts, and settles them with the task's budget. */
import type { Reservation, TokenSource } from '../../policy/token-budget.ts';
import type { LlmPairStats } from '../../telemetry/llm-stats.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { LlmRecord } from '../shared/request-observer.ts';
import { reasonOf, statusOfEnd, tokensUsed } from './attempt-verdict.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';

/** The accounts that an attempt's tokens go to. */
export interface Accounts {
  readonly budget: TokenSource | undefined;
  readonly reservation: Reservation | undefined;
  readonly pair: LlmPairStats;
}

export class TokenLedger {
  private readonly facts: RequestFacts;
  /** How the last attempt ended. */
  last: ProviderAttemptEnd | undefined = undefined;
  /** The tokens of all attempts together. */
  usedTokens = 0;
  private isBegun = false;
  private input = 0;
  private output = 0;
  private wasted = 0;
  private exact = true;

  constructor(facts: RequestFacts) {
    this.facts = facts;
  }

  /** Counts an attempt; every one after the first is a retry, also one that repeats an attempt without effect. */
  begin(pair: LlmPairStats): void {
    if (this.isBegun) pair.retries++;
    this.isBegun = true;
  }

  settle(end: ProviderAttemptEnd, cancelled: boolean, { budget, reservation, pair }: Accounts): void {
    this.last = end;
    const { input, output, exact } = tokensUsed(end, this.facts, cancelled);
    this.usedTokens += input + output;
    this.exact &&= exact;
    // An unknown number counts as the whole reservation, so that a budget is never overspent.
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
