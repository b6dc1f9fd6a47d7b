/** The span of one request to a model. */
import { spanIdText } from '../../telemetry/ids.ts';
import {
  type Attributes,
  type AttributeValue,
  NO_ATTRIBUTES,
  type Span,
  type SpanEvent,
  SpanKind,
  SpanShape,
} from '../../telemetry/tracing/span.ts';
import { serverAttributes } from './server-attributes.ts';

import type { SpanRecorder } from './span-recorder.ts';

/** The end of a model request. Unknown attributes are omitted. */
export interface ModelCallEnd {
  /** `openai`, `anthropic`, …: a well-known value of `gen_ai.provider.name`, or the upstream's name. */
  readonly provider: string;
  /** `host` or `host:port` of the upstream. */
  readonly server: string;
  /** `chat`, `embeddings`, `text_completion`, … */
  readonly operation: string;
  readonly requestModel: string;
  readonly responseModel: string;
  readonly responseId: string;
  readonly finishReason: string;
  readonly stream: boolean;
  /** -1 when the answer reported none. */
  /** What the request has cost, in USD; -1 where that is unknown. */
  readonly costUsd: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Until the first chunk of a stream, in milliseconds; -1 without one. */
  readonly firstChunkMs: number;
  /** HTTP status; 0 without an answer. */
  readonly httpStatus: number;
  /** Provider attempts, including retries and fallbacks. */
  readonly attempts: number;
  /** The answer is that of an earlier run of the task. */
  readonly isReplayed: boolean;
  /** Why it failed: `429`, `timeout`, `connect_failed`, …; '' for success. */
  readonly errorType: string;
  /** The conversation of the task for which the agent made the request; '' when unknown. */
  readonly conversationId: string;
}

/** Models and servers are few, but callers could invent long ones. */
const MAX_TEXT_CHARS = 256;
const MAX_EVENTS = 32;

/**
 * The CLIENT span of one request to a model provider, including all retries (OpenTelemetry's conventions for generative
 * AI, in development). It never holds a prompt, an answer or a key.
 */
export class ModelCallTrace {
  readonly traceId: string;
  private readonly spanHigh: number;
  private readonly spanLow: number;
  private readonly recorder: SpanRecorder;
  private readonly parentHigh: number;
  private readonly parentLow: number;
  private readonly parentIsRemote: boolean;
  readonly traceState: string;
  readonly traceFlags: number;
  private readonly startedAtMs: number;
  private events: SpanEvent[] | undefined = undefined;
  private droppedEvents = 0;

  constructor(
    recorder: SpanRecorder,
    parent: {
      traceId: string;
      spanHigh: number;
      spanLow: number;
      remote: boolean;
      traceState: string;
      traceFlags: number;
    },
    startedAtMs: number,
  ) {
    this.recorder = recorder;
    this.traceId = parent.traceId;
    this.parentHigh = parent.spanHigh;
    this.parentLow = parent.spanLow;
    this.parentIsRemote = parent.remote;
    this.traceState = parent.traceState;
    this.traceFlags = parent.traceFlags;
    this.startedAtMs = startedAtMs;
    this.spanHigh = recorder.ids.next();
    this.spanLow = recorder.ids.nextOdd();
  }

  get spanId(): string {
    return spanIdText(this.spanHigh, this.spanLow);
  }

  /** Records a retry, a fallback, or a rejection by the circuit or a limit. */
  event(name: string, atMs: number, attributes: Attributes = NO_ATTRIBUTES): void {
    this.events ??= [];
    if (this.events.length >= MAX_EVENTS) this.droppedEvents++;
    else this.events.push({ name, atMs, attributes });
  }

  end(end: ModelCallEnd, endedAtMs: number): void {
    const model = end.requestModel.slice(0, MAX_TEXT_CHARS);
    const named = this.recorder.models.nameOf(end.requestModel, end.errorType);
    const name = named === '' ? end.operation : `${end.operation} ${named}`;
    const failed = end.errorType !== '';
    this.endAs({ name, attributes: modelAttributes(end, model), failed }, endedAtMs);
  }

  /** Ends a span of another kind of request. */
  endAs(
    {
      name,
      attributes,
      failed,
    }: { readonly name: string; readonly attributes: AttributeValue[]; readonly failed: boolean },
    endedAtMs: number,
  ): void {
    const span: Span = {
      shape: new SpanShape(name, SpanKind.CLIENT, NO_ATTRIBUTES),
      traceId: this.traceId,
      spanHigh: this.spanHigh,
      spanLow: this.spanLow,
      parentHigh: this.parentHigh,
      parentLow: this.parentLow,
      parentIsRemote: this.parentIsRemote,
      traceState: this.traceState,
      traceFlags: this.traceFlags,
      startedAtMs: this.startedAtMs,
      endedAtMs,
      attributes,
      events: this.events,
      droppedEvents: this.droppedEvents,
      links: undefined,
      failed,
      statusMessage: '',
    };
    this.recorder.write(span);
  }
}

function modelAttributes(end: ModelCallEnd, model: string): AttributeValue[] {
  const attributes: AttributeValue[] = ['gen_ai.operation.name', end.operation];
  const text = (name: string, value: string): void => {
    if (value !== '') attributes.push(name, value.slice(0, MAX_TEXT_CHARS));
  };
  const number = (name: string, value: number): void => {
    if (value >= 0) attributes.push(name, value);
  };
  text('gen_ai.provider.name', end.provider);
  text('gen_ai.request.model', model);
  text('gen_ai.response.model', end.responseModel);
  text('gen_ai.response.id', end.responseId);
  if (end.finishReason !== '')
    attributes.push('gen_ai.response.finish_reasons', [end.finishReason.slice(0, MAX_TEXT_CHARS)]);
  text('gen_ai.conversation.id', end.conversationId);
  number('gen_ai.usage.input_tokens', end.inputTokens);
  number('gen_ai.usage.output_tokens', end.outputTokens);
  number('outrigger.cost_usd', end.costUsd);
  if (end.stream) attributes.push('gen_ai.request.stream', true);
  if (end.firstChunkMs >= 0) attributes.push('gen_ai.response.time_to_first_chunk', end.firstChunkMs / 1000);
  attributes.push(...serverAttributes(end.server.slice(0, MAX_TEXT_CHARS)));
  if (end.httpStatus > 0) attributes.push('http.response.status_code', end.httpStatus);
  attributes.push('outrigger.attempts', end.attempts);
  if (end.isReplayed) attributes.push('outrigger.journal', 'replayed');
  text('error.type', end.errorType);
  return attributes;
}
