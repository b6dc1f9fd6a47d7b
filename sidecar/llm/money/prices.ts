/** Declares the form of a file of prices, and reads it. Pure. */
import * as z from 'zod';
import { TypedError } from '../../errors/typed-error.ts';
import { KIND_NAMES, type KindName } from '../shared/operation.ts';
import type { ModelPrice, Rates, Tariff } from './cost.ts';

const usd = z.number().min(0).max(1_000_000);
const tokens = z.number().int().min(1).max(1_000_000_000);

/** USD for a million tokens. A rate that is absent is that of the input. */
const rates = z.strictObject({
  input: usd,
  cache_read: usd.optional(),
  cache_write_5m: usd.optional(),
  cache_write_1h: usd.optional(),
  output: usd.default(0),
});

const tariff = {
  usd_per_million: rates,
  above: z
    .array(z.strictObject({ input_tokens: tokens, usd_per_million: rates }))
    .max(16)
    .default([]),
};

const day = z.string().regex(/^\d{4}-\d{2}-\d{2}$/);

const entry = z.strictObject({
  models: z.array(z.string().min(1).max(256)).min(1).max(1_000),
  kinds: z.array(z.enum(KIND_NAMES)).min(1).optional(),
  upstreams: z.array(z.string().min(1).max(253)).min(1).optional(),
  valid_from: day.default('1970-01-01'),
  context: tokens.optional(),
  ...tariff,
  service_tiers: z.record(z.string().min(1).max(64), z.strictObject(tariff)).default({}),
  usd_per_image: usd.default(0),
  usd_per_tool_call: usd.default(0),
});

/** A file of prices. */
const prices = z.strictObject({ as_of: day, prices: z.array(entry).max(10_000) });

/** The file as it is written. */
export type PricesFile = z.input<typeof prices>;

export interface PriceEntry {
  /** Names or patterns. */
  readonly models: readonly string[];
  /** Undefined is every kind, and every upstream. */
  readonly kinds: ReadonlySet<KindName> | undefined;
  readonly upstreams: ReadonlySet<string> | undefined;
  /** Milliseconds since 1970. */
  readonly validFromMs: number;
  readonly price: ModelPrice;
}

export interface Prices {
  /** The day on which they were looked up. */
  readonly asOf: string;
  readonly entries: readonly PriceEntry[];
}

/** The file is not in the form of a file of prices. */
export class PricesError extends TypedError {
  override readonly name = 'PricesError';
  readonly source = 'ours';
  readonly isSafeToRetry = true;
}

/** @param value the parsed file. Throws PricesError. */
export function readPrices(value: unknown): Prices {
  const read = prices.safeParse(value);
  if (!read.success) {
    const { path, message } = read.error.issues[0]!;
    throw new PricesError(`${path.join('.') || 'the file'}: ${message}; see the form in docs/llm-egress.md`);
  }
  return {
    asOf: read.data.as_of,
    entries: read.data.prices.map((one) => ({
      models: one.models,
      kinds: one.kinds && new Set(one.kinds),
      upstreams: one.upstreams && new Set(one.upstreams),
      validFromMs: Date.parse(one.valid_from),
      price: {
        standard: tariffOf(one),
        tiers: new Map(Object.entries(one.service_tiers).map(([name, tier]) => [name, tariffOf(tier)])),
        imageNanos: nanos(one.usd_per_image),
        toolCallNanos: nanos(one.usd_per_tool_call),
        context: one.context ?? 0,
      },
    })),
  };
}

function tariffOf(one: Pick<z.output<typeof entry>, 'usd_per_million' | 'above'>): Tariff {
  return {
    rates: ratesOf(one.usd_per_million),
    above: one.above
      .map(({ input_tokens, usd_per_million }) => ({
        inputTokens: input_tokens,
        rates: ratesOf(usd_per_million),
      }))
      .sort((a, b) => b.inputTokens - a.inputTokens),
  };
}

function ratesOf({
  input,
  cache_read,
  cache_write_5m,
  cache_write_1h,
  output,
}: z.output<typeof rates>): Rates {
  return {
    input: picos(input),
    cacheRead: picos(cache_read ?? input),
    cacheWrite5m: picos(cache_write_5m ?? input),
    cacheWrite1h: picos(cache_write_1h ?? input),
    output: picos(output),
  };
}

/** USD for a million tokens as pico-dollars for one. */
function picos(usdPerMillion: number): number {
  return Math.round(usdPerMillion * 1_000_000);
}

function nanos(dollars: number): number {
  return Math.round(dollars * 1_000_000_000);
}
