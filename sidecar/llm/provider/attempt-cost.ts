/** Says what an attempt can cost before it is sent, and what it has cost, by the price of the model at its upstream. */
import { costOf, type ModelPrice, mostCost } from '../money/cost.ts';
import type { PriceBook } from '../money/price-book.ts';
import type { TokensUsed } from './attempt-verdict.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import type { Upstream } from './upstream.ts';

export class AttemptCost {
  private readonly prices: PriceBook;
  private readonly upstream: Upstream;
  private readonly nowMs: number;
  /** Undefined for a model without a price. */
  readonly price: ModelPrice | undefined;

  /** @param nowMs milliseconds since 1970 */
  constructor(prices: PriceBook, upstream: Upstream, model: string, nowMs: number) {
    this.prices = prices;
    this.upstream = upstream;
    this.nowMs = nowMs;
    this.price = prices.of(upstream, model, nowMs);
  }

  /** The most that so many tokens can cost, in nano-dollars; undefined without a price. */
  most(inputTokens: number, outputTokens: number): number | undefined {
    return this.price && mostCost(this.price, inputTokens, outputTokens);
  }

  /**
   * Returns what the attempt has cost, in nano-dollars; undefined where that is unknown. An answer names the model that gave
   * it: Azure's deployments have names of their own, and an alias stands for a dated model.
   */
  of({ facts }: ProviderAttemptEnd, used: TokensUsed, images: number): number | undefined {
    if (used.input + used.output === 0 && images === 0) return 0;
    const named =
      facts.model === undefined ? undefined : this.prices.of(this.upstream, facts.model, this.nowMs);
    const price = named ?? this.price;
    if (price === undefined) return undefined;
    const usage = facts.usage ?? {
      inputTokens: used.input,
      cacheReadTokens: 0,
      cacheWrite5mTokens: 0,
      cacheWrite1hTokens: 0,
      outputTokens: used.output,
      reasoningTokens: 0,
    };
    return costOf(price, usage, facts.serviceTier ?? '', price.imageNanos > 0 ? images : 0);
  }
}
