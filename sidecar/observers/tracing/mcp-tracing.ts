/**
 * Creates the CLIENT span of each request to a tool server, by OpenTelemetry's conventions for MCP and generative AI. The
 * span never holds arguments, results or keys.
 */
import { ownerOfRequest } from '../../listeners/inbound-link.ts';
import { type HttpHeaders, textOf } from '../../llm/shared/headers.ts';
import type {
  McpObserver,
  McpRecord,
  McpRequestInfo,
  McpRequestObserver,
} from '../../mcp/shared/mcp-observer.ts';
import type { InboundCalls } from '../../proxy/inbound-calls.ts';
import type { AttributeValue } from '../../telemetry/tracing/span.ts';
import type { ModelCallTrace } from './model-call.ts';
import { serverAttributes } from './server-attributes.ts';

import type { Tracer } from './tracer.ts';

const MAX_TEXT_CHARS = 256;

export class McpTracing implements McpObserver {
  private readonly tracer: Tracer;
  private readonly inboundCalls: InboundCalls;
  private readonly clock: () => number;

  constructor(tracer: Tracer, inboundCalls: InboundCalls, clock: () => number) {
    this.tracer = tracer;
    this.inboundCalls = inboundCalls;
    this.clock = clock;
  }

  begin({ headers }: McpRequestInfo): McpRequestObserver | undefined {
    const owner = ownerOfRequest(this.inboundCalls, headers)?.call;
    const trace = this.tracer.beginModelCall((name) => textOf(headers[name]), owner, this.clock());
    return trace === null ? undefined : new TracedMcpRequest(this.tracer, trace, this.clock);
  }
}

class TracedMcpRequest implements McpRequestObserver {
  private readonly tracer: Tracer;
  private readonly trace: ModelCallTrace;
  private readonly clock: () => number;

  constructor(tracer: Tracer, trace: ModelCallTrace, clock: () => number) {
    this.tracer = tracer;
    this.trace = trace;
    this.clock = clock;
  }

  onAttempt(attempt: number, headers: HttpHeaders): void {
    this.tracer.writeContext(headers, this.trace);
    if (attempt > 1) this.trace.event('outrigger.mcp.retry', this.clock(), ['outrigger.attempt', attempt]);
  }

  onAttemptEnd(why: string): void {
    if (why !== '') this.trace.event('outrigger.mcp.attempt_failed', this.clock(), ['error.type', why]);
  }

  onEnd(record: McpRecord): void {
    const { info, outcome } = record;
    // An agent chooses the names of tools: those that the server does not know stay out of the names of spans.
    const isKnown = outcome !== 'error' && outcome !== 'refused';
    const ofTool = isKnown ? `execute_tool ${cut(info.tool)}` : 'execute_tool';
    const name = info.tool === '' ? cut(info.method) : ofTool;
    this.trace.endAs({ name, attributes: attributesOf(record), failed: hasFailed(record) }, this.clock());
  }
}

function hasFailed({ outcome }: McpRecord): boolean {
  return outcome !== 'success' && outcome !== 'replayed' && outcome !== 'resumable';
}

function attributesOf(record: McpRecord): AttributeValue[] {
  const { info, errorCode, attempts, outcome, reason } = record;
  const attributes: AttributeValue[] = ['mcp.method.name', cut(info.method)];
  if (info.tool !== '')
    attributes.push('gen_ai.operation.name', 'execute_tool', 'gen_ai.tool.name', cut(info.tool));
  attributes.push('mcp.protocol.version', info.revision, 'jsonrpc.request.id', cut(info.requestId));
  if (info.sessionId !== '') attributes.push('mcp.session.id', cut(info.sessionId));
  attributes.push(...serverAttributes(info.address), 'outrigger.mcp.server', info.server);
  if (errorCode !== undefined) attributes.push('rpc.response.status_code', String(errorCode));
  attributes.push('outrigger.attempts', attempts);
  if (outcome === 'replayed') attributes.push('outrigger.journal', 'replayed');
  if (hasFailed(record)) attributes.push('error.type', reason || outcome);
  return attributes;
}

function cut(text: string): string {
  return text.slice(0, MAX_TEXT_CHARS);
}
