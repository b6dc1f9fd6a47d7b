/** Reads and writes Jaeger's trace header. */
import { type Context, isValidSpanId, isValidTraceId, trace } from '@opentelemetry/api';

/** Jaeger's `uber-trace-id`, which OpenTelemetry's SDK for Node does not support: `trace:span:parent:flags`. */
const jaegerHeader = 'uber-trace-id';

/** Leading zeros may be missing, and some senders encode the colons. */
const pattern = /^([\da-f]{1,32}):([\da-f]{1,16}):[\da-f]{1,16}:([\da-f]{1,2})$/i;
const sampled = 1;

/** The context of a request; unchanged without the header. */
export function extractJaeger(context: Context, headers: Readonly<Record<string, string>>): Context {
  const parts = pattern.exec((headers[jaegerHeader] ?? '').replace(/%3a/gi, ':'));
  if (parts === null) return context;
  const traceId = parts[1]!.toLowerCase().padStart(32, '0');
  const spanId = parts[2]!.toLowerCase().padStart(16, '0');
  if (!isValidTraceId(traceId) || !isValidSpanId(spanId)) return context;
  const traceFlags = Number.parseInt(parts[3]!, 16) & sampled;
  return trace.setSpanContext(context, { traceId, spanId, traceFlags, isRemote: true });
}

export function injectJaeger(context: Context, headers: Record<string, string>): void {
  const span = trace.getSpanContext(context);
  if (span !== undefined)
    headers[jaegerHeader] = `${span.traceId}:${span.spanId}:0:0${span.traceFlags & sampled}`;
}
