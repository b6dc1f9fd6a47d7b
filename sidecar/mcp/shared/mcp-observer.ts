/** What observers of the MCP egress receive: facts for a log and a trace, without arguments, results and keys. */

import type { HttpHeaders } from '../../llm/shared/headers.ts';
import type { KeyFileEvents } from '../../llm/shared/key-file-watch.ts';
import type { McpOutcome } from '../../telemetry/mcp-stats.ts';

export interface McpRequestInfo {
  readonly server: string;
  /** Of JSON-RPC; of a batch that of its first request. */
  readonly method: string;
  /** The tool that is called; '' for other methods. */
  readonly tool: string;
  /** The id of the JSON-RPC request, as text. */
  readonly requestId: string;
  readonly sessionId: string;
  readonly revision: string;
  readonly taskId: string;
  readonly headers: HttpHeaders;
  /** `host:port` of the server. */
  readonly address: string;
}

export interface McpRecord {
  readonly info: McpRequestInfo;
  readonly outcome: McpOutcome;
  /** Why the egress itself answered; '' where the server did. */
  readonly reason: string;
  /** The HTTP status that the agent received; 0 when it left before. */
  readonly status: number;
  /** The code of the error in the answer; undefined without one. */
  readonly errorCode: number | undefined;
  readonly attempts: number;
  readonly durationMs: number;
}

export interface McpRequestObserver {
  /** An attempt begins; headers may be added to its request. */
  onAttempt(attempt: number, headers: HttpHeaders): void;
  /** @param why the reason, or the status; '' for an answer */
  onAttemptEnd(why: string): void;
  onEnd(record: McpRecord): void;
}

export interface McpObserver {
  begin(info: McpRequestInfo): McpRequestObserver | undefined;
}

/** Receives what changes about servers. */
export interface McpEvents extends KeyFileEvents {
  onMcpBreaker(server: string, from: string, to: string): void;
}
