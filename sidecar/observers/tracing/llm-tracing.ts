/** Creates the CLIENT span of each request to a model. The span never holds a prompt, an answer or a key. */
import { ownerOfRequest } from '../../listeners/inbound-link.ts';
import { textOf } from '../../llm/shared/headers.ts';
import type { ProviderFailure } from '../../llm/shared/provider-failure.ts';
import type {
  LlmAttemptInfo,
  LlmObserver,
  LlmRecord,
  LlmRequestInfo,
  LlmRequestObserver,
} from '../../llm/shared/request-observer.ts';
import { usdOf } from '../../policy/money.ts';
import type { InboundCalls } from '../../proxy/inbound-calls.ts';
import type { ModelCallTrace } from './model-call.ts';
import type { Tracer } from './tracer.ts';

/** The names of OpenTelemetry's conventions for generative AI. */
const OPERATION_NAMES: Readonly<Record<string, string>> = {
  chat: 'chat',
  responses: 'chat',
  messages: 'chat',
  completions: 'text_completion',
  embeddings: 'embeddings',
};

export class LlmTracing implements LlmObserver {
  private readonly tracer: Tracer;
  private readonly inboundCalls: InboundCalls;
  private readonly clock: () => number;

  constructor(tracer: Tracer, inboundCalls: InboundCalls, clock: () => number) {
    this.tracer = tracer;
    this.inboundCalls = inboundCalls;
    this.clock = clock;
  }

  begin(info: LlmRequestInfo): LlmRequestObserver | undefined {
    const { headers } = info;
    const correlationId = textOf(headers['x-correlation-id']) ?? '';
    const owner = ownerOfRequest(this.inboundCalls, headers)?.call;
    const trace = this.tracer.beginModelCall((name) => textOf(headers[name]), owner, this.clock());
    // If the agent propagates no context, the running call identifies the conversation.
    const conversationId = correlationId || (owner?.task?.correlationId ?? '');
    return trace === null ? undefined : new TracedRequest(this.tracer, trace, conversationId, this.clock);
  }
}

class TracedRequest implements LlmRequestObserver {
  private readonly tracer: Tracer;
  private readonly trace: ModelCallTrace;
  private readonly conversationId: string;
  private readonly clock: () => number;
  private server = '';

  constructor(tracer: Tracer, trace: ModelCallTrace, conversationId: string, clock: () => number) {
    this.tracer = tracer;
    this.trace = trace;
    this.conversationId = conversationId;
    this.clock = clock;
  }

  onAttempt({ attempt, headers, serverAddress, serverPort, upstream }: LlmAttemptInfo): void {
    this.server = `${serverAddress.includes(':') ? `[${serverAddress}]` : serverAddress}:${serverPort}`;
    this.tracer.writeContext(headers, this.trace);
    if (attempt > 1)
      this.trace.event('outrigger.llm.retry', this.clock(), [
        'outrigger.llm.upstream',
        upstream,
        'outrigger.attempt',
        attempt,
      ]);
  }

  onAttemptEnd(failure: ProviderFailure | undefined, status: number): void {
    if (failure === undefined) return;
    const why = failure.reason === 'status' ? String(status) : failure.reason;
    this.trace.event('outrigger.llm.attempt_failed', this.clock(), ['error.type', why]);
  }

  onEnd(record: LlmRecord): void {
    const { info } = record;
    this.trace.end(
      {
        provider: record.upstream,
        server: this.server,
        operation: OPERATION_NAMES[info.operation] ?? info.operation,
        requestModel: info.model,
        responseModel: record.responseModel ?? '',
        responseId: record.responseId ?? '',
        finishReason: record.finishReason ?? '',
        stream: info.stream,
        inputTokens: record.tokensAreExact && record.outcome === 'success' ? record.inputTokens : -1,
        outputTokens: record.tokensAreExact && record.outcome === 'success' ? record.outputTokens : -1,
        costUsd: record.costNanos === undefined ? -1 : usdOf(record.costNanos),
        firstChunkMs: info.stream && record.firstByteMs > 0 ? record.firstByteMs : -1,
        httpStatus: record.status,
        attempts: record.attempts,
        isReplayed: record.isReplayed,
        errorType: record.outcome === 'success' ? '' : record.reason || record.outcome,
        conversationId: this.conversationId,
      },
      this.clock(),
    );
  }
}
