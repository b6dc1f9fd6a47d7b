/**
 * Makes the request that one upstream gets, and the headers of the answer that the caller gets. Both change only what a
 * policy asks for.
 */

import { BAGGAGE_HEADER, withoutCall } from '../../policy/call-baggage.ts';
import type { RelayRequest } from '../relay/relay-request.ts';
import { withTopLevel } from '../request/json-edit.ts';
import type { ModelRequest } from '../request/model-request.ts';
import type { Body } from '../shared/body.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';
import { traitsOf } from '../shared/operations.ts';
import { headersFor, takesCallers, withoutSecrets } from '../shared/provider-credentials.ts';
import type { LlmAttemptInfo } from '../shared/request-observer.ts';
import { changedFields, type RequestChanges } from './added-fields.ts';
import { withoutNamed } from './hop-by-hop.ts';
import type { Upstream } from './upstream.ts';

const OWN_HEADERS = 'outrigger-';

export function upstreamRequest(
  request: ModelRequest,
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

function bodyFor({ body, facts }: ModelRequest, model: string, changes: RequestChanges): Body {
  const { scan } = facts;
  return scan === undefined ? body : withTopLevel(body, scan, changedFields(facts, model, changes));
}

/** What observers are told of an attempt. @param headers that go to the provider */
export function attemptInfo(
  upstream: Upstream,
  attempt: number,
  model: string,
  headers: HttpHeaders,
): LlmAttemptInfo {
  return {
    upstream: upstream.name,
    serverAddress: upstream.hostname,
    serverPort: upstream.port,
    attempt,
    model,
    headers,
  };
}

/**
 * The headers of an answer for the caller: the provider's, who served it, and no invitation to try again.
 *
 * @param clientDecides nothing but the client's own clock stood against another attempt
 * @param isEvents a stream, whatever it is typed as
 */
export function answerHeaders(
  status: number,
  headers: HttpHeaders,
  upstream: Upstream,
  attempts: number,
  clientDecides: boolean,
  isEvents: boolean,
): HttpHeaders {
  const changed: HttpHeaders = {};
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
