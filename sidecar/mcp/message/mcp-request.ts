/** Describes what an agent has posted, and reads it. Pure. */

import type { HttpHeaders } from '../../llm/shared/headers.ts';
import { textOf } from '../../llm/shared/headers.ts';
import type { OwnerCall } from '../../llm/shared/owner-call.ts';
import {
  ErrorCode,
  type Id,
  isObject,
  type JsonObject,
  type Message,
  messageOf,
  parseJson,
  type RequestMessage,
} from './json-rpc.ts';
import { ambiguousKey } from './read-once.ts';
import { decodedHeader, namedBy, type Revision } from './revision.ts';

export interface ToolCall {
  readonly id: Id;
  readonly name: string;
  readonly params: JsonObject;
}

export interface McpRequest {
  readonly headers: HttpHeaders;
  /** The headers with the context of the trace that stands in `_meta` alone. */
  readonly traced: HttpHeaders;
  readonly revision: Revision;
  /** `Mcp-Session-Id`; '' without one. */
  readonly sessionId: string;
  readonly body: Buffer;
  readonly messages: readonly Message[];
  readonly isBatch: boolean;
  /** The messages that wait for an answer. */
  readonly requests: readonly RequestMessage[];
  /** The calls of tools among them. */
  readonly calls: readonly ToolCall[];
  readonly receivedMs: number;
  readonly ownerCall: OwnerCall | undefined;
  /** It names an inbound call that has ended: nobody wants its effect any more. */
  readonly isLate: boolean;
  /** '' where it is unknown. */
  readonly taskId: string;
}

/** What is wrong with a body, as JSON-RPC says it. */
export interface Fault {
  readonly code: number;
  readonly message: string;
  readonly id: Id | null;
}

/** More messages in one body have no use, and each is an object of ours. */
const MAX_BATCH = 100;

type Parsed = Pick<McpRequest, 'messages' | 'isBatch' | 'requests' | 'calls'>;

export function readBody(body: Buffer, headers: HttpHeaders, revision: Revision): Parsed | Fault {
  const text = body.toString('utf8');
  const json = parseJson(text);
  if (json === undefined)
    return {
      code: ErrorCode.PARSE,
      message: 'the body is no JSON; send a message of JSON-RPC 2.0',
      id: null,
    };
  const ambiguous = ambiguousKey(text);
  if (ambiguous !== undefined)
    return invalid(
      `the key ${JSON.stringify(ambiguous.slice(0, 64))} is repeated, or another one to a server that ignores case; write each key once`,
    );
  const isBatch = Array.isArray(json);
  if (isBatch && !revision.hasBatches)
    return invalid(`the revision ${revision.name} has no batches; send each message by itself`);
  const values = isBatch ? json : [json];
  if (values.length === 0 || values.length > MAX_BATCH)
    return invalid(`a batch has 1 to ${MAX_BATCH} messages; send several batches`);
  const messages: Message[] = [];
  for (const value of values) {
    const message = messageOf(value);
    if (message === undefined) return invalid('the body is no message of JSON-RPC 2.0; see its section 4');
    if (message.kind === 'notification' && !message.method.startsWith('notifications/'))
      return invalid('a request has an id; only methods that begin with notifications/ have none');
    messages.push(message);
  }
  const requests = messages.filter((message) => message.kind === 'request');
  const mismatch = isBatch ? undefined : mismatchOf(messages[0]!, headers);
  if (mismatch !== undefined) return mismatch;
  const calls: ToolCall[] = [];
  for (const { id, method, params } of requests) {
    if (method !== 'tools/call') continue;
    const { name } = params;
    if (typeof name !== 'string')
      return { code: ErrorCode.INVALID_PARAMS, message: 'params.name names no tool; write its name', id };
    calls.push({ id, name, params });
  }
  return { messages, isBatch, requests, calls };
}

function invalid(message: string): Fault {
  return { code: ErrorCode.INVALID_REQUEST, message, id: null };
}

/**
 * A server may go by the headers of the revision 2026-07-28, and the list of allowed tools goes by the body: they must say
 * the same.
 */
function mismatchOf(message: Message, headers: HttpHeaders): Fault | undefined {
  if (message.kind === 'response') return undefined;
  const { method, params } = message;
  const id = message.kind === 'request' ? message.id : null;
  const code = ErrorCode.HEADER_MISMATCH;
  const ofMethod = textOf(headers['mcp-method']);
  if (ofMethod !== undefined && ofMethod !== method)
    return { code, message: 'the header Mcp-Method names another method than the body; write the same', id };
  const ofName = textOf(headers['mcp-name']);
  const parameter = namedBy(method);
  if (ofName !== undefined && parameter !== undefined && decodedHeader(ofName) !== params[parameter])
    return {
      code,
      message: `the header Mcp-Name is not params.${parameter} of the body; write the same`,
      id,
    };
  return undefined;
}

const TRACE_FIELDS = ['traceparent', 'tracestate', 'baggage'] as const;

/** Returns the headers with the context of the trace that a message carries in `_meta`, where the headers have none. */
export function withMeta(headers: HttpHeaders, messages: readonly Message[]): HttpHeaders {
  const [message] = messages;
  if (messages.length !== 1 || message === undefined || message.kind === 'response') return headers;
  const meta = message.params['_meta'];
  if (!isObject(meta)) return headers;
  let merged = headers;
  for (const name of TRACE_FIELDS) {
    const value = meta[name];
    if (headers[name] === undefined && typeof value === 'string') merged = { ...merged, [name]: value };
  }
  return merged;
}
