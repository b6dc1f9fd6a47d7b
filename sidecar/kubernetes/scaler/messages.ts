/** Reads and writes the messages of KEDA's external scalers (`proto/externalscaler.proto`). */
import {
  bytesField,
  FieldReader,
  fixed64Field,
  stringField,
  varintField,
  WireType,
} from '../../task/protobuf.ts';

/** A trigger of a ScaledObject, as KEDA names it. */
export interface ScaledObjectRef {
  readonly name: string;
  readonly namespace: string;
  readonly metadata: ReadonlyMap<string, string>;
}

export interface MetricsRequest {
  readonly ref: ScaledObjectRef;
  readonly metricName: string;
}

/** No trigger has as many keys; a message that has is not read to its end. */
const MAX_KEYS = 64;

/** Undefined for a malformed message, or one with too many keys. */
export function readRef(message: Buffer): ScaledObjectRef | undefined {
  let name = '';
  let namespace = '';
  const metadata = new Map<string, string>();
  const reader = new FieldReader(message, 0, message.length);
  while (reader.next()) {
    if (reader.wireType !== WireType.BYTES) continue;
    if (reader.field === 1) name = reader.text();
    else if (reader.field === 2) namespace = reader.text();
    else if (reader.field === 3) {
      const entry = readPair(message.subarray(reader.valueStart, reader.valueEnd));
      if (entry === undefined || metadata.size >= MAX_KEYS) return undefined;
      metadata.set(entry.key, entry.value);
    }
  }
  return reader.malformed ? undefined : { name, namespace, metadata };
}

function readPair(message: Buffer): { readonly key: string; readonly value: string } | undefined {
  let key = '';
  let value = '';
  const reader = new FieldReader(message, 0, message.length);
  while (reader.next()) {
    if (reader.wireType !== WireType.BYTES) continue;
    if (reader.field === 1) key = reader.text();
    else if (reader.field === 2) value = reader.text();
  }
  return reader.malformed ? undefined : { key, value };
}

/** Undefined for a malformed message. */
export function readMetricsRequest(message: Buffer): MetricsRequest | undefined {
  let ref: ScaledObjectRef | undefined = { name: '', namespace: '', metadata: new Map() };
  let metricName = '';
  const reader = new FieldReader(message, 0, message.length);
  while (reader.next()) {
    if (reader.wireType !== WireType.BYTES) continue;
    if (reader.field === 1) ref = readRef(message.subarray(reader.valueStart, reader.valueEnd));
    else if (reader.field === 2) metricName = reader.text();
    if (ref === undefined) return undefined;
  }
  return reader.malformed ? undefined : { ref, metricName };
}

export function writeActive(active: boolean): Buffer {
  return active ? varintField(1, 1) : Buffer.alloc(0);
}

/** A MetricSpec and a MetricValue have the same fields: the name, a whole number, and the number as it is. */
export function writeMetric(metricName: string, value: number): Buffer {
  const metric = [stringField(1, metricName), varintField(2, Math.ceil(value)), fixed64Field(3, value)];
  return bytesField(1, Buffer.concat(metric));
}
