/**
 * Decides whether a collector's failure is temporary, and how long to wait before the next try (OTLP specification,
 * "Failures" and "OTLP/gRPC Throttling", "OTLP/HTTP Throttling"). Pure.
 */
import { FieldReader, WireType } from '../../task/protobuf.ts';
import type { ExportResult } from './span-queue.ts';

type Retry = (ExportResult & { ok: false })['retry'];

const RETRIED_STATUSES: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/**
 * @param retryAfter the value of `Retry-After`: seconds, or a date
 * @param nowMs milliseconds since 1970
 */
export function httpRetry(status: number, retryAfter: string | undefined, nowMs: number): Retry {
  if (!RETRIED_STATUSES.has(status)) return undefined;
  const text = retryAfter?.trim() ?? '';
  if (/^\d+$/.test(text)) return { afterMs: Number(text) * 1000 };
  const atMs = Date.parse(text);
  return { afterMs: Number.isNaN(atMs) ? 0 : Math.max(0, atMs - nowMs) };
}

const RESOURCE_EXHAUSTED = 8;
/** CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS. */
const RETRIED_CODES: ReadonlySet<unknown> = new Set([1, 4, 10, 11, 14, 15]);

/** @param details the bytes of `grpc-status-details-bin`; undefined without one */
export function grpcRetry(code: unknown, details: Buffer | undefined): Retry {
  const afterMs = details === undefined ? undefined : retryDelayMs(details);
  if (RETRIED_CODES.has(code)) return { afterMs: afterMs ?? 0 };
  // Without a delay the collector is not going to recover.
  return code === RESOURCE_EXHAUSTED && afterMs !== undefined ? { afterMs } : undefined;
}

/** `google.rpc.Status { details = 3 }` with a `google.rpc.RetryInfo { retry_delay = 1 { seconds = 1, nanos = 2 } }`. */
function retryDelayMs(status: Buffer): number | undefined {
  const fields = new FieldReader(status, 0, status.length);
  while (fields.next()) {
    if (fields.field !== 3 || fields.wireType !== WireType.BYTES) continue;
    const any = new FieldReader(status, fields.valueStart, fields.valueEnd);
    let type = '';
    let value: FieldReader | undefined;
    while (any.next()) {
      if (any.wireType !== WireType.BYTES) continue;
      if (any.field === 1) type = status.toString('latin1', any.valueStart, any.valueEnd);
      else if (any.field === 2) value = new FieldReader(status, any.valueStart, any.valueEnd);
    }
    if (type.endsWith('/google.rpc.RetryInfo')) return value === undefined ? 0 : delayOf(status, value);
  }
  return undefined;
}

function delayOf(buffer: Buffer, info: FieldReader): number {
  let ms = 0;
  while (info.next()) {
    if (info.field !== 1 || info.wireType !== WireType.BYTES) continue;
    const duration = new FieldReader(buffer, info.valueStart, info.valueEnd);
    while (duration.next()) {
      if (duration.wireType !== WireType.VARINT) continue;
      if (duration.field === 1) ms += duration.varint * 1000;
      else if (duration.field === 2) ms += duration.varint / 1e6;
    }
  }
  return ms;
}
