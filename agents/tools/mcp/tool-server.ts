/** The runner's tools as an MCP server: one for each request, or for each session of the protocol's earlier revisions. */
import {
  type CallToolResult,
  type Tool as McpTool,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  type ServerContext,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server';
import { AgentError, classify } from '../../runtime/errors.ts';
import type { traceHeaders } from '../../tracing/tracing.ts';
import type { Tool } from '../catalogue/tool.ts';
import type { Runner } from '../run/runner.ts';
import type { ToolRequest } from '../run/tool-run.ts';
import { traced } from '../serve/traced.ts';
import { refusalOf, resultOf } from './call-result.ts';
import { progressOf } from './progress.ts';
import type { Calls } from './running-calls.ts';

/** Names the call for good, as `call_id` of gRPC; a client may also send the header `idempotency-key`. */
const callIdKey = 'dev.outrigger/call_id';
/** The task whose workspace the tool sees, as `task_id` of gRPC. */
const taskIdKey = 'dev.outrigger/task_id';
const maxId = 256;

/** How long a client may keep the list: it changes only when the runner starts anew. */
const listTtlMs = 60_000;

/** @param caller what tells the client apart from others */
export function toolServer(runner: Runner, calls: Calls, caller: string): Server {
  const server = new Server(
    { name: 'outrigger-tools', version: '1.0.0' },
    {
      capabilities: { tools: {} },
      cacheHints: { 'tools/list': { ttlMs: listTtlMs, cacheScope: 'private' } },
    },
  );
  const tools = runner.catalogue.tools.map(describe);
  server.setRequestHandler('tools/list', () => ({ tools }));
  server.setRequestHandler('tools/call', async ({ params }, context) => {
    if (!runner.catalogue.has(params.name)) {
      const names = tools.map(({ name }) => name).join(', ');
      throw new ProtocolError(
        ProtocolErrorCode.InvalidParams,
        `there is no tool "${params.name.slice(0, 64)}"; there are ${names}`,
      );
    }
    const request: ToolRequest = {
      tool: params.name,
      arguments: JSON.stringify(params.arguments ?? {}),
      caller,
      ...idsOf(context),
    };
    const { stopping, end } = calls.begin(context.mcpReq.id);
    const left = context.http?.req?.signal;
    const signal = AbortSignal.any([context.mcpReq.signal, stopping, ...(left === undefined ? [] : [left])]);
    try {
      return await call(runner, request, signal, stopping, context);
    } finally {
      end();
      // A cancelled call gets no answer: nothing else would end its stream in a session.
      const { transport } = server;
      if (context.mcpReq.signal.aborted && transport instanceof WebStandardStreamableHTTPServerTransport)
        transport.closeSSEStream(context.mcpReq.id);
    }
  });
  return server;
}

async function call(
  runner: Runner,
  request: ToolRequest,
  given: AbortSignal,
  stopping: AbortSignal,
  context: ServerContext,
): Promise<CallToolResult> {
  const progress = progressOf(context);
  const ending = new AbortController();
  const end = () =>
    ending.abort(
      stopping.aborted
        ? new AgentError('UNAVAILABLE', 'the tool runner is stopping')
        : new AgentError('CANCELLED', 'the caller cancelled the call'),
    );
  given.addEventListener('abort', end, { once: true });
  if (given.aborted) end();
  try {
    const outcome = await traced(
      request,
      (name) => headerOf(context, name),
      () => runner.run(request, ending.signal, progress),
    );
    return resultOf(outcome);
  } catch (error) {
    return refusalOf(classify(error));
  } finally {
    given.removeEventListener('abort', end);
  }
}

/** Without a task, a session of the earlier revisions is one: its calls share a workspace. */
function idsOf({ mcpReq, http, sessionId }: ServerContext): Pick<ToolRequest, 'callId' | 'taskId'> {
  const text = (value: unknown) => {
    if (typeof value !== 'string') return undefined;
    if (value.length <= maxId) return value;
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, `an id has ${maxId} characters at most`);
  };
  const meta = mcpReq._meta as Record<string, unknown> | undefined;
  return {
    callId: text(meta?.[callIdKey]) ?? text(http?.req?.headers.get('idempotency-key')) ?? '',
    taskId: text(meta?.[taskIdKey]) ?? (sessionId === undefined ? '' : `session ${sessionId}`),
  };
}

/** The revision 2026-07-28 carries the trace in `_meta`; before, it came as a header. */
function headerOf({ mcpReq, http }: ServerContext, name: (typeof traceHeaders)[number]): string | undefined {
  const carried = (mcpReq._meta as Record<string, unknown> | undefined)?.[name];
  return typeof carried === 'string' ? carried : (http?.req?.headers.get(name) ?? undefined);
}

function describe(tool: Tool): McpTool {
  return {
    name: tool.name,
    description: tool.description,
    inputSchema: { ...tool.schema, type: 'object' },
    annotations: {
      readOnlyHint: tool.readOnly,
      destructiveHint: !tool.readOnly,
      idempotentHint: tool.idempotent,
      openWorldHint: tool.network || tool.name === 'http_fetch',
    },
  };
}
