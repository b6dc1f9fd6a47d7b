// OTLP as a collector reads it: bodies of both encodings as plain objects, by the published numbers of the fields.
import { FieldReader, WireType } from '../../sidecar/task/protobuf.ts';

type Value = string | number | boolean | string[];

export interface ReceivedSpan {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  traceState: string;
  name: string;
  kind: number;
  startNano: bigint;
  endNano: bigint;
  attributes: Record<string, Value>;
  events: { name: string; nano: bigint; attributes: Record<string, Value> }[];
  links: { traceId: string; spanId: string }[];
  /** 0 unset, 1 ok, 2 error. */
  status: number;
  statusMessage: string;
  flags: number;
  droppedEvents: number;
  /** Of the resource it came with. */
  resource: Record<string, Value>;
  scope: string;
}

type Fields = (field: number, reader: FieldReader) => void;

function walk(buffer: Buffer, start: number, end: number, onField: Fields): void {
  const reader = new FieldReader(buffer, start, end);
  while (reader.next()) onField(reader.field, reader);
  if (reader.malformed) throw new Error('malformed protobuf');
}

/** The spans of an ExportTraceServiceRequest in protobuf. Throws on malformed bytes. */
export function readProtobuf(buffer: Buffer): ReceivedSpan[] {
  const spans: ReceivedSpan[] = [];
  walk(buffer, 0, buffer.length, (_field, resourceSpans) => {
    const resource: Record<string, Value> = {};
    const { valueStart, valueEnd } = resourceSpans;
    walk(buffer, valueStart, valueEnd, (field, inner) => {
      if (field === 1) walk(buffer, inner.valueStart, inner.valueEnd, pairs(buffer, 1, resource));
    });
    walk(buffer, valueStart, valueEnd, (field, inner) => {
      if (field === 2) scopeSpans(buffer, inner.valueStart, inner.valueEnd, resource, spans);
    });
  });
  return spans;
}

function scopeSpans(
  buffer: Buffer,
  start: number,
  end: number,
  resource: Record<string, Value>,
  spans: ReceivedSpan[],
): void {
  let scope = '';
  walk(buffer, start, end, (field, reader) => {
    if (field === 1)
      walk(buffer, reader.valueStart, reader.valueEnd, (field, reader) => {
        if (field === 1) scope = reader.text();
      });
    else if (field === 2) spans.push(span(buffer, reader.valueStart, reader.valueEnd, resource, scope));
  });
}

function span(
  buffer: Buffer,
  start: number,
  end: number,
  resource: Record<string, Value>,
  scope: string,
): ReceivedSpan {
  const found = emptySpan(resource, scope);
  const readPair = pairs(buffer, 9, found.attributes);
  walk(buffer, start, end, (field, reader) => {
    const { valueStart, valueEnd } = reader;
    readPair(field, reader);
    switch (field) {
      case 1:
        found.traceId = buffer.toString('hex', valueStart, valueEnd);
        break;
      case 2:
        found.spanId = buffer.toString('hex', valueStart, valueEnd);
        break;
      case 3:
        found.traceState = reader.text();
        break;
      case 4:
        found.parentSpanId = buffer.toString('hex', valueStart, valueEnd);
        break;
      case 5:
        found.name = reader.text();
        break;
      case 6:
        found.kind = reader.varint;
        break;
      case 7:
        found.startNano = buffer.readBigUInt64LE(valueStart);
        break;
      case 8:
        found.endNano = buffer.readBigUInt64LE(valueStart);
        break;
      case 11:
        found.events.push(event(buffer, valueStart, valueEnd));
        break;
      case 12:
        found.droppedEvents = reader.varint;
        break;
      case 13:
        found.links.push(link(buffer, valueStart, valueEnd));
        break;
      case 15:
        walk(buffer, valueStart, valueEnd, (field, reader) => {
          if (field === 2) found.statusMessage = reader.text();
          else if (field === 3) found.status = reader.varint;
        });
        break;
      case 16:
        found.flags = buffer.readUInt32LE(valueStart);
        break;
    }
  });
  return found;
}

function event(buffer: Buffer, start: number, end: number): ReceivedSpan['events'][number] {
  const found = { name: '', nano: 0n, attributes: {} };
  const readPair = pairs(buffer, 3, found.attributes);
  walk(buffer, start, end, (field, reader) => {
    readPair(field, reader);
    if (field === 1) found.nano = buffer.readBigUInt64LE(reader.valueStart);
    else if (field === 2) found.name = reader.text();
  });
  return found;
}

