/** Encodes spans as OTLP's protobuf. */
import { ProtobufWriter, utf8Length, varintLength, writePaddedVarint } from '../protobuf-writer.ts';
import {
  type Attributes,
  type AttributeValue,
  MAX_VALUE_CHARS,
  SCHEMA_URL,
  type Span,
  type SpanEncoder,
  type SpanEvent,
  type SpanLink,
  type SpanShape,
  type SpanSource,
  spanFlags,
} from './span.ts';

const INITIAL_BYTES = 64 * 1024;
/** The encoder keeps no buffer larger than this for the next batch. */
const MAX_KEPT_BYTES = 1024 * 1024;
/** Bytes for the two lengths at the body's beginning: up to 256 MiB. */
const OUTER_LENGTH_BYTES = 4;
/** The size of a span without its shape, attributes, events, links and texts. */
const SPAN_FIXED_BYTES = 128;

/**
 * Encodes spans as OTLP's `ExportTraceServiceRequest` in protobuf (opentelemetry-proto, `trace/v1/trace.proto`), each
 * when it ends: no objects are left for the garbage collector, and the size of a batch is known exactly.
 *
 *     ResourceSpans ─┬─ Resource        written once, at each body's beginning
 *                    └─ ScopeSpans ─┬─ InstrumentationScope
 *                                   └─ Span, Span, …
 */
export class ProtobufSpanEncoder implements SpanEncoder {
  count = 0;
  private readonly source: SpanSource;
  private readonly writer = new ProtobufWriter(INITIAL_BYTES);
  private readonly head: Buffer;
  /** The positions of the two open messages in the head. */
  private readonly resourceSpansAt: number;
  private readonly scopeSpansAt: number;
  private spare: Buffer | undefined = undefined;

  constructor(source: SpanSource) {
    this.source = source;
    const head = new ProtobufWriter(4096);
    head.byte(0x0a);
    head.at += OUTER_LENGTH_BYTES;
    this.resourceSpansAt = head.at;
    writeNested(head, 0x0a, resourceMessage(source.resource));
    writeTextField(head, 0x1a, SCHEMA_URL);
    head.reserve(64);
    head.byte(0x12);
    head.at += OUTER_LENGTH_BYTES;
    this.scopeSpansAt = head.at;
    const scope = new ProtobufWriter(256);
    writeTextField(scope, 0x0a, source.scopeName);
    writeTextField(scope, 0x12, source.scopeVersion);
    writeNested(head, 0x0a, scope.buffer.subarray(0, scope.at));
    writeTextField(head, 0x1a, SCHEMA_URL);
    this.head = Buffer.from(head.buffer.subarray(0, head.at));
    this.begin();
  }

  get bytes(): number {
    return this.writer.at;
  }

  private begin(): void {
    this.count = 0;
    this.writer.at = 0;
    this.writer.reserve(this.head.length);
    this.writer.raw(this.head);
  }

  add(span: Span): void {
    const { writer } = this;
    const { shape, attributes, events, links } = span;
    const encoded = (shape.encoded ??= encodeShape(shape)) as Buffer;
    writer.reserve(SPAN_FIXED_BYTES + encoded.length + span.traceState.length);
    writer.byte(0x12);
    const start = writer.beginMessage();
    writer.byte(0x0a);
    writer.byte(16);
    writer.hex(span.traceId);
    writer.byte(0x12);
    writer.byte(8);
    writer.bigEndian32(span.spanHigh);
    writer.bigEndian32(span.spanLow);
    if (span.traceState !== '') {
      writer.byte(0x1a);
      writer.text(span.traceState, utf8Length(span.traceState));
    }
    if ((span.parentHigh | span.parentLow) !== 0) {
      writer.byte(0x22);
      writer.byte(8);
      writer.bigEndian32(span.parentHigh);
      writer.bigEndian32(span.parentLow);
    }
    const offsetMs = this.source.epochOffsetMs();
    writer.byte(0x39);
    writer.unixNano(span.startedAtMs + offsetMs);
    writer.byte(0x41);
    writer.unixNano(Math.max(span.startedAtMs, span.endedAtMs) + offsetMs);
    writer.raw(encoded);
    writeAttributes(writer, 0x4a, attributes);
    if (events !== undefined) for (const event of events) writeEvent(writer, event, offsetMs);
    writer.reserve(SPAN_FIXED_BYTES);
    if (span.droppedEvents > 0) {
      writer.byte(0x60);
      writer.varint(span.droppedEvents);
    }
    if (links !== undefined) for (const link of links) writeLink(writer, link);
    if (span.failed) writeError(writer, span.statusMessage);
    writer.reserve(8);
    writer.byte(0x85);
    writer.byte(0x01);
    writer.fixed32(spanFlags(span));
    writer.endMessage(start);
    this.count++;
  }

  take(): Uint8Array {
    const { writer } = this;
    const body = writer.buffer.subarray(0, writer.at);
    writePaddedVarint(
      body,
      this.resourceSpansAt - OUTER_LENGTH_BYTES,
      writer.at - this.resourceSpansAt,
      OUTER_LENGTH_BYTES,
    );
    writePaddedVarint(
      body,
      this.scopeSpansAt - OUTER_LENGTH_BYTES,
      writer.at - this.scopeSpansAt,
      OUTER_LENGTH_BYTES,
    );
    writer.buffer = this.spare ?? Buffer.allocUnsafeSlow(INITIAL_BYTES);
    this.spare = undefined;
    this.begin();
    return body;
  }

  recycle(body: Uint8Array): void {
    const whole = Buffer.from(body.buffer);
    if (whole.length <= MAX_KEPT_BYTES) this.spare ??= whole;
  }
}

