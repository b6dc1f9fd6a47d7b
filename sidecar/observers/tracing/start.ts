/** Assembles the parts of tracing. Loaded only when tracing is on (`settings.ts`). */
import { JsonSpanEncoder } from '../../telemetry/tracing/json-encoder.ts';
import { createOtlpExporter } from '../../telemetry/tracing/otlp-exporter.ts';
import { ProtobufSpanEncoder } from '../../telemetry/tracing/protobuf-encoder.ts';
import { tracingResource } from '../../telemetry/tracing/resource.ts';
import type { TracingSettings } from '../../telemetry/tracing/settings.ts';
import type { SpanSource } from '../../telemetry/tracing/span.ts';
import { type SpanCounts, SpanQueue } from '../../telemetry/tracing/span-queue.ts';
import { Tracer } from './tracer.ts';

/** How often we compare with the wall clock: the kernel adjusts it, and spans of other hosts use it. */
const CLOCK_CHECK_MS = 10_000;
/** We ignore a smaller difference, so that spans of one call keep their order. */
const CLOCK_TOLERANCE_MS = 2;

/** Notified once when a collector fails, and once when it works again. */
export interface TracingLog {
  warn(details: object, message: string): void;
  info(details: object, message: string): void;
}

export interface TracingIdentity {
  /** The agent's name; `service.name` unless the environment names another. */
  readonly name: string;
  readonly version: string;
  /** The version of the sidecar. */
  readonly outriggerVersion: string;
}

export interface Tracing {
  readonly tracer: Tracer;
  readonly counts: SpanCounts;
  /** The number of spans that wait for the collector. */
  readonly waiting: () => number;
  /** Sends the waiting spans, for `limitMs` at most, and ends. */
  stop(limitMs: number): Promise<void>;
}

/** @throws Error when the environment names something unusable, such as a missing certificate */
export async function startTracing(
  settings: TracingSettings,
  { name, version, outriggerVersion }: TracingIdentity,
  log: TracingLog,
): Promise<Tracing> {
  const [resource, exporter] = await Promise.all([
    tracingResource(name, version),
    createOtlpExporter(settings.protocol),
  ]);
  let offsetMs = performance.timeOrigin;
  const clock = setInterval(() => {
    const nowMs = Date.now() - performance.now();
    if (Math.abs(nowMs - offsetMs) > CLOCK_TOLERANCE_MS) offsetMs = nowMs;
  }, CLOCK_CHECK_MS);
  clock.unref();
  const source: SpanSource = {
    resource,
    scopeName: 'outrigger',
    scopeVersion: outriggerVersion,
    epochOffsetMs: () => offsetMs,
  };
  const encoder =
    settings.protocol === 'http/json' ? new JsonSpanEncoder(source) : new ProtobufSpanEncoder(source);
  const queue = new SpanQueue(encoder, exporter, settings.queue, {
    onExportFailing: (error) =>
      log.warn(
        { error },
        'the export of spans fails: calls are not affected, the sidecar drops and counts spans (outrigger_spans_total); check the collector at OTEL_EXPORTER_OTLP_ENDPOINT',
      ),
    onExportWorking: () => log.info({}, 'the export of spans works again'),
  });
  return {
    tracer: new Tracer(settings, queue, version),
    counts: queue.counts,
    waiting: () => queue.size,
    stop: async (limitMs) => {
      clearInterval(clock);
      await queue.close(limitMs);
    },
  };
}
