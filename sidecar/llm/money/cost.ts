/** Computes what a request costs, and the most that it can cost. Pure; in whole nano-dollars. */
import type { Usage } from '../kinds/answer-facts.ts';

/** Pico-dollars a token: one USD for a million tokens is 1,000,000. Whole numbers, so that products are exact. */
export interface Rates {
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite5m: number;
  readonly cacheWrite1h: number;
  readonly output: number;
}

/** The rates of one service tier. */
export interface Tariff {
  readonly rates: Rates;
  /** For all tokens of a request whose input is longer; the longest first. */
  readonly above: readonly { readonly inputTokens: number; readonly rates: Rates }[];
}

export interface ModelPrice {
  readonly standard: Tariff;
  /** By the provider's name for a service tier: `flex`, `priority`, `batch`. */
  readonly tiers: ReadonlyMap<string, Tariff>;
  /** Nano-dollars a picture, for models that are paid by the picture; 0 for those that are paid by tokens. */
  readonly imageNanos: number;
  /** Nano-dollars a call of one of the provider's own tools. */
  readonly toolCallNanos: number;
  /** The most tokens of input and output together; 0 is unknown. */
  readonly context: number;
}

const PICO = 1_000;

/** What providers call the tier that requests have by default. */
const STANDARD: ReadonlySet<string> = new Set(['', 'default', 'standard', 'auto', 'on_demand']);

/**
 * Returns the cost of an answer; undefined where the price of its service tier is unknown.
 *
 * @param tier the service tier that the answer names; '' without one
 */
export function costOf(price: ModelPrice, usage: Usage, tier: string, images = 0): number | undefined {
  const tariff = price.tiers.get(tier) ?? (STANDARD.has(tier) ? price.standard : undefined);
  if (tariff === undefined) return undefined;
  const { input, cacheRead, cacheWrite5m, cacheWrite1h, output } = ratesFor(tariff, usage.inputTokens);
  const { cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens } = usage;
  const fresh = Math.max(0, usage.inputTokens - cacheReadTokens - cacheWrite5mTokens - cacheWrite1hTokens);
  const picos =
    fresh * input +
    cacheReadTokens * cacheRead +
    cacheWrite5mTokens * cacheWrite5m +
    cacheWrite1hTokens * cacheWrite1h +
    usage.outputTokens * output;
  return Math.ceil(picos / PICO) + images * price.imageNanos;
}

/** Returns the most that so many tokens can cost, in any tier, whatever a cache does with them. */
export function mostCost(price: ModelPrice, inputTokens: number, outputTokens: number, images = 0): number {
  let most = 0;
  for (const tariff of [price.standard, ...price.tiers.values()]) {
    // A provider counts a long prompt by its own tokens: all rates that can apply count.
    for (const rates of [tariff.rates, ...tariff.above.map((one) => one.rates)])
      most = Math.max(most, inputTokens * dearestInput(rates) + outputTokens * rates.output);
  }
  return Math.ceil(most / PICO) + images * price.imageNanos;
}

/** Returns how many tokens of output an amount of money surely pays for, after so much input. */
export function affordableOutput(price: ModelPrice, inputTokens: number, nanos: number): number {
  const left = nanos - mostCost(price, inputTokens, 0);
  const each = mostCost(price, 0, 1_000_000) / 1_000_000;
  if (left <= 0) return 0;
  return each === 0 ? Number.MAX_SAFE_INTEGER : Math.floor(left / each);
}

function dearestInput({ input, cacheRead, cacheWrite5m, cacheWrite1h }: Rates): number {
  return Math.max(input, cacheRead, cacheWrite5m, cacheWrite1h);
}

function ratesFor({ rates, above }: Tariff, inputTokens: number): Rates {
  return above.find((one) => inputTokens > one.inputTokens)?.rates ?? rates;
}
