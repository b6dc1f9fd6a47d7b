/** What an exchange is made of. */
import type { Reply } from '../llm/caller/reply.ts';
import type { McpRequest, ToolCall } from './message/mcp-request.ts';
import type { CallPlace } from './repeats.ts';
import type { McpContext } from './server/mcp-context.ts';
import type { McpServer } from './server/mcp-server.ts';

export interface ExchangeParts {
  readonly context: McpContext;
  readonly server: McpServer;
  readonly request: McpRequest;
  readonly reply: Reply;
  /** The call, where the request is one call of a tool. */
  readonly call: ToolCall | undefined;
  readonly place: CallPlace | undefined;
  /** Distinguishes agents that the server may tell apart. */
  readonly who: () => string;
  /** Counts a call for its task's budget; false when there is nothing left. */
  readonly takeBudget: () => boolean;
  readonly onOver: () => void;
}
