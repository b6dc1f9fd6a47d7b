/**
 * Reads what a caller's own client says of its patience: how long it waits, and how often it has tried already. Pure.
 *
 * The clients that Stainless generates (openai, anthropic, …) send one of two headers. `x-stainless-timeout` (Node) is in
 * whole seconds, rounded down, and runs to the answer's headers, or to the end of a plain answer in later versions.
 * `x-stainless-read-timeout` (Python) is the longest silence between two bytes. Both begin anew with each of the client's
 * own retries, which `x-stainless-retry-count` counts.
 */
import { type Headers, textOf } from '../shared/headers.ts';

/** The share of the client's time that remains for our answer, which must arrive before the client gives up. */
const MARGIN_SHARE = 0.05;
const MIN_MARGIN_MS = 200;
const MAX_MARGIN_MS = 2_000;
const MAX_RETRY_COUNT = 1_000;

/**
 * Returns how long the client waits, in milliseconds from its request and less a margin; Infinity when it does not say.
 * A client whose timeout is below a second may send 0: then its own end of the request counts.
 */
export function clientPatienceMs(headers: Headers): number {
  const timeoutMs = Math.min(
    secondsToMs(headers['x-stainless-timeout']),
    secondsToMs(headers['x-stainless-read-timeout']),
  );
  if (timeoutMs === Number.POSITIVE_INFINITY) return timeoutMs;
  const marginMs = Math.min(MAX_MARGIN_MS, Math.max(MIN_MARGIN_MS, timeoutMs * MARGIN_SHARE));
  return timeoutMs - Math.min(marginMs, timeoutMs / 2);
}

/** Returns how many retries the client has made: 0 for its first request; undefined when it does not count them. */
export function clientRetryCount(headers: Headers): number | undefined {
  const text = textOf(headers['x-stainless-retry-count']);
  return text !== undefined && /^\d{1,6}$/.test(text) ? Math.min(Number(text), MAX_RETRY_COUNT) : undefined;
}

function secondsToMs(value: string | string[] | undefined): number {
  const seconds = Number(textOf(value));
  return seconds > 0 ? seconds * 1000 : Number.POSITIVE_INFINITY;
}
