/** Starts tracing if the environment asks for it. */
import type { Config } from '../../config/config.ts';
import type { Logger } from '../../telemetry/log.ts';
import { outriggerVersion } from '../../telemetry/version.ts';
import type { Tracing } from './start.ts';

/**
 * Starts tracing when the standard `OTEL_*` variables ask for it. Otherwise it loads no code of tracing. An error in
 * the variables turns tracing off, and never stops the sidecar.
 */
export async function startTracingIfEnabled(
  { name, version }: Config,
  log: Logger,
): Promise<Tracing | undefined> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_TRACES_EXPORTER } =
    process.env;
  if (!OTEL_EXPORTER_OTLP_ENDPOINT && !OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) {
    if (OTEL_TRACES_EXPORTER && OTEL_TRACES_EXPORTER.trim() !== 'none')
      log.warn(
        `OTEL_TRACES_EXPORTER=${OTEL_TRACES_EXPORTER} without OTEL_EXPORTER_OTLP_ENDPOINT: traces are off`,
      );
    return undefined;
  }
  const { tracingSettings } = await import('../../telemetry/tracing/settings.ts');
  const settings = tracingSettings(process.env, (message) => log.warn(message));
  if (settings === undefined) return undefined;
  try {
    const { startTracing } = await import('./start.ts');
    const tracing = await startTracing(
      settings,
      { name, version, outriggerVersion: outriggerVersion() },
      log,
    );
    const { protocol, sampler } = settings;
    log.info({ protocol, parent_based: sampler.parentBased, ratio: sampler.ratio }, 'tracing is on');
    return tracing;
  } catch (error) {
    log.error(
      { err: error },
      'tracing cannot start, and the sidecar runs without it: correct the OTEL_* variables',
    );
    return undefined;
  }
}
