/**
 * Reads from an answer's headers how long a provider asks its clients to wait. Pure.
 *
 * The order is: `retry-after-ms` (milliseconds, OpenAI's and Azure's), `Retry-After` (RFC 9110, section 10.2.3:
 * seconds or a date), and the resets of the limits that are used up (`x-ratelimit-reset-requests` and `-tokens`,
 * durations such as `6m0s` or `120ms`; some providers send seconds or a time since 1970 instead).
 */
import type { QuotaHeaders } from '../kinds/traits.ts';
import { type Headers, textOf } from '../shared/headers.ts';

/** A larger number in a reset header is a time since 1970: in seconds, or above {@link EPOCH_MS} in milliseconds. */
const EPOCH_SECONDS = 1e9;
const EPOCH_MS = 1e12;

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/i;
const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/**
 * Returns milliseconds from now, 0 or more; undefined when the answer names no readable time.
 *
 * @param quotas the headers of the provider's limits
 * @param status of the answer: the resets of used-up limits say something only about a 429
 * @param wallMs the time in milliseconds since 1970, for dates; the answer's own `Date` comes first
 */
export function retryAfterMs(
  quotas: readonly QuotaHeaders[],
  status: number,
  headers: Headers,
  wallMs: number,
): number | undefined {
  const inMs = Number.parseFloat(textOf(headers['retry-after-ms']) ?? '');
  if (inMs >= 0 && Number.isFinite(inMs)) return inMs;
  const after = textOf(headers['retry-after']);
  if (after !== undefined) {
    // The provider's clock and ours may differ by more than the wait.
    const ms = secondsOrDateMs(after, httpDateMs(textOf(headers['date']) ?? '') ?? wallMs);
    if (ms !== undefined) return ms;
  }
  return status === 429 ? resetOfUsedUp(quotas, headers, wallMs) : undefined;
}

function secondsOrDateMs(text: string, wallMs: number): number | undefined {
  const trimmed = text.trim();
  if (/^\d{1,12}(?:\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000;
  const atMs = httpDateMs(trimmed);
  return atMs === undefined ? undefined : Math.max(0, atMs - wallMs);
}

/** Reads one of HTTP's three forms of a date (RFC 9110, section 5.6.7), all in GMT; in milliseconds since 1970. */
function httpDateMs(text: string): number | undefined {
  // Date.parse accepts nearly any text; a date of HTTP begins with a weekday.
  if (text.length > 64 || !/^[A-Za-z]{3,9},? /.test(text)) return undefined;
  const atMs = Date.parse(/ (?:GMT|UTC|[+-]\d{4})$/.test(text) ? text : `${text} GMT`);
  return Number.isNaN(atMs) ? undefined : atMs;
}

/** Returns the later reset of the limits that have nothing left; of both limits when neither says what is left. */
function resetOfUsedUp(
  quotas: readonly QuotaHeaders[],
  headers: Headers,
  wallMs: number,
): number | undefined {
  let longest: number | undefined;
  for (const names of quotas) {
    const remaining = textOf(headers[names.remaining]);
    if (remaining !== undefined && Number(remaining) > 0) continue;
    const ms = resetMs(textOf(headers[names.reset]), wallMs);
    if (ms !== undefined) longest = Math.max(longest ?? 0, ms);
  }
  return longest;
}

/** Reads `1h2m3.5s`, `120ms`, a number of seconds, a time since 1970, or a time of RFC 3339; returns milliseconds from now. */
export function resetMs(text: string | undefined, wallMs: number): number | undefined {
  const trimmed = text?.trim() ?? '';
  if (trimmed === '' || trimmed.length > 32) return undefined;
  if (/^\d+(?:\.\d+)?$/.test(trimmed)) {
    const value = Number(trimmed);
    if (value > EPOCH_MS) return Math.max(0, value - wallMs);
    if (value > EPOCH_SECONDS) return Math.max(0, value * 1000 - wallMs);
    return value * 1000;
  }
  if (RFC3339.test(trimmed)) return Math.max(0, Date.parse(trimmed) - wallMs) || 0;
  if (!/^(?:\d+(?:\.\d+)?(?:ms|h|m|s))+$/.test(trimmed)) return undefined;
  let totalMs = 0;
  for (const [, amount, unit] of trimmed.matchAll(/([\d.]+)(ms|h|m|s)/g))
    totalMs += Number(amount) * UNIT_MS[unit!]!;
  return totalMs;
}
