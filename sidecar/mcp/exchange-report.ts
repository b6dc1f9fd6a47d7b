/** Tells statistics and observers of one exchange. */

import type { Reply } from '../llm/caller/reply.ts';
import type { HttpHeaders } from '../llm/shared/headers.ts';
import type { McpOutcome } from '../telemetry/mcp-stats.ts';
import type { McpRequest, ToolCall } from './message/mcp-request.ts';
import type { McpContext } from './server/mcp-context.ts';
import type { McpServer } from './server/mcp-server.ts';
import type { McpRequestInfo, McpRequestObserver } from './shared/mcp-observer.ts';

interface Reported {
  readonly context: McpContext;
  readonly server: McpServer;
  readonly request: McpRequest;
  readonly call: ToolCall | undefined;
  readonly reply: Reply;
}

interface Ended {
  readonly outcome: McpOutcome;
  readonly reason: string;
  readonly status: number;
  readonly errorCode: number | undefined;
  readonly attempts: number;
}

export class ExchangeReport {
  private readonly reported: Reported;
  private readonly info: McpRequestInfo;
  private readonly observer: McpRequestObserver | undefined;
  private reason = '';

  constructor(reported: Reported) {
    const { context, server, request, call } = reported;
    this.reported = reported;
    const [first] = request.requests;
    this.info = {
      server: server.name,
      method: call === undefined ? (first?.method ?? '') : 'tools/call',
      tool: call?.name ?? '',
      requestId: first === undefined ? '' : String(first.id),
      sessionId: request.sessionId,
      revision: request.revision.name,
      taskId: request.taskId,
      headers: request.traced,
      address: server.address,
    };
    this.observer = context.observer?.begin(this.info);
  }

  attempt(attempt: number, headers: HttpHeaders): void {
    this.observer?.onAttempt(attempt, headers);
  }

  attemptEnded(why: string): void {
    this.observer?.onAttemptEnd(why);
  }

  /** The egress answers itself. */
  refused(reason: string): void {
    this.reason = reason;
  }

  end({ outcome, reason, status, errorCode, attempts }: Ended): void {
    const { context, server, request } = this.reported;
    const durationMs = context.clock() - request.receivedMs;
    const { info } = this;
    const tools = request.calls.length > 0 ? request.calls : [undefined];
    for (const tool of tools)
      context.stats.ended(server.name, info.method, tool?.name, outcome, durationMs / 1000);
    const said = this.reason || reason;
    this.observer?.onEnd({ info, outcome, reason: said, status, errorCode, attempts, durationMs });
  }
}
