/** Records spans of an agent process if the environment asks for it. */
import type { Environment } from '../process/environment.ts';
import type { Work, WorkTracing } from './work.ts';

/** The headers that carry a trace from hop to hop: W3C Trace Context, B3 in both forms, Jaeger's own. */
export const traceHeaders = [
  'traceparent',
  'tracestate',
  'b3',
  'x-b3-traceid',
  'x-b3-spanid',
  'x-b3-parentspanid',
  'x-b3-sampled',
  'x-b3-flags',
  'uber-trace-id',
] as const;

let tracing: WorkTracing | undefined;

/**
 * Starts to record this process's spans, by the standard `OTEL_*` variables. Without an OTLP endpoint the SDK is not
 * even loaded, and trace context passes through unchanged.
 */
export async function startTracing(serviceName: string, environment: Environment): Promise<void> {
  const endpoint =
    environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || environment['OTEL_EXPORTER_OTLP_ENDPOINT'];
  const disabled = environment['OTEL_SDK_DISABLED']?.toLowerCase() === 'true';
  if (!endpoint || disabled || environment['OTEL_TRACES_EXPORTER'] === 'none') return;
  const { createWorkTracing } = await import('./otel-work.ts');
  // The environment's name has precedence over one in code only if this is omitted.
  tracing = createWorkTracing(
    environment['OTEL_SERVICE_NAME'] ? undefined : serviceName,
    (environment['OTEL_PROPAGATORS'] ?? '').split(',').map((name) => name.trim()),
  );
}

/**
 * Begins a span of work; undefined when nothing is recorded.
 *
 * @param incoming the headers of the request
 */
export function beginWork(...args: Parameters<WorkTracing['begin']>): Work | undefined {
  return tracing?.begin(...args);
}

/** Sends the remaining spans, within the limit. */
export async function stopTracing(limitMs: number): Promise<void> {
  if (tracing === undefined) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  // The sidecars report an unreachable collector.
  await Promise.race([tracing.stop().catch(() => {}), late]);
  clearTimeout(timer);
}
