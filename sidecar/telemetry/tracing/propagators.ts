/**
 * Trace context in the formats that `OTEL_PROPAGATORS` names (OpenTelemetry specification, "API Propagators"). Each
 * format is read into a `traceparent`, which the rest of the code uses, and written from one. Pure.
 */
import { NO_CONTEXT, parseTraceparent, RANDOM, SAMPLED, traceparentFromBinary } from '../trace-context.ts';

export type Propagator = 'tracecontext' | 'b3' | 'b3multi' | 'jaeger';

export const PROPAGATORS: readonly Propagator[] = ['tracecontext', 'b3', 'b3multi', 'jaeger'];

/** A flag beside W3C's, between our own hops only: B3 and Jaeger require hops to pass it on. */
export const DEBUG = 0x80;
const W3C_FLAGS = SAMPLED | RANDOM;

/** Returns a header field's value; names are in lower case. */
type ReadField = (name: string) => string | undefined;

/** The context of a request, as a well-formed `traceparent`; '' without one. */
export interface ReadContext {
  readonly traceparent: string;
  readonly tracestate: string;
}

const NONE: ReadContext = { traceparent: '', tracestate: '' };

/** If a request has several formats, the last one in the list wins, as in OpenTelemetry's SDKs. */
export function readContext(propagators: readonly Propagator[], get: ReadField): ReadContext {
  let found = NONE;
  for (const propagator of propagators) {
    const context = readOne(propagator, get);
    if (context !== undefined && parseTraceparent(context.traceparent) !== NO_CONTEXT) found = context;
  }
  return found;
}

function readOne(propagator: Propagator, get: ReadField): ReadContext | undefined {
  if (propagator === 'tracecontext') {
    const traceparent = get('traceparent') ?? '';
    if (parseTraceparent(traceparent) !== NO_CONTEXT)
      return { traceparent, tracestate: get('tracestate') ?? '' };
    return plain(traceparentFromBinary(get('grpc-trace-bin') ?? ''));
  }
  return plain(propagator === 'jaeger' ? readJaeger(get) : readB3(get));
}

function plain(traceparent: string | undefined): ReadContext | undefined {
  return traceparent === undefined ? undefined : { traceparent, tracestate: '' };
}

const B3_SINGLE = /^([\da-f]{16}|[\da-f]{32})-([\da-f]{16})(?:-([01d]))?(?:-[\da-f]{16})?$/i;
const B3_TRACE_ID = /^(?:[\da-f]{16}|[\da-f]{32})$/i;
const SPAN_ID = /^[\da-f]{16}$/i;

/** Reads both forms, the single one first. Without a sampling decision it is not sampled, as in OpenTelemetry's SDKs. */
function readB3(get: ReadField): string | undefined {
  const single = B3_SINGLE.exec(get('b3') ?? '');
  if (single !== null) return contextOf(single[1]!, single[2]!, b3Flags(single[3]));
  const traceId = get('x-b3-traceid') ?? '';
  const spanId = get('x-b3-spanid') ?? '';
  if (!B3_TRACE_ID.test(traceId) || !SPAN_ID.test(spanId)) return undefined;
  return contextOf(traceId, spanId, get('x-b3-flags') === '1' ? b3Flags('d') : b3Flags(get('x-b3-sampled')));
}

function b3Flags(decision = ''): number {
  switch (decision.toLowerCase()) {
    case '1':
    case 'true':
      return SAMPLED;
    case 'd':
      return SAMPLED | DEBUG;
    default:
      return 0;
  }
}

/** `trace:span:parent:flags`; leading zeros may be missing, and some senders encode the colons. */
const JAEGER = /^([\da-f]{1,32}):([\da-f]{1,16}):[\da-f]{1,16}:([\da-f]{1,2})$/i;
const JAEGER_DEBUG = 2;

function readJaeger(get: ReadField): string | undefined {
  const parts = JAEGER.exec((get('uber-trace-id') ?? '').replace(/%3a/gi, ':'));
  if (parts === null) return undefined;
  const flags = Number.parseInt(parts[3]!, 16);
  return contextOf(parts[1]!, parts[2]!, (flags & SAMPLED) | ((flags & JAEGER_DEBUG) === 0 ? 0 : DEBUG));
}

function contextOf(traceId: string, spanId: string, flags: number): string {
  const hex = flags.toString(16).padStart(2, '0');
  return `00-${traceId.toLowerCase().padStart(32, '0')}-${spanId.toLowerCase().padStart(16, '0')}-${hex}`;
}

/** The fields to write, alternating name and value. `flags` are those of `traceparent`, and {@link DEBUG}. */
export function contextFields(
  propagators: readonly Propagator[],
  traceId: string,
  spanId: string,
  flags: number,
  tracestate: string,
): string[] {
  const fields: string[] = [];
  const sampled = (flags & SAMPLED) !== 0;
  const debug = (flags & DEBUG) !== 0;
  for (const propagator of propagators) {
    switch (propagator) {
      case 'tracecontext':
        fields.push('traceparent', `00-${traceId}-${spanId}-0${flags & W3C_FLAGS}`);
        if (tracestate !== '') fields.push('tracestate', tracestate);
        break;
      case 'b3':
        fields.push('b3', `${traceId}-${spanId}-${debug ? 'd' : Number(sampled)}`);
        break;
      case 'b3multi':
        fields.push('x-b3-traceid', traceId, 'x-b3-spanid', spanId);
        if (debug) fields.push('x-b3-flags', '1');
        else fields.push('x-b3-sampled', sampled ? '1' : '0');
        break;
      case 'jaeger':
        fields.push(
          'uber-trace-id',
          `${traceId}:${spanId}:0:0${Number(sampled) | (debug ? JAEGER_DEBUG : 0)}`,
        );
        break;
      default:
        propagator satisfies never;
    }
  }
  return fields;
}

const B3_FIELDS = ['b3', 'x-b3-traceid', 'x-b3-spanid', 'x-b3-parentspanid', 'x-b3-sampled', 'x-b3-flags'];
const FIELDS: Readonly<Record<Propagator, readonly string[]>> = {
  tracecontext: ['traceparent', 'tracestate', 'grpc-trace-bin'],
  b3: B3_FIELDS,
  b3multi: B3_FIELDS,
  jaeger: ['uber-trace-id'],
};

/** Fields that a hop replaces by those that it writes. */
export function replacedFields(propagators: readonly Propagator[]): ReadonlySet<string> {
  return new Set(propagators.flatMap((propagator) => FIELDS[propagator]));
}
