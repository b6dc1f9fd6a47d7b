/** Tells a server that nobody waits for its answers any more, in the revisions where closing the connection does not. */
import type { RequestMessage } from './message/json-rpc.ts';
import type { McpRequest } from './message/mcp-request.ts';
import { Attempt } from './server/attempt.ts';
import type { McpContext } from './server/mcp-context.ts';
import type { McpServer } from './server/mcp-server.ts';

/** How long the message may take. */
const CANCEL_MS = 5_000;

export interface CancelledExchange {
  readonly context: McpContext;
  readonly server: McpServer;
  readonly request: McpRequest;
}

/** @param requests those without an answer */
export function cancelAtServer(
  { context, server, request }: CancelledExchange,
  requests: Iterable<RequestMessage>,
  reason: string,
): void {
  if (request.revision.isStateless) return;
  for (const { id, method } of requests) {
    // The revisions forbid to cancel it.
    if (method === 'initialize') continue;
    const params = { requestId: id, reason };
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params }));
    const nowMs = context.clock();
    const attempt = new Attempt(
      server,
      { method: 'POST', path: server.path, headers: server.headersOf(request.headers), body },
      {
        connectTimeoutMs: CANCEL_MS,
        firstByteTimeoutMs: 0,
        idleTimeoutMs: 0,
        timeoutAtMs: nowMs + CANCEL_MS,
        deadlineMs: nowMs + CANCEL_MS,
      },
      context,
      { onHead: () => attempt.abort(), onData() {}, onEnd() {}, onFailure() {} },
    );
  }
}
