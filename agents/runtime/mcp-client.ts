/** A client of one MCP server for one task; mcp-servers.ts loads this file where servers are configured. */
import {
  type CallToolResult,
  Client,
  ProtocolError,
  SdkError,
  SdkErrorCode,
  SdkHttpError,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client';
import { isHeaderValue } from './forwarded-metadata.ts';
import { resultText, type ToolAnswer, whyNoResult } from './mcp-answer.ts';
import type { ModelTool } from './tools.ts';

/** The longest delay of a Node timer. */
const longestMs = 2 ** 31 - 1;
const farewellMs = 2_000;

/** How long and for whom a request may go on. */
interface Limits {
  readonly signal: AbortSignal;
  /** Milliseconds since the epoch. */
  readonly deadlineMs: number;
}

/** It connects with the first request, and retries nothing: the sidecar knows what may be sent again. */
export class McpClient {
  private readonly url: string;
  private readonly headers: Readonly<Record<string, string>>;
  private connected: Promise<{ client: Client; transport: StreamableHTTPClientTransport }> | undefined;

  /** @param headers the task's own, by which the sidecar finds it again */
  constructor(url: string, headers: Readonly<Record<string, string>>) {
    this.url = url;
    this.headers = headers;
  }

  /** @throws what the SDK throws */
  async list(limits: Limits): Promise<readonly ModelTool[]> {
    const { client } = await this.connect(limits);
    const { tools } = await client.listTools(undefined, optionsOf(limits));
    return tools.map(({ name, description = '', inputSchema }) => {
      const parameters: Record<string, unknown> = { ...inputSchema };
      return { type: 'function', function: { name, description, parameters } };
    });
  }

  /** Calls a tool once. @throws the signal's reason */
  async call(name: string, args: Record<string, unknown>, ids: CallIds, limits: Limits): Promise<ToolAnswer> {
    let isSent = false;
    try {
      const { client } = await this.connect(limits);
      limits.signal.throwIfAborted();
      isSent = true;
      const meta = { 'dev.outrigger/call_id': ids.callId, 'dev.outrigger/task_id': ids.taskId };
      const result = await client.callTool(
        { name, arguments: args, _meta: meta },
        {
          ...optionsOf(limits),
          ...(isHeaderValue(ids.callId) ? { headers: { 'idempotency-key': ids.callId } } : {}),
        },
      );
      return answerOf(result);
    } catch (thrown) {
      limits.signal.throwIfAborted();
      return failureOf(thrown, isSent);
    }
  }

  /** Ends what still runs, and the session where the server has one. */
  close(): void {
    void this.connected
      ?.then(async ({ client, transport }) => {
        if (transport.sessionId !== undefined)
          await Promise.race([
            transport.terminateSession(),
            new Promise((resolve) => setTimeout(resolve, farewellMs).unref()),
          ]);
        await client.close();
      }, noop)
      .catch(noop);
    this.connected = undefined;
  }

  private connect(limits: Limits) {
    this.connected ??= this.open(limits).catch((error: unknown) => {
      this.connected = undefined;
      throw error;
    });
    return this.connected;
  }

  private async open(limits: Limits) {
    const client = new Client(
      { name: 'outrigger-agent', version: '1.0.0' },
      { capabilities: {}, versionNegotiation: { mode: 'auto' } },
    );
    const transport = new StreamableHTTPClientTransport(new URL(this.url), {
      requestInit: { headers: { ...this.headers } },
    });
    await client.connect(transport, optionsOf(limits));
    return { client, transport };
  }
}

/** The names of a call, by which a repeated one is known. */
export interface CallIds {
  readonly callId: string;
  readonly taskId: string;
}

const noop = (): void => {};

function optionsOf({ signal, deadlineMs }: Limits) {
  const timeout = Math.min(Math.max(1, deadlineMs - Date.now()), longestMs);
  return { signal, timeout, maxTotalTimeout: timeout };
}

function answerOf({ content, structuredContent, isError, _meta }: CallToolResult): ToolAnswer {
  const text = resultText(content, structuredContent);
  const failed = isError === true ? whyNoResult(text, _meta) : undefined;
  return failed === undefined ? { text } : { text, failed };
}

/** The server or the sidecar has refused the call, or nobody knows what became of it. */
function failureOf(thrown: unknown, isSent: boolean): ToolAnswer {
  const { message } = thrown as Error;
  if (thrown instanceof ProtocolError)
    return { text: `The tool did not succeed: ${message}`, failed: message };
  const isRefused =
    !isSent ||
    (thrown instanceof SdkHttpError && thrown.status >= 400 && thrown.status < 500) ||
    (thrown as { cause?: { code?: unknown } }).cause?.code === 'ECONNREFUSED';
  if (isRefused) return { text: `The tool was not called: ${message}`, failed: message };
  const isLate = thrown instanceof SdkError && thrown.code === SdkErrorCode.RequestTimeout;
  const why = isLate ? 'its time is over' : message;
  return {
    text: `The outcome is unknown: ${why}. The tool may or may not have done its work. Do not assume either.`,
    failed: `outcome unknown: ${why}`,
  };
}
