/**
 * Writes the answers of the egress itself. A call of a tool is answered with a result that says `isError`, which the model
 * reads; everything else with an error of JSON-RPC. `outrigger-reason` has the reason where the answer has a head of its own.
 */
import type { Reply } from '../llm/caller/reply.ts';
import {
  ErrorCode,
  errorMessage,
  type Id,
  type JsonObject,
  type RequestMessage,
  resultMessage,
} from './message/json-rpc.ts';
import type { Fault } from './message/mcp-request.ts';
import type { Revision } from './message/revision.ts';
import type { McpFailureReason } from './server/failure.ts';

export type McpReason =
  | Exclude<McpFailureReason, 'status'>
  | 'upstream_failed'
  | 'circuit_open'
  | 'outcome_unknown'
  | 'budget_exhausted'
  | 'tool_not_allowed'
  | 'call_ended'
  | 'draining'
  | 'overloaded'
  | 'no_route'
  | 'forbidden'
  | 'method_not_allowed'
  | 'unsupported_encoding'
  | 'bad_request'
  | 'request_too_large';

const STATUS: Readonly<Record<McpReason, number>> = {
  connect_failed: 502,
  connection_lost: 502,
  upstream_protocol: 502,
  answer_cut: 502,
  malformed_answer: 502,
  answer_too_large: 502,
  upstream_failed: 502,
  outcome_unknown: 502,
  first_byte: 504,
  idle: 504,
  deadline: 504,
  call_ended: 504,
  circuit_open: 503,
  draining: 503,
  overloaded: 503,
  budget_exhausted: 200,
  tool_not_allowed: 200,
  no_route: 404,
  forbidden: 403,
  method_not_allowed: 405,
  unsupported_encoding: 415,
  bad_request: 400,
  request_too_large: 413,
};

export function statusOf(reason: McpReason): number {
  return STATUS[reason];
}

/** The reason stands in `error.data` and in `_meta` of a result under this name. */
const REASON_FIELD = 'outrigger/reason';

/** The result of a call of a tool that the egress answers: the model reads why. */
function toolFailure(id: Id, reason: McpReason, text: string, { isStateless }: Revision): JsonObject {
  return resultMessage(id, {
    ...(isStateless ? { resultType: 'complete' } : {}),
    content: [{ type: 'text', text }],
    isError: true,
    _meta: { [REASON_FIELD]: reason },
  });
}

export function requestFailure(id: Id | null, reason: McpReason, message: string): JsonObject {
  const code =
    reason === 'tool_not_allowed'
      ? ErrorCode.INVALID_PARAMS
      : reason === 'bad_request'
        ? ErrorCode.INVALID_REQUEST
        : ErrorCode.OURS;
  return errorMessage(id, code, message, { [REASON_FIELD]: reason });
}

/** What the model hears of a call that was sent and has no answer. */
export function unknownText(why: string): string {
  return `The outcome of this call is unknown: ${why}. Its effect may have happened. Find out before you make the call again.`;
}

/** The answers of the egress to requests that have none. */
export function failuresOf(
  requests: Iterable<RequestMessage>,
  reason: McpReason,
  text: string,
  revision: Revision,
): JsonObject[] {
  return Array.from(requests, ({ id, method }) =>
    method === 'tools/call' ? toolFailure(id, reason, text, revision) : requestFailure(id, reason, text),
  );
}

/** Answers a request that was not read, or is none. */
export function refuse(
  reply: Reply,
  reason: McpReason,
  message: string,
  headers: Record<string, string> = {},
): void {
  sendJson(reply, STATUS[reason], requestFailure(null, reason, message), {
    'outrigger-reason': reason,
    ...headers,
  });
}

export function refuseFault(reply: Reply, { code, message, id }: Fault): void {
  sendJson(reply, STATUS.bad_request, errorMessage(id, code, message), { 'outrigger-reason': 'bad_request' });
}

export function sendJson(
  reply: Reply,
  status: number,
  message: JsonObject | JsonObject[],
  headers: Record<string, string> = {},
): void {
  const body = Buffer.from(JSON.stringify(message));
  reply.head(status, {
    'content-type': 'application/json',
    'content-length': String(body.length),
    ...headers,
  });
  reply.write(body);
  reply.end();
}
