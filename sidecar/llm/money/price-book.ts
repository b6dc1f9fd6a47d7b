/** Finds the price of a model, in the file of the configuration or in the list that ships. */
import { readFileSync, statSync } from 'node:fs';
import { parse } from 'yaml';
import { matcherOf } from '../shared/model-pattern.ts';
import type { KindName } from '../shared/operation.ts';
import type { ModelPrice } from './cost.ts';
import { LIST_PRICES } from './list-prices.ts';
import { type PriceEntry, type Prices, PricesError, readPrices } from './prices.ts';

/** How long a file is used before it is looked at again. */
const LOOK_MS = 1_000;
const MAX_BYTES = 4_194_304;
/** Callers name models: so many answers are remembered. */
const MAX_KNOWN = 1_000;

/** Whom a price is asked for. */
export interface PricedPlace {
  readonly kind: { readonly name: KindName };
  readonly name: string;
  /** A service of ours, which buys from all kinds. */
  readonly settings?: { readonly isService: boolean };
}

interface Line extends PriceEntry {
  readonly matchers: readonly { readonly isExact: boolean; readonly matches: (model: string) => boolean }[];
}

/** Reads a file of prices. Throws PricesError, or the error of the file system. */
export function pricesIn(path: string): Prices {
  if (statSync(path).size > MAX_BYTES) throw new PricesError(`the file has more than ${MAX_BYTES} bytes`);
  let value: unknown;
  try {
    value = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new PricesError(
      `it is no YAML: ${error instanceof Error ? error.message.split('\n')[0] : 'unreadable'}`,
    );
  }
  return readPrices(value);
}

export class PriceBook {
  private path: string | undefined = undefined;
  private lines: readonly Line[] = [];
  private known = new Map<string, ModelPrice | undefined>();
  private knownDay = 0;
  private lookAtMs = Number.NEGATIVE_INFINITY;
  private seen = '';
  /** The day on which the prices in use were looked up. */
  asOf = '';
  /** Why the file is not in use as it is now; '' while it is. */
  problem = '';

  constructor(path?: string) {
    this.use(path);
  }

  /** @param path undefined is the list that ships */
  use(path: string | undefined): void {
    if (this.asOf !== '' && path === this.path) return;
    this.path = path;
    this.seen = '';
    this.problem = '';
    this.lookAtMs = Number.NEGATIVE_INFINITY;
    this.take(readPrices(LIST_PRICES));
  }

  /**
   * Returns the price of a model at an upstream; undefined where none is known.
   *
   * @param nowMs milliseconds since 1970
   */
  of({ kind, name, settings }: PricedPlace, model: string, nowMs: number): ModelPrice | undefined {
    this.look(nowMs);
    const day = Math.floor(nowMs / 86_400_000);
    if (day !== this.knownDay || this.known.size >= MAX_KNOWN) this.known.clear();
    this.knownDay = day;
    const key = `${kind.name}\n${name}\n${model}`;
    if (!this.known.has(key))
      this.known.set(key, this.find(settings?.isService ? undefined : kind.name, name, model, nowMs));
    return this.known.get(key);
  }

  /** A line for this very upstream comes before one for all, an exact name before a pattern, and then the newest one counts. */
  private find(
    kind: KindName | undefined,
    upstream: string,
    model: string,
    nowMs: number,
  ): ModelPrice | undefined {
    let best: { readonly rank: number; readonly line: Line } | undefined;
    for (const line of this.lines) {
      if (
        line.validFromMs > nowMs ||
        (kind !== undefined && line.kinds?.has(kind) === false) ||
        line.upstreams?.has(upstream) === false
      )
        continue;
      const found = line.matchers.filter(({ matches }) => matches(model));
      if (found.length === 0) continue;
      const rank = (line.upstreams === undefined ? 0 : 2) + (found.some(({ isExact }) => isExact) ? 1 : 0);
      const isBetter =
        best === undefined ||
        rank > best.rank ||
        (rank === best.rank && line.validFromMs >= best.line.validFromMs);
      if (isBetter) best = { rank, line };
    }
    return best?.line.price;
  }

  /** Reads the file again when it has changed; one that can't be used leaves the last prices. */
  private look(nowMs: number): void {
    const { path } = this;
    if (path === undefined || nowMs < this.lookAtMs) return;
    this.lookAtMs = nowMs + LOOK_MS;
    try {
      const { mtimeMs, ctimeMs, ino, size } = statSync(path);
      const state = `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
      if (state === this.seen) return;
      this.seen = state;
      this.take(pricesIn(path));
      this.problem = '';
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
  }

  private take({ asOf, entries }: Prices): void {
    this.asOf = asOf;
    this.lines = entries.map((entry) => ({
      ...entry,
      matchers: entry.models.map((model) => ({ isExact: !model.includes('*'), matches: matcherOf(model) })),
    }));
    this.known.clear();
  }
}
