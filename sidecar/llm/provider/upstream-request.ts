/**
 * Makes the request for one upstream, and the headers of the answer for the caller. Both change only what a policy
 * requires.
 */

import { BAGGAGE_HEADER, withoutCall } from '../../policy/call-baggage.ts';
import { REQUEST_USD_HEADER, writeUsd } from '../../policy/money.ts';
import { REQUEST_BUDGET_HEADER } from '../../policy/token-budget.ts';
import type { Asked } from '../kinds/asked.ts';
import { traitsOf } from '../kinds/operations.ts';
import type { RelayRequest } from '../relay/relay-request.ts';
import { withTopLevel } from '../request/json-edit.ts';
import type { ModelRequest } from '../request/model-request.ts';
import type { Body } from '../shared/body.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';
import { headersFor, takesCallers, withoutSecrets } from '../shared/provider-credentials.ts';
import type { LlmAttemptInfo } from '../shared/request-observer.ts';
import { changedFields, type RequestChanges } from './added-fields.ts';
import { withoutNamed } from './hop-by-hop.ts';
import type { Target } from './target.ts';
import type { Upstream } from './upstream.ts';

const OWN_HEADERS = 'outrigger-';

/** What an attempt may use of its budgets at a service of ours. */
export interface Allowed {
  /** Undefined without such a budget. */
  readonly tokens: number | undefined;
  readonly nanos: number | undefined;
  /** The most that so many tokens of input more cost, in nano-dollars. */
  readonly costOf: (inputTokens: number) => number;
}

/** @param allowed what a service may use for the request */
export function upstreamRequest(
  request: ModelRequest,
  target: Target,
  changes: RequestChanges,
  allowed: Allowed,
): RelayRequest {
  const { upstream } = target;
  const { asked, facts } = request;
  const recipient = upstream.recipient(asked);
  const headers = headersFor(withoutNamed(request.headers), recipient);
  if (headers[BAGGAGE_HEADER] !== undefined) {
    const baggage = withoutCall(textOf(headers[BAGGAGE_HEADER]) ?? '');
    if (baggage === '') delete headers[BAGGAGE_HEADER];
    else headers[BAGGAGE_HEADER] = baggage;
  }
  // The egress must be able to read an answer that it checks.
  const { answersJson } = traitsOf(request.facts.operation);
  const isRead = answersJson || (namesStored(request) && !isDownload(asked.path));
  const encodings = isRead ? 'identity' : request.headers['accept-encoding'];
  if (encodings !== undefined) headers['accept-encoding'] = encodings;
  upstream.addHeaders(headers);
  const model = target.modelFor(facts);
  const body = bodyFor(request, upstream.isModelInPath(asked) ? undefined : model, changes);
  if (upstream.settings.isService) tellService(headers, request, body, allowed);
  const path = takesCallers(recipient) ? request.path : withoutSecrets(request.path);
  return {
    method: request.method,
    protocol: upstream.protocol,
    hostname: upstream.hostname,
    port: upstream.port,
    path: upstream.pathOf({ ...asked, path }, model),
    agent: upstream.connections.agent,
    headers,
    body,
  };
}

/** Tells a service of ours for which task it works, and what all its attempts together may use. */
function tellService(
  headers: HttpHeaders,
  { taskId, body: callers }: ModelRequest,
  body: Body,
  { tokens, nanos, costOf }: Allowed,
): void {
  if (taskId !== '') headers['x-task-id'] = taskId;
  // It counts the bytes of what we have added to the body, too.
  const added = Math.max(0, body.bytes - callers.bytes);
  if (tokens !== undefined) headers[REQUEST_BUDGET_HEADER] = String(Math.ceil(tokens + added));
  if (nanos !== undefined) headers[REQUEST_USD_HEADER] = writeUsd(Math.ceil(nanos + costOf(added)));
}

/** Its answer may name what the upstream stores. */
function namesStored({ facts: { operation } }: ModelRequest): boolean {
  return operation === 'files' || operation === 'batches' || operation === 'other';
}

function isDownload(path: string): boolean {
  return /\/(?:content|results)(?:\?|$)|:download/.test(path);
}

function bodyFor({ body, facts }: ModelRequest, model: string | undefined, changes: RequestChanges): Body {
  const { scan } = facts;
  return scan === undefined ? body : withTopLevel(body, scan, changedFields(facts, model, changes));
}

/** Returns what observers receive about an attempt. @param headers the fields for the provider */
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
 * Returns the headers of an answer for the caller: the provider's, the upstream's name, and no invitation to retry.
 *
 * @param clientDecides only the client's own clock prevented another attempt
 * @param isEvents the answer is a stream, whatever its content type
 */
export function answerHeaders(
  status: number,
  headers: HttpHeaders,
  upstream: Upstream,
  asked: Asked,
  attempts: number,
  clientDecides: boolean,
  isEvents: boolean,
): HttpHeaders {
  const changed: HttpHeaders = {};
  // A provider's own `outrigger-` fields would pass for ours.
  for (const name in headers) if (!name.startsWith(OWN_HEADERS)) changed[name] = headers[name]!;
  changed['outrigger-upstream'] = upstream.name;
  changed['outrigger-attempts'] = String(attempts);
  if (status >= 400 && !clientDecides) changed['x-should-retry'] = 'false';
  // The caller would send the cookies back, perhaps to another provider.
  if (changed['set-cookie'] !== undefined && !takesCallers(upstream.recipient(asked)))
    delete changed['set-cookie'];
  const location = textOf(headers['location']);
  if (location !== undefined) changed['location'] = upstream.callersLocation(location, asked);
  // An error event may lengthen the stream.
  if (isEvents) delete changed['content-length'];
  return changed;
}
