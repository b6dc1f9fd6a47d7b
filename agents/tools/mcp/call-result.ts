/** What a client of MCP gets of a call: the text that its model reads, and what programs want to know. */
import type { CallToolResult } from '@modelcontextprotocol/server';
import type { AgentError } from '../../runtime/errors.ts';
import { type ToolOutcome, textOf } from '../run/tool-run.ts';

export function resultOf(outcome: ToolOutcome): CallToolResult {
  return {
    content: [{ type: 'text', text: textOf(outcome) }],
    isError: outcome.failed,
    _meta: {
      'dev.outrigger/exit_code': outcome.exitCode,
      'dev.outrigger/latency_ms': outcome.latencyMs,
      'dev.outrigger/replayed': outcome.replayed,
    },
  };
}

/**
 * A refusal, too, is for the model, which can correct its arguments, or must not believe that nothing has happened. Its status is
 * the one of gRPC.
 */
export function refusalOf({ code, message, trailers, retryAfterMs }: AgentError): CallToolResult {
  const reason = trailers['agent-error-reason'];
  const limit = trailers['agent-error-limit'];
  return {
    content: [{ type: 'text', text: message }],
    isError: true,
    _meta: {
      'dev.outrigger/status': code,
      ...(reason === undefined ? {} : { 'dev.outrigger/reason': reason }),
      ...(limit === undefined ? {} : { 'dev.outrigger/limit': limit }),
      ...(retryAfterMs === undefined || retryAfterMs < 0
        ? {}
        : { 'dev.outrigger/retry_after_ms': retryAfterMs }),
    },
  };
}
