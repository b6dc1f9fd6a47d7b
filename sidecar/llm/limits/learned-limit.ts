/**
 * Learns from a provider's headers (`x-ratelimit-*`, `anthropic-ratelimit-*`) what is left, and when there will be enough for the next request. Pure.
 *
 * Providers refill steadily: the reset is the time at which the whole limit is back, so in between the rest rises in a
 * straight line. The meter subtracts requests sent since the provider wrote the headers, or fifty requests that start
 * together would each see the same rest.
 */
import type { QuotaHeaders } from '../kinds/traits.ts';
import { type Headers, textOf } from '../shared/headers.ts';
import { resetMs } from './retry-after.ts';

/** A longer reset than this can't be true. */
const MAX_RESET_MS = 3_600_000;

class Meter {
  private limit = Number.POSITIVE_INFINITY;
  private remaining = Number.POSITIVE_INFINITY;
  private atMs = 0;
  private resetMs = 0;
  /** What the attempts without an answer have reserved. */
  private inFlight = 0;

  get known(): boolean {
    return this.remaining !== Number.POSITIVE_INFINITY;
  }

  learn(limit: number, remaining: number, resetAfterMs: number, nowMs: number): void {
    this.limit = Math.max(limit, remaining);
    this.remaining = remaining;
    this.atMs = nowMs;
    this.resetMs = Math.min(resetAfterMs, MAX_RESET_MS);
  }

  begin(amount: number): void {
    this.inFlight += amount;
  }

  end(amount: number): void {
    this.inFlight -= amount;
  }

  available(nowMs: number): number {
    if (!this.known) return Number.POSITIVE_INFINITY;
    const passed = this.resetMs === 0 ? 1 : Math.min(1, (nowMs - this.atMs) / this.resetMs);
    return this.remaining + (this.limit - this.remaining) * passed - this.inFlight;
  }

  /** When `amount` will be available; the time of the reset, when the limit itself is smaller. */
  freeAtMs(amount: number, nowMs: number): number {
    if (!this.known || this.available(nowMs) >= amount) return nowMs;
    const resetAtMs = this.atMs + this.resetMs;
    // The answers to the requests in flight will bring new headers.
    if (resetAtMs <= nowMs) return nowMs;
    const rise = this.limit - this.remaining;
    const missing = amount + this.inFlight - this.remaining;
    if (rise <= 0 || missing >= rise) return resetAtMs;
    return Math.min(resetAtMs, this.atMs + (missing / rise) * this.resetMs);
  }
}

/** The limits of one upstream. */
export class LearnedLimit {
  private readonly requests = new Meter();
  private readonly tokens = new Meter();

  /** Counts an attempt that is sent. Call {@link end} with the same number later. */
  begin(tokens: number): void {
    this.requests.begin(1);
    this.tokens.begin(tokens);
  }

  /** The headers of the attempt's answer are here, or it has failed. */
  end(tokens: number): void {
    this.requests.end(1);
    this.tokens.end(tokens);
  }

  learn(quotas: readonly QuotaHeaders[], headers: Headers, nowMs: number, wallMs: number): void {
    for (const quota of quotas)
      if (quota.what !== undefined) learnOne(this[quota.what], headers, quota, nowMs, wallMs);
  }

  /** When the provider is likely to admit a request of so many tokens. */
  freeAtMs(tokens: number, nowMs: number): number {
    return Math.max(this.requests.freeAtMs(1, nowMs), this.tokens.freeAtMs(tokens, nowMs));
  }

  /** What is left now, for operators and for scaling; undefined while the provider has not said. */
  left(nowMs: number): { requests: number | undefined; tokens: number | undefined } {
    const of = (meter: Meter) => (meter.known ? Math.max(0, Math.floor(meter.available(nowMs))) : undefined);
    return { requests: of(this.requests), tokens: of(this.tokens) };
  }
}

function learnOne(meter: Meter, headers: Headers, names: QuotaHeaders, nowMs: number, wallMs: number) {
  const remaining = count(headers[names.remaining]);
  if (remaining === undefined) return;
  const reset = resetMs(textOf(headers[names.reset]), wallMs);
  if (reset === undefined) return;
  meter.learn(count(headers[names.limit]) ?? remaining, remaining, reset, nowMs);
}

function count(value: string | string[] | undefined): number | undefined {
  const text = textOf(value)?.trim();
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