function link(buffer: Buffer, start: number, end: number): ReceivedSpan['links'][number] {
  const found = { traceId: '', spanId: '' };
  walk(buffer, start, end, (field, reader) => {
    const hex = buffer.toString('hex', reader.valueStart, reader.valueEnd);
    if (field === 1) found.traceId = hex;
    else if (field === 2) found.spanId = hex;
  });
  return found;
}

/** Reads the KeyValues that stand in one field. */
function pairs(buffer: Buffer, wanted: number, into: Record<string, Value>): Fields {
  return (field, reader) => {
    if (field !== wanted || reader.wireType !== WireType.BYTES) return;
    let key = '';
    let value: Value = '';
    walk(buffer, reader.valueStart, reader.valueEnd, (field, reader) => {
      if (field === 1) key = reader.text();
      else if (field === 2)
        walk(buffer, reader.valueStart, reader.valueEnd, (field, reader) => {
          if (field === 1) value = reader.text();
          else if (field === 2) value = reader.varint === 1;
          else if (field === 3) value = reader.varint;
          else if (field === 4) value = buffer.readDoubleLE(reader.valueStart);
          else if (field === 5) value = texts(buffer, reader.valueStart, reader.valueEnd);
        });
    });
    into[key] = value;
  };
}

/** The texts of an ArrayValue. */
function texts(buffer: Buffer, start: number, end: number): string[] {
  const found: string[] = [];
  walk(buffer, start, end, (_field, value) =>
    walk(buffer, value.valueStart, value.valueEnd, (_field, text) => found.push(text.text())),
  );
  return found;
}

function emptySpan(resource: Record<string, Value>, scope: string): ReceivedSpan {
  return {
    traceId: '',
    spanId: '',
    parentSpanId: '',
    traceState: '',
    name: '',
    kind: 0,
    startNano: 0n,
    endNano: 0n,
    attributes: {},
    events: [],
    links: [],
    status: 0,
    statusMessage: '',
    flags: 0,
    droppedEvents: 0,
    resource,
    scope,
  };
}

interface JsonPair {
  key: string;
  value: {
    stringValue?: string;
    boolValue?: boolean;
    intValue?: string;
    doubleValue?: number;
    arrayValue?: { values: { stringValue: string }[] };
  };
}

/** The same of a body in JSON. */
export function readJson(text: string): ReceivedSpan[] {
  const spans: ReceivedSpan[] = [];
  for (const { resource, scopeSpans } of JSON.parse(text).resourceSpans) {
    const attributes = fromPairs(resource.attributes);
    for (const { scope, spans: list } of scopeSpans) {
      for (const span of list) {
        spans.push({
          ...emptySpan(attributes, scope.name),
          traceId: span.traceId,
          spanId: span.spanId,
          parentSpanId: span.parentSpanId ?? '',
          traceState: span.traceState ?? '',
          name: span.name,
          kind: span.kind,
          startNano: BigInt(span.startTimeUnixNano),
          endNano: BigInt(span.endTimeUnixNano),
          attributes: fromPairs(span.attributes),
          events: (span.events ?? []).map(
            (event: { name: string; timeUnixNano: string; attributes: JsonPair[] }) => ({
              name: event.name,
              nano: BigInt(event.timeUnixNano),
              attributes: fromPairs(event.attributes),
            }),
          ),
          links: (span.links ?? []).map(({ traceId, spanId }: { traceId: string; spanId: string }) => ({
            traceId,
            spanId,
          })),
          status: span.status?.code ?? 0,
          statusMessage: span.status?.message ?? '',
          flags: span.flags ?? 0,
          droppedEvents: span.droppedEventsCount ?? 0,
        });
      }
    }
  }
  return spans;
}

function fromPairs(list: JsonPair[]): Record<string, Value> {
  return Object.fromEntries(list.map(({ key, value }) => [key, fromValue(value)]));
}

function fromValue(value: JsonPair['value']): Value {
  if (value.arrayValue !== undefined) return value.arrayValue.values.map(({ stringValue }) => stringValue);
  if (value.intValue !== undefined) return Number(value.intValue);
  return value.stringValue ?? value.boolValue ?? value.doubleValue!;
}
