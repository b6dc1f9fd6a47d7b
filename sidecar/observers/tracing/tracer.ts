/** Decides which calls are recorded, and which trace context goes upstream. */
import { literalSize, writeLiteral } from '../../http2/hpack/encoder.ts';
import type { CallTracer, ObservedCall, TraceOwner } from '../../proxy/observed-call.ts';
import { AGENT_HEALTH_CHECK_PATH } from '../../task/task-message.ts';
import { IdSource, readHex, writeHex } from '../../telemetry/ids.ts';
import {
  cleanTracestate,
  formatTraceparent,
  NO_CONTEXT,
  parseTraceparent,
  RANDOM,
  SAMPLED,
  traceIdOf,
  traceparentFromBinary,
} from '../../telemetry/trace-context.ts';
import {
  contextFields,
  DEBUG,
  type Propagator,
  type ReadContext,
  readContext,
  replacedFields,
} from '../../telemetry/tracing/propagators.ts';
import { type Sampler, samplesChild, samplesRoot } from '../../telemetry/tracing/sampler.ts';
import type { Span } from '../../telemetry/tracing/span.ts';
import { ModelCallTrace } from './model-call.ts';
import { ModelNames } from './model-names.ts';
import { RecordedCall } from './recorded-call.ts';
import { SpanShapes } from './shapes.ts';
import { AttemptSpan, type SpanRecorder } from './span-recorder.ts';

/** The destination of ended spans; `SpanQueue` is one. */
export interface SpanSink {
  add(span: Span): void;
}

export interface TracerSettings {
  readonly sampler: Sampler;
  /** The formats in which the tracer reads trace context from calls and writes it to them. */
  readonly propagators: readonly Propagator[];
}

/**
 * A call continues the trace in its headers. Without one, an outbound call continues the trace of the inbound call that
 * owns it. Without that, it begins a trace. A call that is not recorded has no trace object, but it still has a
 * context: the one in its headers, or a new one that says "not sampled". Otherwise each later hop would decide again,
 * and record the middle of a trace without a beginning. Health checks begin no trace: they come every few seconds, and
 * would outnumber all other spans.
 */
export class Tracer implements CallTracer, SpanRecorder {
  readonly shapes: SpanShapes;
  readonly ids: IdSource;
  readonly models = new ModelNames();
  /** Reused for each attempt. */
  readonly attemptSpan = new AttemptSpan();
  private readonly sampler: Sampler;
  private readonly propagators: readonly Propagator[];
  /** Most deployments use W3C alone, which costs least. */
  private readonly onlyW3c: boolean;
  private readonly replaced: ReadonlySet<string>;
  private readonly sink: SpanSink;
  private readonly field = traceparentField();
  /** The same for calls that are not sampled and arrived without a context. */
  private readonly unsampled = traceparentField();
  private unsampledUses = 0;

  constructor(settings: TracerSettings, sink: SpanSink, version: string, ids = new IdSource()) {
    this.sampler = settings.sampler;
    this.propagators = settings.propagators;
    this.onlyW3c = settings.propagators.length === 1 && settings.propagators[0] === 'tracecontext';
    this.replaced = replacedFields(settings.propagators);
    this.replaces = this.onlyW3c ? undefined : (name) => this.replaced.has(name);
    this.sink = sink;
    this.shapes = new SpanShapes(version);
    this.ids = ids;
  }

  write(span: Span): void {
    this.sink.add(span);
  }

  /** Decides on a call: returns its trace, or null when it is not recorded. */
  begin(call: ObservedCall): RecordedCall | null {
    const traceparent = this.contextOf(call);
    if (traceparent !== '') {
      const came = parseTraceparent(traceparent);
      if (!samplesChild(this.sampler, came, traceparent)) return null;
      const tracestate = this.stateOf(call, traceparent);
      const traceState = tracestate === '' ? '' : cleanTracestate(tracestate);
      const [high, low] = [readHex(traceparent, SPAN_ID_AT), readHex(traceparent, SPAN_ID_AT + 8)];
      const flags = passedFlags(came) | SAMPLED;
      return new RecordedCall(
        this,
        traceIdOf(traceparent),
        high,
        low,
        true,
        traceState,
        flags,
        call.startedAtMs,
      );
    }
    const owner = call.owner?.trace;
    if (owner === null) return null;
    if (owner !== undefined) {
      const { traceId, spanHigh, spanLow, traceState, traceFlags } = owner;
      return new RecordedCall(
        this,
        traceId,
        spanHigh,
        spanLow,
        false,
        traceState,
        traceFlags,
        call.startedAtMs,
      );
    }
    const { ids } = this;
    const folded = ids.next();
    if (!samplesRoot(this.sampler, folded) || isHealthCheck(call.head.path)) return null;
    ids.draw(folded);
    return new RecordedCall(this, ids.traceId(), 0, 0, false, '', SAMPLED | RANDOM, call.startedAtMs);
  }

