/**
 * The list prices that ship with the egress, as the providers published them on the day of `as_of`. Prices change, and contracts
 * have others: check them before money depends on them, and put your own into `llm.prices_file`. They are for regions without a
 * surcharge, in USD.
 */
import type { PricesFile } from './prices.ts';

type FileEntry = PricesFile['prices'][number];
type FileRates = FileEntry['usd_per_million'];

/** Half the price, for batches and flexible processing. */
const HALF = 0.5;
const DOUBLE = 2;

export const LIST_PRICES: PricesFile = {
  as_of: '2026-11-30',
  prices: [
    openai('gpt-5.5', [5, 0.5, 30], 1_050_000),
    openai('gpt-5.4', [2.5, 0.25, 15], 1_050_000),
    openai('gpt-5.4-mini', [0.75, 0.075, 4.5], 400_000),
    openai('gpt-5.1', [1.25, 0.125, 10], 400_000),
    openai('gpt-5', [1.25, 0.125, 10], 400_000),
    openai('gpt-5-mini', [0.25, 0.025, 2], 400_000),
    openai('gpt-5-nano', [0.05, 0.005, 0.4], 400_000),
    openai('gpt-4.1', [2, 0.5, 8], 1_047_576),
    openai('gpt-4.1-mini', [0.4, 0.1, 1.6], 1_047_576),
    openai('gpt-4.1-nano', [0.1, 0.025, 0.4], 1_047_576),
    openai('gpt-4o', [2.5, 1.25, 10], 128_000),
    openai('gpt-4o-mini', [0.15, 0.075, 0.6], 128_000),
    openai('o3', [2, 0.5, 8], 200_000),
    openai('o4-mini', [1.1, 0.275, 4.4], 200_000),
    embedding('text-embedding-3-small', 0.02),
    embedding('text-embedding-3-large', 0.13),
    claude(
      ['claude-opus-4-5*', 'claude-opus-4-6*', 'claude-opus-4-7*', 'claude-opus-4-8*', 'claude-opus-5'],
      5,
    ),
    claude(['claude-opus-4-1*', 'claude-opus-4-0', 'claude-opus-4-2025*'], 15),
    claude(['claude-sonnet-4*', 'claude-3-7-sonnet*'], 3),
    claude(['claude-sonnet-5'], 2),
    claude(['claude-haiku-4-5*'], 1),
    claude(['claude-3-5-haiku*'], 0.8),
    gemini('gemini-2.5-pro', [1.25, 0.125, 10], { above: [2.5, 0.25, 15] }),
    gemini('gemini-3-pro-preview', [2, 0.2, 12], { above: [4, 0.4, 18] }),
    gemini('gemini-2.5-flash', [0.3, 0.03, 2.5]),
    gemini('gemini-2.5-flash-lite', [0.1, 0.01, 0.4]),
    mistral('mistral-large-latest', 0.5, 1.5),
    mistral('mistral-medium-latest', 0.4, 2),
    mistral('mistral-small-latest', 0.1, 0.3),
  ],
};

type Triple = readonly [input: number, cacheRead: number, output: number];

function ratesOf([input, cache_read, output]: Triple): FileRates {
  return { input, cache_read, output };
}

function scaled({ input, cache_read = input, output = 0 }: FileRates, by: number): FileRates {
  return { input: input * by, cache_read: cache_read * by, output: output * by };
}

/** A dated name, such as gpt-5-2025-08-07, is the same model. */
function openai(model: string, triple: Triple, context: number): FileEntry {
  const rates = ratesOf(triple);
  return {
    models: [model, `${model}-20*`],
    kinds: ['openai', 'azure'],
    context,
    usd_per_million: rates,
    service_tiers: {
      flex: { usd_per_million: scaled(rates, HALF) },
      batch: { usd_per_million: scaled(rates, HALF) },
      priority: { usd_per_million: scaled(rates, DOUBLE) },
    },
    usd_per_tool_call: 0.01,
  };
}

function embedding(model: string, input: number): FileEntry {
  return { models: [model], kinds: ['openai', 'azure'], context: 8_192, usd_per_million: { input } };
}

/** All of Anthropic's rates follow that of the input. */
function claude(models: string[], input: number): FileEntry {
  const rates = {
    input,
    cache_read: input * 0.1,
    cache_write_5m: input * 1.25,
    cache_write_1h: input * 2,
    output: input * 5,
  };
  const half = Object.fromEntries(Object.entries(rates).map(([name, rate]) => [name, rate * HALF]));
  return {
    models,
    kinds: ['anthropic'],
    context: 1_000_000,
    usd_per_million: rates,
    service_tiers: { batch: { usd_per_million: half as typeof rates } },
    usd_per_tool_call: 0.01,
  };
}

/** Two of Gemini's models cost more above 200,000 tokens of input. */
function gemini(model: string, triple: Triple, { above }: { above?: Triple } = {}): FileEntry {
  return {
    models: [model],
    kinds: ['gemini'],
    context: 1_048_576,
    usd_per_million: ratesOf(triple),
    above: above === undefined ? [] : [{ input_tokens: 200_000, usd_per_million: ratesOf(above) }],
    usd_per_tool_call: 0.035,
  };
}

function mistral(model: string, input: number, output: number): FileEntry {
  return { models: [model], kinds: ['compatible'], context: 131_072, usd_per_million: { input, output } };
}
