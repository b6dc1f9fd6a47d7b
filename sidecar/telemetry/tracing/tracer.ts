import { CallTrace } from './call-trace.ts';
import { IdSource } from './ids.ts';
import { ModelCallTrace } from './model-call.ts';
import { type Sampler, samplesChild, samplesRoot } from './sampler.ts';
import { SpanShapes } from './shapes.ts';
import type { Span } from './span.ts';
import {
  cleanTracestate,
  formatTraceparent,
  NO_CONTEXT,
  parseTraceparent,
  SAMPLED,
  spanIdOf,
  traceIdOf,
  traceparentFromBinary,
} from './trace-context.ts';
import type { TracedCall, TracedOwner } from './traced-call.ts';

/** What a tracer writes to; `SpanQueue` is one. */
export interface SpanSink {
  add(span: Span): void;
}

export interface TracerSettings {
  readonly sampler: Sampler;
  /** Whether trace context is read from calls and written to them. */
  readonly propagates: boolean;
}

/**
 * Decides which calls are recorded, and what trace context goes upstream.
 *
 * A call goes on with the trace in its headers; without one, an outbound call goes on with the trace of the inbound
 * call that the app makes it for; without that it begins a trace. What is not recorded has no trace object. It still
 * has a context: the one that came with it, or a fresh one that says "not sampled", so that the hops behind do not
 * each decide again and record the middle of a trace that has no beginning.
 */
export class Tracer {
  readonly shapes: SpanShapes;
  private readonly sampler: Sampler;
  private readonly propagates: boolean;
  private readonly sink: SpanSink;
  private readonly ids: IdSource;

  constructor(settings: TracerSettings, sink: SpanSink, version: string, ids = new IdSource()) {
    this.sampler = settings.sampler;
    this.propagates = settings.propagates;
    this.sink = sink;
    this.shapes = new SpanShapes(version);
    this.ids = ids;
  }

  newSpanId(): string {
    return this.ids.spanId();
  }

  write(span: Span): void {
    this.sink.add(span);
  }

  /** Decides on a call: its trace, or null when it is not recorded. */
  begin(call: TracedCall): CallTrace | null {
    const traceparent = this.contextOf(call);
    if (traceparent !== '') {
      const flags = parseTraceparent(traceparent);
      if (!samplesChild(this.sampler, flags, traceparent)) return null;
      const traceState = call.info.tracestate === '' ? '' : cleanTracestate(call.info.tracestate);
      return this.trace(traceIdOf(traceparent), spanIdOf(traceparent), true, traceState, call.startedAtMs);
    }
    const owner = call.owner?.trace;
    if (owner === null) return null;
    if (owner !== undefined)
      return this.trace(owner.traceId, owner.spanId, false, owner.traceState, call.startedAtMs);
    const { ids } = this;
    ids.draw();
    if (!samplesRoot(this.sampler, ids.words)) return null;
    return this.trace(ids.traceId(), '', false, '', call.startedAtMs);
  }

  private trace(
    traceId: string,
    parentSpanId: string,
    remote: boolean,
    traceState: string,
    startedAtMs: number,
  ): CallTrace {
    return new CallTrace(this, traceId, this.ids.spanId(), parentSpanId, remote, traceState, startedAtMs);
  }

  /**
   * Decides on a request to a model: its trace, or null when it is not recorded. It belongs to the trace of its
   * `traceparent` ('' without one), or of the inbound call that the app makes it for.
   */
  beginModelCall(
    headers: { readonly traceparent: string; readonly tracestate: string },
    owner: TracedOwner | undefined,
    startedAtMs: number,
  ): ModelCallTrace | null {
    const flags = this.propagates ? parseTraceparent(headers.traceparent) : NO_CONTEXT;
    if (flags !== NO_CONTEXT) {
      const { traceparent } = headers;
      if (!samplesChild(this.sampler, flags, traceparent)) return null;
      const parent = {
        traceId: traceIdOf(traceparent),
        spanId: spanIdOf(traceparent),
        remote: true,
        traceState: cleanTracestate(headers.tracestate),
      };
      return new ModelCallTrace(this, parent, startedAtMs);
    }
    const trace = owner?.trace;
    if (trace === null) return null;
    if (trace !== undefined) {
      const { traceId, spanId, traceState } = trace;
      return new ModelCallTrace(this, { traceId, spanId, remote: false, traceState }, startedAtMs);
    }
    const { ids } = this;
    ids.draw();
    if (!samplesRoot(this.sampler, ids.words)) return null;
    const parent = { traceId: ids.traceId(), spanId: '', remote: false, traceState: '' };
    return new ModelCallTrace(this, parent, startedAtMs);
  }

  /** The well-formed `traceparent` that a call came with, or what its `grpc-trace-bin` stands for; '' without one. */
  private contextOf({ info }: TracedCall): string {
    if (!this.propagates) return '';
    if (info.traceparent !== '' && parseTraceparent(info.traceparent) !== NO_CONTEXT) return info.traceparent;
    return info.traceBinary === '' ? '' : (traceparentFromBinary(info.traceBinary) ?? '');
  }

  /**
   * The fields that say upstream which trace it is in, in place of those that came; undefined when those that came
   * are right.
   */
  fieldsFor(call: TracedCall): string[] | undefined {
    if (!this.propagates) return undefined;
    const { trace } = call;
    if (trace === null || trace === undefined) return this.unsampledFields(call);
    const traceparent = formatTraceparent(trace.traceId, trace.beginAttempt(call), true);
    return trace.traceState === ''
      ? ['traceparent', traceparent]
      : ['traceparent', traceparent, 'tracestate', trace.traceState];
  }

  private unsampledFields(call: TracedCall): string[] | undefined {
    const { info } = call;
    const context = this.contextOf(call);
    if (context === '') {
      const { ids } = this;
      ids.draw();
      return ['traceparent', formatTraceparent(ids.traceId(), ids.spanId(), false)];
    }
    // Sampled by who sent it, and not here: those behind would hang their spans below one that nobody records.
    if ((parseTraceparent(context) & SAMPLED) === 0) return undefined;
    const fields = ['traceparent', formatTraceparent(traceIdOf(context), spanIdOf(context), false)];
    if (info.tracestate !== '') fields.push('tracestate', info.tracestate);
    return fields;
  }
}
