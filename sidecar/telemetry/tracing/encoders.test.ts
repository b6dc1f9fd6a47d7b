// Compares both encoders with the SDK's own: a collector must read the same span from each.
import { createRequire } from 'node:module';
import type { Link } from '@opentelemetry/api';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { type ReceivedSpan, readJson, readProtobuf } from '../../../test/support/otlp.ts';
import { spanIdText } from '../ids.ts';
import { JsonSpanEncoder } from './json-encoder.ts';
import { ProtobufSpanEncoder } from './protobuf-encoder.ts';
import {
  type Attributes,
  type AttributeValue,
  type Span,
  SpanKind,
  SpanShape,
  type SpanSource,
} from './span.ts';

const require = createRequire(import.meta.url);

const source: SpanSource = {
  resource: ['service.name', 'research-agent', 'process.pid', 4711],
  scopeName: 'outrigger',
  scopeVersion: '1.2.3',
  epochOffsetMs: () => 1_795_000_000_000,
};

function asObject(attributes: Attributes): Record<string, AttributeValue> {
  const object: Record<string, AttributeValue> = {};
  for (let i = 0; i < attributes.length; i += 2) object[String(attributes[i])] = attributes[i + 1]!;
  return object;
}

/** The same span, written by the SDK's serializer. */
function bySdk(span: Span): ReceivedSpan[] {
  const { ProtobufTraceSerializer } = require('@opentelemetry/otlp-transformer');
  const offset = source.epochOffsetMs();
  const hrTime = (ms: number): [number, number] => {
    const at = ms + offset;
    const seconds = Math.floor(at / 1000);
    return [seconds, Math.floor((at - Math.floor(at)) * 1e6) + (Math.floor(at) - seconds * 1000) * 1e6];
  };
  const { traceId, spanHigh, spanLow, parentHigh, parentLow } = span;
  const context = { traceId, spanId: spanIdText(spanHigh, spanLow), traceFlags: span.traceFlags };
  const readable = {
    name: span.shape.name,
    kind: span.shape.kind - 1,
    spanContext: () => ({
      ...context,
      traceState: span.traceState === '' ? undefined : { serialize: () => span.traceState },
    }),
    parentSpanContext:
      (parentHigh | parentLow) === 0
        ? undefined
        : { ...context, spanId: spanIdText(parentHigh, parentLow), isRemote: span.parentIsRemote },
    startTime: hrTime(span.startedAtMs),
    endTime: hrTime(span.endedAtMs),
    status: { code: span.failed ? 2 : 0, message: span.statusMessage },
    attributes: { ...asObject(span.shape.attributes), ...asObject(span.attributes) },
    links: (span.links ?? []).map((link): Link => ({ context: { ...link, traceFlags: 1 } })),
    events: (span.events ?? []).map(({ name, atMs, attributes }) => ({
      name,
      time: hrTime(atMs),
      attributes: asObject(attributes),
      droppedAttributesCount: 0,
    })),
    resource: { attributes: asObject(source.resource) },
    instrumentationScope: { name: source.scopeName, version: source.scopeVersion },
    droppedAttributesCount: 0,
    droppedEventsCount: span.droppedEvents,
    droppedLinksCount: 0,
  };
  return readProtobuf(Buffer.from(ProtobufTraceSerializer.serializeRequest([readable])));
}

const hex = (length: number) =>
  fc
    .uint8Array({ minLength: length, maxLength: length })
    .map((bytes) => Buffer.from(bytes).fill(1, 0, 1).toString('hex'));
const value = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }).map((text) => text.toWellFormed()),
  fc.integer({ min: 0, max: 2 ** 52 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }).filter((number) => !Number.isInteger(number)),
  fc.boolean(),
  fc.array(fc.string({ maxLength: 20 }), { minLength: 1, maxLength: 3 }),
);
// The prefix avoids names that every object has, such as toString.
const key = fc.string({ maxLength: 40 }).map((text) => `key.${text}`);
const attributes = fc
  .array(fc.tuple(key, value), { maxLength: 8 })
  .map((list): AttributeValue[] => list.flat());
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const time = fc.integer({ min: 0, max: 1e9 }).map((eighths) => eighths / 8);

