/** Writes refusals, in the form of the caller's API, and the event that ends a broken stream. */

import { apiOf, traitsOf } from '../kinds/operations.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { ApiName, Operation } from '../shared/operation.ts';
import type { ProviderFailureReason } from '../shared/provider-failure.ts';
import type { Sink } from './sink.ts';

/** The reason of a refusal: the header `outrigger-reason`, and the error's `code`. */
export type RefusalReason =
  | Exclude<ProviderFailureReason, 'status'>
  | 'circuit_open'
  | 'throttled'
  | 'rate_limited'
  | 'limits_unavailable'
  | 'no_price'
  | 'unauthorized'
  | 'overloaded'
  | 'no_route'
  | 'unknown_model'
  | 'forbidden'
  | 'method_not_allowed'
  | 'not_implemented'
  | 'bad_request'
  | 'request_too_large'
  | 'in_flight'
  | 'call_ended'
  | 'upstream_failed';

const STATUS: Readonly<Record<RefusalReason, number>> = {
  connect_failed: 502,
  connection_lost: 502,
  upstream_protocol: 502,
  first_byte: 504,
  idle: 504,
  deadline: 504,
  stream_cut: 502,
  answer_cut: 502,
  malformed_answer: 502,
  answer_too_large: 502,
  budget_exhausted: 429,
  draining: 503,
  circuit_open: 503,
  throttled: 429,
  rate_limited: 429,
  limits_unavailable: 503,
  no_price: 403,
  unauthorized: 401,
  overloaded: 503,
  no_route: 404,
  unknown_model: 404,
  forbidden: 403,
  method_not_allowed: 405,
  not_implemented: 501,
  bad_request: 400,
  request_too_large: 413,
  in_flight: 409,
  call_ended: 504,
  upstream_failed: 502,
};

export const REFUSAL_REASONS = Object.keys(STATUS) as readonly RefusalReason[];

export function statusOfRefusal(reason: RefusalReason): number {
  return STATUS[reason];
}

export interface RefusalExtras {
  readonly headers?: HttpHeaders;
  readonly retryAfterMs?: number | undefined;
  /** The caller's client decides by its own rules whether it retries, as it does without the egress. */
  readonly clientDecides?: boolean;
  /** The API whose clients wait for the answer, where the sink does not know it; OpenAI's by default. */
  readonly api?: ApiName | undefined;
}

/**
 * Sends a refusal. It tells the caller's client not to retry, because the egress has tried everything; unless the request
 * may be running at the provider, or only the client's own clock stood against another attempt.
 */
export function refuse(sink: Sink, reason: RefusalReason, message: string, more: RefusalExtras = {}): void {
  const error = { status: STATUS[reason], reason, message };
  const body = Buffer.from(JSON.stringify(apiOf(more.api ?? sink.api ?? 'openai').errorBody(error)));
  const headers: HttpHeaders = {
    'content-type': 'application/json',
    'content-length': String(body.length),
    'outrigger-reason': reason,
    ...(more.clientDecides ? {} : { 'x-should-retry': 'false' }),
    ...more.headers,
  };
  const { retryAfterMs } = more;
  if (retryAfterMs !== undefined && Number.isFinite(retryAfterMs)) {
    headers['retry-after'] = String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
    headers['retry-after-ms'] = String(Math.max(1, Math.ceil(retryAfterMs)));
  }
  sink.head(STATUS[reason], headers);
  sink.write(body);
  sink.end();
}

/**
 * Returns the last event of a broken stream, in the form that makes the operation's clients throw.
 *
 * @param hasEvents the caller has received an event
 */
export function errorEvent(
  { operation, isArray }: { readonly operation: Operation; readonly isArray: boolean },
  hasEvents: boolean,
  reason: RefusalReason,
  message: string,
): Buffer {
  const { events } = traitsOf(operation);
  const error = { status: STATUS[reason], reason, message };
  if (!isArray || events?.errorElement === undefined) return Buffer.from(events?.errorEvent(error) ?? '');
  return Buffer.from(`${hasEvents ? ',' : '['}${events.errorElement(error)}]`);
}