  /**
   * Decides on a request to a model: returns its trace, or null when it is not recorded. The request belongs to the
   * trace in its headers, or to that of the inbound call that owns it.
   *
   * @param get returns a header's value, by its name in lower case
   */
  beginModelCall(
    get: (name: string) => string | undefined,
    owner: TraceOwner | undefined,
    startedAtMs: number,
  ): ModelCallTrace | null {
    const { traceparent, tracestate } = readContext(this.propagators, get);
    if (traceparent !== '') {
      const flags = parseTraceparent(traceparent);
      if (!samplesChild(this.sampler, flags, traceparent)) return null;
      const parent = {
        traceId: traceIdOf(traceparent),
        spanHigh: readHex(traceparent, SPAN_ID_AT),
        spanLow: readHex(traceparent, SPAN_ID_AT + 8),
        remote: true,
        traceState: cleanTracestate(tracestate),
        traceFlags: passedFlags(flags) | SAMPLED,
      };
      return new ModelCallTrace(this, parent, startedAtMs);
    }
    const trace = owner?.trace;
    if (trace === null) return null;
    if (trace !== undefined) {
      const { traceId, spanHigh, spanLow, traceState, traceFlags } = trace;
      const parent = { traceId, spanHigh, spanLow, remote: false, traceState, traceFlags };
      return new ModelCallTrace(this, parent, startedAtMs);
    }
    const { ids } = this;
    const folded = ids.next();
    if (!samplesRoot(this.sampler, folded)) return null;
    ids.draw(folded);
    const traceFlags = SAMPLED | RANDOM;
    const parent = {
      traceId: ids.traceId(),
      spanHigh: 0,
      spanLow: 0,
      remote: false,
      traceState: '',
      traceFlags,
    };
    return new ModelCallTrace(this, parent, startedAtMs);
  }

  /** Writes the context for the provider into the request's headers. */
  writeContext(
    headers: Record<string, unknown>,
    { traceId, spanId, traceState, traceFlags }: ModelCallTrace,
  ): void {
    const fields = contextFields(this.propagators, traceId, spanId, traceFlags, traceState);
    for (const name of this.replaced) if (name in headers) delete headers[name];
    for (let i = 0; i < fields.length; i += 2) headers[fields[i]!] = fields[i + 1]!;
  }

  /** Whether an attempt's context replaces a field of this name; undefined where only W3C's fields are written. */
  readonly replaces: ((name: string) => boolean) | undefined;

  /** The well-formed `traceparent` of a call, or one converted from other fields; '' without one. */
  private contextOf(call: ObservedCall): string {
    const { info } = call;
    if (!this.onlyW3c) return this.read(call).traceparent;
    if (info.traceparent !== '' && parseTraceparent(info.traceparent) !== NO_CONTEXT) return info.traceparent;
    return info.traceBinary === '' ? '' : (traceparentFromBinary(info.traceBinary) ?? '');
  }

  /** The `tracestate` that belongs to this context. */
  private stateOf(call: ObservedCall, traceparent: string): string {
    if (this.onlyW3c) return call.info.tracestate;
    const came = this.read(call);
    return came.traceparent === traceparent ? came.tracestate : '';
  }

  private read({ info, list }: ObservedCall): ReadContext {
    return readContext(this.propagators, (name) => {
      // A repeated traceparent is malformed here; repeated tracestate fields are joined.
      if (name === 'traceparent') return info.traceparent;
      return name === 'tracestate' ? info.tracestate : list.get(name)?.trim();
    });
  }

  /**
   * The header fields that carry the trace context upstream and replace the received ones, encoded as literals that may
   * follow any header block (RFC 7541 §6.2.2). Undefined when the received fields are right. Use the result at once:
   * the next call overwrites it.
   */
  fieldsFor(call: ObservedCall, attemptNumber: number): Buffer | undefined {
    if (this.propagators.length === 0) return undefined;
    const { trace } = call;
    if (trace === null || trace === undefined) return this.unsampledFields(call);
    trace.beginAttempt(call, attemptNumber, this.writeSpanId);
    return this.fields(trace.traceId, trace.traceFlags, trace.traceState);
  }

