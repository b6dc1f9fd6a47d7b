/**
 * Sends batches of spans by OTLP. The OpenTelemetry SDK reads endpoint, headers, certificates, compression and time-out
 * from the standard variables; the queue repeats the batches that a collector asks to have repeated. Loaded only when
 * tracing is on.
 */
import type { IOtlpExportDelegate } from '@opentelemetry/otlp-exporter-base';
import { FieldReader, WireType } from '../../task/protobuf.ts';
import { grpcRetry } from './retry-info.ts';
import type { OtlpProtocol } from './settings.ts';
import type { ExportResult, SpanExporter } from './span-queue.ts';

/** `ExportResultCode.SUCCESS` of @opentelemetry/core. */
const SUCCESS = 0;

/** Counts nothing: the queue counts what becomes of spans. */
const NO_METRICS = { name: 'span', countItems: () => 0 } as const;

const GRPC_PATH = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';

/** @throws Error when the environment names something unusable, such as a missing certificate */
export async function createOtlpExporter(protocol: OtlpProtocol): Promise<SpanExporter> {
  if (protocol === 'grpc') return createGrpcExporter();
  const { createHttpExporter } = await import('./otlp-http.ts');
  return protocol === 'http/json'
    ? createHttpExporter('application/json', rejectedByJson)
    : createHttpExporter('application/x-protobuf', rejectedByProtobuf);
}

async function createGrpcExporter(): Promise<SpanExporter> {
  const { convertLegacyOtlpGrpcOptions, createOtlpGrpcExportDelegate } = await import(
    '@opentelemetry/otlp-grpc-exporter-base'
  );
  let rejected = 0;
  const delegate: IOtlpExportDelegate<Uint8Array> = createOtlpGrpcExportDelegate(
    convertLegacyOtlpGrpcOptions({}, 'TRACES'),
    {
      // The batch is already encoded.
      serializeRequest: (body: Uint8Array) => body,
      deserializeResponse: (data) => {
        rejected = rejectedByProtobuf(data);
        // The SDK would log a partial success if we returned it.
        return {};
      },
    },
    'otlp_grpc_span_exporter',
    NO_METRICS,
    undefined,
    'TraceExportService',
    GRPC_PATH,
  );
  return {
    send(body, done) {
      try {
        delegate.export(body, ({ code, error }) => {
          // The SDK read the response in the same turn, just before.
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

/** A collector's message may contain anything, so we report only the kind of failure and its code. */
function failure(error: unknown): ExportResult {
  if (!(error instanceof Error)) return { ok: false, error: 'the export failed' };
  const { code, metadata } = error as { code?: unknown; metadata?: { get(name: string): unknown[] } };
  const text = error.message.slice(0, 200);
  const [details] = metadata?.get('grpc-status-details-bin') ?? [];
  return {
    ok: false,
    error: code === undefined || text.includes(String(code)) ? text : `${text} (${code})`,
    retry: grpcRetry(code, Buffer.isBuffer(details) ? details : undefined),
  };
}

/** ExportTraceServiceResponse { partial_success = 1 { rejected_spans = 1 } }; 0 for any other message. */
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