const anySpan: fc.Arbitrary<Span> = fc.record({
  shape: fc
    .tuple(fc.string({ maxLength: 200 }), fc.constantFrom(...Object.values(SpanKind)), attributes)
    .map(([name, kind, list]) => new SpanShape(name, kind, list)),
  traceId: hex(16),
  spanHigh: int32,
  spanLow: int32.map((word) => word | 1),
  parentHigh: fc.oneof(fc.constant(0), int32),
  parentLow: fc.oneof(fc.constant(0), int32),
  parentIsRemote: fc.boolean(),
  traceFlags: fc.constantFrom(1, 3),
  traceState: fc.constantFrom('', 'congo=t61rcWkgMzE,rojo=1'),
  startedAtMs: time,
  endedAtMs: time.map((ms) => ms + 1e9 / 8),
  attributes,
  events: fc.option(
    fc.array(fc.record({ name: fc.string({ maxLength: 50 }), atMs: time, attributes }), { maxLength: 4 }),
    { nil: undefined },
  ),
  droppedEvents: fc.integer({ min: 0, max: 1000 }),
  links: fc.option(fc.array(fc.record({ traceId: hex(16), spanId: hex(8) }), { maxLength: 3 }), {
    nil: undefined,
  }),
  failed: fc.boolean(),
  statusMessage: fc.constant(''),
});

t.test('the encoders write the same spans as the SDK', async (t) => {
  const protobuf = new ProtobufSpanEncoder(source);
  const json = new JsonSpanEncoder(source);
  fc.assert(
    fc.property(fc.array(anySpan, { minLength: 1, maxLength: 5 }), (spans) => {
      for (const span of spans) {
        protobuf.add(span);
        json.add(span);
      }
      const wanted = spans.flatMap(bySdk).map((span) => ({
        ...span,
        // A span without a parent has no remote parent; the SDK then leaves the bit out.
        flags: span.parentSpanId === '' ? 0 : span.flags,
      }));
      const plain = (span: ReceivedSpan) => ({ ...span, flags: span.parentSpanId === '' ? 0 : span.flags });
      const body = protobuf.take();
      t.strictSame(readProtobuf(Buffer.from(body)).map(plain), wanted);
      protobuf.recycle(body);
      t.strictSame(readJson(Buffer.from(json.take()).toString()).map(plain), wanted);
    }),
    { numRuns: 60 },
  );
});

t.test('a buffer that is used again holds only the new batch, and large batches grow it', async (t) => {
  const encoder = new ProtobufSpanEncoder(source);
  const [span] = fc.sample(anySpan, { numRuns: 1, seed: 7 });
  for (const count of [2_000, 3, 5_000, 1]) {
    for (let i = 0; i < count; i++) encoder.add(span!);
    t.equal(encoder.count, count);
    const body = encoder.take();
    t.equal(readProtobuf(Buffer.from(body)).length, count);
    encoder.recycle(body);
    t.equal(encoder.count, 0);
  }
});

t.test('the encoders truncate long values, and no time runs backwards', async (t) => {
  const encoder = new ProtobufSpanEncoder(source);
  const [any] = fc.sample(anySpan, { numRuns: 1, seed: 3 });
  const span = {
    ...any!,
    attributes: ['long', 'é'.repeat(5_000), 'negative', -5],
    startedAtMs: 10,
    endedAtMs: 9,
  };
  encoder.add({ ...span, failed: true, statusMessage: 'm'.repeat(5_000) });
  const body = Buffer.from(encoder.take());
  const [read] = readProtobuf(body);
  t.equal(read!.attributes['long'], 'é'.repeat(1_024));
  t.ok(body.includes(Buffer.from('18fbffffffffffffffff01', 'hex')), '-5 as an int64');
  t.equal(read!.statusMessage.length, 1_024);
  t.equal(read!.endNano, read!.startNano);
});