  private readonly writeSpanId = (high: number, low: number): void => {
    writeHex(this.field, VALUE_AT + SPAN_ID_AT, high);
    writeHex(this.field, VALUE_AT + SPAN_ID_AT + 8, low);
  };

  private unsampledFields(call: ObservedCall): Buffer | undefined {
    const context = this.contextOf(call);
    const { ids } = this;
    if (context === '') {
      if (!this.onlyW3c) return this.freshFields();
      // The common case: half of each id is generated for each call, the other half once for several calls.
      const { unsampled } = this;
      if (this.unsampledUses-- === 0) {
        this.unsampledUses = UNSAMPLED_USES;
        for (let i = 0; i < 3; i++) writeHex(unsampled, VALUE_AT + TRACE_ID_AT + i * 8, ids.nextOdd());
        writeHex(unsampled, VALUE_AT + SPAN_ID_AT, ids.next());
      }
      writeHex(unsampled, VALUE_AT + TRACE_ID_AT + 24, ids.next());
      writeHex(unsampled, VALUE_AT + SPAN_ID_AT + 8, ids.nextOdd());
      return unsampled;
    }
    // The sender sampled the call and we did not: the parent of later hops' spans would be one that is never recorded.
    const flags = parseTraceparent(context);
    if ((flags & SAMPLED) === 0 && this.onlyW3c) return undefined;
    this.writeSpanId(readHex(context, SPAN_ID_AT), readHex(context, SPAN_ID_AT + 8));
    return this.fields(traceIdOf(context), passedFlags(flags) & RANDOM, this.stateOf(call, context));
  }

  /** A context that says "not sampled", in formats other than W3C's alone. */
  private freshFields(): Buffer {
    const { ids } = this;
    ids.draw(ids.next());
    this.writeSpanId(ids.next(), ids.nextOdd());
    return this.fields(ids.traceId(), RANDOM, '');
  }

  /** The span's id is already written. */
  private fields(traceId: string, flags: number, traceState: string): Buffer {
    const { field } = this;
    if (!this.onlyW3c) {
      const spanId = field.toString('latin1', VALUE_AT + SPAN_ID_AT, VALUE_AT + SPAN_ID_AT + 16);
      return literals(contextFields(this.propagators, traceId, spanId, flags, traceState));
    }
    for (let i = 0; i < traceId.length; i++) field[VALUE_AT + TRACE_ID_AT + i] = traceId.charCodeAt(i);
    field[field.length - 1] = ZERO + (flags & (SAMPLED | RANDOM));
    if (traceState === '') return field;
    const both = Buffer.allocUnsafe(field.length + literalSize('tracestate', traceState));
    writeLiteral(both, field.copy(both), 'tracestate', traceState);
    return both;
  }
}

function isHealthCheck(path: string): boolean {
  return path === AGENT_HEALTH_CHECK_PATH || path.startsWith('/grpc.health.v1.Health/');
}

const TRACEPARENT_LENGTH = 55;
const TRACE_ID_AT = 3;
const SPAN_ID_AT = 36;
/** The number of calls whose contexts share the same first 96 bits; the other 32 differ. */
const UNSAMPLED_USES = 64;
const ZERO = 0x30;
const EMPTY_TRACEPARENT = formatTraceparent('0'.repeat(32), '0'.repeat(16), false);
/** Where the value begins in the encoded field. */
const VALUE_AT = literalSize('traceparent', EMPTY_TRACEPARENT) - TRACEPARENT_LENGTH;

/** The received flags that are passed on. */
function passedFlags(flags: number): number {
  return flags & (RANDOM | DEBUG);
}

/** The fields (alternating name and value) as literals. */
function literals(fields: readonly string[]): Buffer {
  let size = 0;
  for (let i = 0; i < fields.length; i += 2) size += literalSize(fields[i]!, fields[i + 1]!);
  const buffer = Buffer.allocUnsafe(size);
  let at = 0;
  for (let i = 0; i < fields.length; i += 2) at = writeLiteral(buffer, at, fields[i]!, fields[i + 1]!);
  return buffer;
}

/** `traceparent` as a literal field with a placeholder for the value. */
function traceparentField(): Buffer {
  const field = Buffer.allocUnsafeSlow(VALUE_AT + TRACEPARENT_LENGTH);
  writeLiteral(field, 0, 'traceparent', EMPTY_TRACEPARENT);
  return field;
}