function encodeShape({ name, kind, attributes }: SpanShape): Buffer {
  const writer = new ProtobufWriter(512);
  writeTextField(writer, 0x2a, name);
  writer.byte(0x30);
  writer.byte(kind);
  writeAttributes(writer, 0x4a, attributes);
  return Buffer.from(writer.buffer.subarray(0, writer.at));
}

function resourceMessage(attributes: Attributes): Buffer {
  const writer = new ProtobufWriter(1024);
  writeAttributes(writer, 0x0a, attributes);
  return writer.buffer.subarray(0, writer.at);
}

function writeTextField(writer: ProtobufWriter, tag: number, text: string): void {
  const bytes = utf8Length(text);
  writer.reserve(bytes + 16);
  writer.byte(tag);
  writer.text(text, bytes);
}

function writeNested(writer: ProtobufWriter, tag: number, message: Buffer): void {
  writer.reserve(message.length + 16);
  writer.byte(tag);
  writer.varint(message.length);
  writer.raw(message);
}

/** The encoded `KeyValue.key` fields of attribute keys, which are few. */
const encodedKeys = new Map<string, Buffer>();
const MAX_KEYS = 1000;

function encodedKey(key: string): Buffer {
  let encoded = encodedKeys.get(key);
  if (encoded === undefined) {
    if (encodedKeys.size >= MAX_KEYS) encodedKeys.clear();
    const writer = new ProtobufWriter(64);
    writeTextField(writer, 0x0a, key);
    encoded = Buffer.from(writer.buffer.subarray(0, writer.at));
    encodedKeys.set(key, encoded);
  }
  return encoded;
}

function writeAttributes(writer: ProtobufWriter, tag: number, attributes: Attributes): void {
  for (let i = 0; i < attributes.length; i += 2) {
    writeAttribute(writer, tag, encodedKey(attributes[i] as string), attributes[i + 1]!);
  }
}

/** KeyValue { key = 1, value = 2 }; AnyValue { string = 1, bool = 2, int = 3, double = 4, array = 5 }. */
function writeAttribute(writer: ProtobufWriter, tag: number, key: Buffer, value: AttributeValue): void {
  if (typeof value === 'string') {
    const text = value.length > MAX_VALUE_CHARS ? value.slice(0, MAX_VALUE_CHARS) : value;
    const bytes = utf8Length(text);
    const valueBytes = 1 + varintLength(bytes) + bytes;
    const pairBytes = key.length + 1 + varintLength(valueBytes) + valueBytes;
    writer.reserve(pairBytes + 8);
    beginPair(writer, tag, pairBytes, key, valueBytes);
    writer.byte(0x0a);
    writer.text(text, bytes);
    return;
  }
  writer.reserve(key.length + 32);
  if (typeof value === 'boolean') {
    beginPair(writer, tag, key.length + 4, key, 2);
    writer.byte(0x10);
    writer.byte(value ? 1 : 0);
  } else if (typeof value === 'object') {
    const texts = value.map((text) => Buffer.from(text.slice(0, MAX_VALUE_CHARS), 'utf8'));
    const array = new ProtobufWriter(256);
    for (const text of texts) writeNested(array, 0x0a, stringValue(text));
    const valueBytes = 1 + varintLength(array.at) + array.at;
    const pairBytes = key.length + 1 + varintLength(valueBytes) + valueBytes;
    writer.reserve(pairBytes + 8);
    beginPair(writer, tag, pairBytes, key, valueBytes);
    writeNested(writer, 0x2a, array.buffer.subarray(0, array.at));
  } else if (Number.isSafeInteger(value)) {
    const valueBytes = 1 + (value < 0 ? 10 : varintLength(value));
    beginPair(writer, tag, key.length + 2 + valueBytes, key, valueBytes);
    writer.byte(0x18);
    writer.int64(value);
  } else {
    beginPair(writer, tag, key.length + 11, key, 9);
    writer.byte(0x21);
    writer.double(value);
  }
}

/** An AnyValue with a string. */
function stringValue(text: Buffer): Buffer {
  const writer = new ProtobufWriter(text.length + 16);
  writeNested(writer, 0x0a, text);
  return writer.buffer.subarray(0, writer.at);
}

function beginPair(
  writer: ProtobufWriter,
  tag: number,
  pairBytes: number,
  key: Buffer,
  valueBytes: number,
): void {
  writer.byte(tag);
  writer.varint(pairBytes);
  writer.raw(key);
  writer.byte(0x12);
  writer.varint(valueBytes);
}

function writeEvent(writer: ProtobufWriter, { name, atMs, attributes }: SpanEvent, offsetMs: number): void {
  writer.reserve(32);
  writer.byte(0x5a);
  const start = writer.beginMessage();
  writer.byte(0x09);
  writer.unixNano(atMs + offsetMs);
  writeTextField(writer, 0x12, name);
  writeAttributes(writer, 0x1a, attributes);
  writer.endMessage(start);
}

function writeLink(writer: ProtobufWriter, { traceId, spanId }: SpanLink): void {
  writer.reserve(40);
  writer.byte(0x6a);
  writer.byte(28);
  writer.byte(0x0a);
  writer.byte(16);
  writer.hex(traceId);
  writer.byte(0x12);
  writer.byte(8);
  writer.hex(spanId);
}

/** Status { message = 2, code = 3 } with the code ERROR. */
function writeError(writer: ProtobufWriter, message: string): void {
  const text = message.length > MAX_VALUE_CHARS ? message.slice(0, MAX_VALUE_CHARS) : message;
  writer.reserve(text.length * 3 + 16);
  writer.byte(0x7a);
  const start = writer.beginMessage();
  if (text !== '') writeTextField(writer, 0x12, text);
  writer.byte(0x18);
  writer.byte(2);
  writer.endMessage(start);
}
