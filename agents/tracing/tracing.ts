import type { Environment } from '../process/environment.ts';
import type { Work, WorkTracing } from './work.ts';

/** What carries a trace from hop to hop: W3C Trace Context, B3 in both its forms, Jaeger's own. */
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
 * Begins to record spans of this process's own, by the standard `OTEL_*` variables. Without an OTLP endpoint the SDK is
 * not even loaded, and trace context is passed on as it came.
 */
export async function startTracing(serviceName: string, environment: Environment): Promise<void> {
  const endpoint =
    environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || environment['OTEL_EXPORTER_OTLP_ENDPOINT'];
  const disabled = environment['OTEL_SDK_DISABLED']?.toLowerCase() === 'true';
  if (!endpoint || disabled || environment['OTEL_TRACES_EXPORTER'] === 'none') return;
  const { createWorkTracing } = await import('./otel-work.ts');
  // A name in the environment goes before one in code only when this is left out.
  tracing = createWorkTracing(
    environment['OTEL_SERVICE_NAME'] ? undefined : serviceName,
    (environment['OTEL_PROPAGATORS'] ?? '').split(',').map((name) => name.trim()),
  );
}

/**
 * Begins a piece of work; undefined when none is recorded.
 *
 * @param incoming the headers that it came with
 */
export function beginWork(...args: Parameters<WorkTracing['begin']>): Work | undefined {
  return tracing?.begin(...args);
}

/** Sends what there is, within the limit. */
export async function stopTracing(limitMs: number): Promise<void> {
  if (tracing === undefined) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  // A collector that is away is told of by the sidecars.
  await Promise.race([tracing.stop().catch(() => {}), late]);
  clearTimeout(timer);
}
