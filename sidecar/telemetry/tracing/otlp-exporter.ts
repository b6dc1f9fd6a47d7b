/**
 * Sends batches by the OpenTelemetry SDK's own OTLP transports, which read endpoint, headers, certificates, compression
 * and time-out from the standard variables, and repeat what a collector asks to have repeated. Loaded only when
 * tracing is on.
 */
import type { IOtlpExportDelegate } from '@opentelemetry/otlp-exporter-base';
import { FieldReader, WireType } from '../../task/protobuf.ts';
import type { OtlpProtocol } from './settings.ts';
import type { ExportResult, SpanExporter } from './span-queue.ts';

/** `ExportResultCode.SUCCESS` of @opentelemetry/core. */
const SUCCESS = 0;

/** Counts nothing: what becomes of spans is counted by the queue. */
const NO_METRICS = { name: 'span', countItems: () => 0 } as const;

const GRPC_PATH = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';

/** @throws Error when the environment names something that can't be used, such as a certificate that is not there */
export async function createOtlpExporter(protocol: OtlpProtocol): Promise<SpanExporter> {
  let rejected = 0;
  const delegate = await createDelegate(protocol, {
    serializeRequest: (body) => body,
    deserializeResponse: (data) => {
      rejected = protocol === 'http/json' ? rejectedByJson(data) : rejectedByProtobuf(data);
      // With a partial success in it the SDK would log one.
      return {};
    },
  });
  return {
    send(body, done) {
      try {
        delegate.export(body, ({ code, error }) => {
          // The response was read in the same turn, just before.
          const result: ExportResult = code === SUCCESS ? { ok: true, rejected } : failure(error);
          rejected = 0;
          done(result);
        });
      } catch (error) {
        done(failure(error));
      }
    },
  };
}

/** The batch is encoded already: this passes it on. */
interface Serializer {
  serializeRequest(body: Uint8Array): Uint8Array;
  deserializeResponse(data: Uint8Array): object;
}

async function createDelegate(
  protocol: OtlpProtocol,
  serializer: Serializer,
): Promise<IOtlpExportDelegate<Uint8Array>> {
  if (protocol === 'grpc') {
    const { convertLegacyOtlpGrpcOptions, createOtlpGrpcExportDelegate } = await import(
      '@opentelemetry/otlp-grpc-exporter-base'
    );
    const options = convertLegacyOtlpGrpcOptions({}, 'TRACES');
    return createOtlpGrpcExportDelegate(
      options,
      serializer,
      'otlp_grpc_span_exporter',
      NO_METRICS,
      undefined,
      'TraceExportService',
      GRPC_PATH,
    );
  }
  const { convertLegacyHttpOptions, createOtlpHttpExportDelegate } = await import(
    '@opentelemetry/otlp-exporter-base/node-http'
  );
  const contentType = protocol === 'http/json' ? 'application/json' : 'application/x-protobuf';
  const options = convertLegacyHttpOptions({}, 'TRACES', 'v1/traces', { 'Content-Type': contentType });
  return createOtlpHttpExportDelegate(options, serializer, 'otlp_http_span_exporter', NO_METRICS, undefined);
}

/** The collector's own words may hold anything: only what kind of failure it was, and its code, are told. */
function failure(error: unknown): ExportResult {
  if (!(error instanceof Error)) return { ok: false, error: 'the export failed' };
  const { code } = error as { code?: unknown };
  const text = error.message.slice(0, 200);
  return { ok: false, error: code === undefined || text.includes(String(code)) ? text : `${text} (${code})` };
}

/** ExportTraceServiceResponse { partial_success = 1 { rejected_spans = 1 } }; 0 for what is not one. */
function rejectedByProtobuf(data: Uint8Array): number {
  const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const reader = new FieldReader(buffer, 0, buffer.length);
  while (reader.next()) {
    if (reader.field !== 1 || reader.wireType !== WireType.BYTES) continue;
    const partial = new FieldReader(buffer, reader.valueStart, reader.valueEnd);
    while (partial.next()) {
      if (partial.field === 1 && partial.wireType === WireType.VARINT) return partial.varint;
    }
  }
  return 0;
}

function rejectedByJson(data: Uint8Array): number {
  try {
    const { partialSuccess } = JSON.parse(Buffer.from(data).toString('utf8'));
    return Number(partialSuccess?.rejectedSpans ?? 0) || 0;
  } catch {
    return 0;
  }
}
