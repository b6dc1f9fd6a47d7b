/** Encodes spans as OTLP's JSON. */
import { spanIdText } from '../ids.ts';
import {
  type Attributes,
  type AttributeValue,
  MAX_VALUE_CHARS,
  SCHEMA_URL,
  type Span,
  type SpanEncoder,
  type SpanSource,
  spanFlags,
} from './span.ts';

/**
 * Encodes spans as JSON for collectors that accept only `http/json` (OTLP specification, "JSON Protobuf Encoding": ids
 * are hexadecimal, 64-bit numbers are strings). It is not the default, and not optimized.
 */
export class JsonSpanEncoder implements SpanEncoder {
  count = 0;
  bytes = 0;
  private readonly source: SpanSource;
  private readonly head: string;
  private spans: string[] = [];

  constructor(source: SpanSource) {
    this.source = source;
    const resource = JSON.stringify({ attributes: keyValues(source.resource) });
    const scope = JSON.stringify({ name: source.scopeName, version: source.scopeVersion });
    this.head = `{"resourceSpans":[{"resource":${resource},"schemaUrl":"${SCHEMA_URL}","scopeSpans":[{"scope":${scope},"schemaUrl":"${SCHEMA_URL}","spans":[`;
  }

  add(span: Span): void {
    const offsetMs = this.source.epochOffsetMs();
    const { shape } = span;
    const json = JSON.stringify({
      traceId: span.traceId,
      spanId: spanIdText(span.spanHigh, span.spanLow),
      traceState: span.traceState === '' ? undefined : span.traceState,
      parentSpanId:
        (span.parentHigh | span.parentLow) === 0 ? undefined : spanIdText(span.parentHigh, span.parentLow),
      flags: spanFlags(span),
      name: shape.name,
      kind: shape.kind,
      startTimeUnixNano: unixNano(span.startedAtMs + offsetMs),
      endTimeUnixNano: unixNano(Math.max(span.startedAtMs, span.endedAtMs) + offsetMs),
      attributes: [...keyValues(shape.attributes), ...keyValues(span.attributes)],
      events: span.events?.map(({ name, atMs, attributes }) => ({
        name,
        timeUnixNano: unixNano(atMs + offsetMs),
        attributes: keyValues(attributes),
      })),
      droppedEventsCount: span.droppedEvents,
      links: span.links,
      status: span.failed ? { code: 2, message: span.statusMessage } : {},
    });
    this.spans.push(json);
    this.count++;
    this.bytes += json.length;
  }

  take(): Uint8Array {
    const body = Buffer.from(`${this.head}${this.spans.join(',')}]}]}]}`, 'utf8');
    this.spans = [];
    this.count = 0;
    this.bytes = 0;
    return body;
  }

  recycle(): void {
    // Each batch has new bytes, so there is nothing to reuse.
  }
}

function unixNano(epochMs: number): string {
  const whole = Math.floor(epochMs);
  return String(BigInt(whole) * 1_000_000n + BigInt(Math.floor((epochMs - whole) * 1e6)));
}

function keyValues(attributes: Attributes): object[] {
  const pairs: object[] = [];
  for (let i = 0; i < attributes.length; i += 2)
    pairs.push({ key: attributes[i], value: anyValue(attributes[i + 1]!) });
  return pairs;
}

function anyValue(value: AttributeValue): object {
  if (typeof value === 'string') return { stringValue: value.slice(0, MAX_VALUE_CHARS) };
  if (typeof value === 'object') return { arrayValue: { values: value.map(anyValue) } };
  if (typeof value === 'boolean') return { boolValue: value };
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}
