/** Adds up the tokens and the cost of one request over all its attempts, and settles them with its budget. */
import type { RequestBudget, Reserved } from '../../policy/request-budget.ts';
import type { LlmPairStats } from '../../telemetry/llm-stats.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { Operation } from '../shared/operation.ts';
import type { LlmRecord } from '../shared/request-observer.ts';
import type { AttemptCost } from './attempt-cost.ts';
import { reasonOf, statusOfEnd, type TokensUsed, tokensUsed } from './attempt-verdict.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import { NOTHING_SPENT, type Spent } from './spent-before.ts';

/** The accounts that an attempt's tokens go to. */
export interface Accounts {
  readonly budget: RequestBudget | undefined;
  readonly reserved: Reserved | undefined;
  readonly cost: AttemptCost;
  /** What a service has used for attempts of its own before its answer. */
  readonly before: Spent;
  readonly pair: LlmPairStats;
  /** The caller of the service that pays; '' beside an agent. */
  readonly caller: string;
}

/** Providers charge for these, and count no tokens in some of their answers. */
const COSTS_UNCOUNTED: ReadonlySet<Operation> = new Set<Operation>(['images', 'audio', 'realtime']);

export class TokenLedger {
  private readonly facts: RequestFacts;
  /** How the last attempt ended. */
  last: ProviderAttemptEnd | undefined = undefined;
  /** The tokens of all attempts together. */
  usedTokens = 0;
  /** The cost of all attempts together, in nano-dollars; undefined once one had no price. */
  nanos: number | undefined = 0;
  /** What the budgets of the request have paid for its attempts. */
  spent: Spent = NOTHING_SPENT;
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

  settle(end: ProviderAttemptEnd, cancelled: boolean, accounts: Accounts): void {
    const { budget, reserved, cost, before, pair, caller } = accounts;
    this.last = end;
    const used = tokensUsed(end, this.facts, cancelled);
    const { input, output, exact } = used;
    const known = this.costOf(end, used, cost);
    const nanos = known === undefined ? undefined : known + before.nanos;
    this.nanos = this.nanos === undefined || nanos === undefined ? undefined : this.nanos + nanos;
    pair.countCost(caller, nanos);
    this.usedTokens += input + output + before.tokens;
    pair.tokens.wasted += before.tokens;
    this.wasted += before.tokens;
    this.exact &&= exact;
    // An unknown number counts as the whole reservation, so that a budget is never overspent.
    if (reserved !== undefined) {
      const tokens = exact ? input + output + before.tokens : reserved.most.tokens;
      const paid = exact && nanos !== undefined ? nanos : reserved.most.nanos;
      budget?.settle(reserved, { tokens, nanos: paid });
      this.spent = { tokens: this.spent.tokens + tokens, nanos: this.spent.nanos + paid };
    }
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

  /** Pictures cost by their number where the answer counts no tokens; other answers without a count have an unknown cost. */
  private costOf(end: ProviderAttemptEnd, used: TokensUsed, cost: AttemptCost): number | undefined {
    const { operation, choices } = this.facts;
    const isUncounted = end.facts.usage === undefined && COSTS_UNCOUNTED.has(operation);
    if (!isUncounted || end.failure !== undefined || end.status >= 400) return cost.of(end, used, 0);
    return operation === 'images' && (cost.price?.imageNanos ?? 0) > 0
      ? cost.of(end, used, choices)
      : undefined;
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
    | 'costNanos'
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
      costNanos: this.nanos,
      firstByteMs: this.last?.firstByteMs ?? 0,
    };
  }
}
