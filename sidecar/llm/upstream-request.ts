/** A caller's request as one upstream gets it: the same, but for what a policy changes. */

import { BAGGAGE_HEADER, withoutCall } from '../policy/call-baggage.ts';
import { changedFields, type RequestChanges } from './added-fields.ts';
import type { Body } from './body.ts';
import type { LlmRequest } from './context.ts';
import { headersFor, takesCallers, withoutSecrets } from './credentials.ts';
import { withoutNamed } from './hop-by-hop.ts';
import { withTopLevel } from './json-edit.ts';
import { type Operation, traitsOf } from './operations.ts';
import type { RelayRequest, RequestHeaders } from './relay-request.ts';
import { maxOutputField, type RequestFacts } from './request-facts.ts';
import { textOf } from './retry-after.ts';
import type { LlmLimitSettings } from './settings.ts';
import type { Spending } from './spending.ts';
import type { Upstream } from './upstream.ts';

const OWN_HEADERS = 'outrigger-';

/** What the answer may have: by the request's own words, or what is assumed where it is silent. */
export function outputReserve(facts: RequestFacts, limits: LlmLimitSettings): number {
  if (facts.maxOutputTokens > 0) return facts.maxOutputTokens;
  return maxOutputField(facts.operation) === undefined ? 0 : limits.defaultOutputTokens * facts.choices;
}

/** The most that all answers to a request with a budget may have; a maximum that we set holds for each of them. */
export function outputBound(
  operation: Operation,
  { choices, outputTokens }: Spending,
  changes: RequestChanges,
  limits: LlmLimitSettings,
): number {
  if (maxOutputField(operation) === undefined) return 0;
  return choices * (changes.maxOutputTokens || outputTokens || limits.defaultOutputTokens);
}

export function upstreamRequest(
  request: LlmRequest,
  upstream: Upstream,
  changes: RequestChanges,
): RelayRequest {
  const { recipient } = upstream;
  const headers = headersFor(withoutNamed(request.headers), recipient);
  if (headers[BAGGAGE_HEADER] !== undefined) {
    const baggage = withoutCall(textOf(headers[BAGGAGE_HEADER]) ?? '');
    if (baggage === '') delete headers[BAGGAGE_HEADER];
    else headers[BAGGAGE_HEADER] = baggage;
  }
  // An answer that is to be checked must be readable.
  const { answersJson } = traitsOf(request.facts.operation);
  const encodings = answersJson ? 'identity' : request.headers['accept-encoding'];
  if (encodings !== undefined) headers['accept-encoding'] = encodings;
  return {
    method: request.method,
    protocol: upstream.protocol,
    hostname: upstream.hostname,
    port: upstream.port,
    path: upstream.pathOf(takesCallers(recipient) ? request.path : withoutSecrets(request.path)),
    agent: upstream.agent,
    headers,
    body: bodyFor(request, upstream.modelFor(request.facts), changes),
  };
}

function bodyFor({ body, facts }: LlmRequest, model: string, changes: RequestChanges): Body {
  const { scan } = facts;
  return scan === undefined ? body : withTopLevel(body, scan, changedFields(facts, model, changes));
}

/**
 * The headers of an answer for the caller: the provider's, who served it, and no invitation to try again.
 *
 * @param clientDecides nothing but the client's own clock stood against another attempt
 * @param isEvents a stream, whatever it is typed as
 */
export function answerHeaders(
  status: number,
  headers: RequestHeaders,
  upstream: Upstream,
  attempts: number,
  clientDecides: boolean,
  isEvents: boolean,
): RequestHeaders {
  const changed: RequestHeaders = {};
  // Ours say what this egress did: a provider's own would pass for them.
  for (const name in headers) if (!name.startsWith(OWN_HEADERS)) changed[name] = headers[name]!;
  changed['outrigger-upstream'] = upstream.name;
  changed['outrigger-attempts'] = String(attempts);
  if (status >= 400 && !clientDecides) changed['x-should-retry'] = 'false';
  // The caller would send them back to us, and so to another provider.
  if (changed['set-cookie'] !== undefined && !takesCallers(upstream.recipient)) delete changed['set-cookie'];
  const location = textOf(headers['location']);
  if (location !== undefined) changed['location'] = upstream.callersLocation(location);
  // A broken stream gets one more event.
  if (isEvents) delete changed['content-length'];
  return changed;
}
