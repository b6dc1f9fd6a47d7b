/** The settings of tracing, from the standard `OTEL_*` variables. */
import { PROPAGATORS, type Propagator } from './propagators.ts';
import { DEFAULT_SAMPLER, type Sampler, samplerFromEnvironment } from './sampler.ts';
import { DEFAULT_QUEUE, type SpanQueueSettings } from './span-queue.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export type OtlpProtocol = 'http/protobuf' | 'http/json' | 'grpc';

export interface TracingSettings {
  readonly protocol: OtlpProtocol;
  readonly sampler: Sampler;
  readonly queue: SpanQueueSettings;
  /** The formats in which the sidecar reads trace context from calls and writes it to them (`OTEL_PROPAGATORS`). */
  readonly propagators: readonly Propagator[];
}

/**
 * The settings that the standard variables ask for (OpenTelemetry specification, "General SDK Configuration" and "OTLP
 * Exporter Configuration"). Undefined when tracing is off: no endpoint is given, or OTEL_SDK_DISABLED or
 * OTEL_TRACES_EXPORTER turns it off. The exporter itself reads endpoint, headers, certificates, compression and
 * time-out.
 *
 * @param warn receives every unusable value; tracing continues with the default
 */
export function tracingSettings(
  env: Environment,
  warn: (message: string) => void,
): TracingSettings | undefined {
  const read = (name: string): string | undefined => {
    const value = env[name]?.trim();
    return value === '' ? undefined : value;
  };
  if (read('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return undefined;
  const endpoint = read('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT') ?? read('OTEL_EXPORTER_OTLP_ENDPOINT');
  if (endpoint === undefined) return undefined;
  const exporters = read('OTEL_TRACES_EXPORTER') ?? 'otlp';
  if (exporters === 'none') return undefined;
  const names = exporters.split(',').map((name) => name.trim());
  if (!names.includes('otlp')) {
    warn(`OTEL_TRACES_EXPORTER=${exporters} is not known here: there are otlp and none; traces are off`);
    return undefined;
  }
  const others = names.filter((name) => name !== 'otlp' && name !== '');
  if (others.length > 0)
    warn(`OTEL_TRACES_EXPORTER: ${others.join(', ')} is not known here; otlp alone is used`);
  const protocol = protocolOf(
    read('OTEL_EXPORTER_OTLP_TRACES_PROTOCOL') ?? read('OTEL_EXPORTER_OTLP_PROTOCOL'),
    warn,
  );
  if (!isEndpoint(endpoint, protocol)) {
    warn('the OTLP endpoint is not a URL, such as http://127.0.0.1:4318; traces are off');
    return undefined;
  }
  const sampler = samplerFromEnvironment(read('OTEL_TRACES_SAMPLER'), read('OTEL_TRACES_SAMPLER_ARG'), warn);
  return {
    protocol,
    sampler,
    queue: queueSettings(read, warn),
    propagators: propagatorsOf(read('OTEL_PROPAGATORS'), warn),
  };
}

function protocolOf(name: string | undefined, warn: (message: string) => void): OtlpProtocol {
  switch (name) {
    case undefined:
      return 'http/protobuf';
    case 'http/protobuf':
    case 'http/json':
    case 'grpc':
      return name;
    default:
      warn(`OTEL_EXPORTER_OTLP_PROTOCOL=${name} is not known here; http/protobuf is used`);
      return 'http/protobuf';
  }
}

/** A gRPC endpoint may omit the scheme. */
function isEndpoint(text: string, protocol: OtlpProtocol): boolean {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return true;
  return protocol === 'grpc' && URL.canParse(`http://${text}`);
}

function queueSettings(
  read: (name: string) => string | undefined,
  warn: (message: string) => void,
): SpanQueueSettings {
  const number = (name: string, otherwise: number, least: number): number => {
    const text = read(name);
    if (text === undefined) return otherwise;
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= 0x7fffffff) return value;
    warn(`${name}=${text} is not a whole number from ${least}; ${otherwise} is used`);
    return otherwise;
  };
  const maxQueueSize = number('OTEL_BSP_MAX_QUEUE_SIZE', DEFAULT_QUEUE.maxQueueSize, 1);
  const maxBatchSize = number('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', DEFAULT_QUEUE.maxBatchSize, 1);
  return {
    maxQueueSize,
    maxBatchSize: Math.min(maxBatchSize, maxQueueSize),
    scheduleDelayMs: number('OTEL_BSP_SCHEDULE_DELAY', DEFAULT_QUEUE.scheduleDelayMs, 0),
    exportTimeoutMs: number('OTEL_BSP_EXPORT_TIMEOUT', DEFAULT_QUEUE.exportTimeoutMs, 1),
  };
}

const DEFAULT_PROPAGATORS: readonly Propagator[] = ['tracecontext'];

/** Baggage passes through in any case, as every header that the sidecar does not own. */
function propagatorsOf(names: string | undefined, warn: (message: string) => void): readonly Propagator[] {
  if (names === undefined) return DEFAULT_PROPAGATORS;
  const list = names
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '');
  const isKnown = (name: string): name is Propagator => (PROPAGATORS as readonly string[]).includes(name);
  const unknown = list.filter((name) => !isKnown(name) && name !== 'baggage' && name !== 'none');
  const known = [...new Set(list.filter(isKnown))];
  // A list without any known name counts as no list.
  const used = list.length > unknown.length ? known : DEFAULT_PROPAGATORS;
  if (unknown.length > 0)
    warn(
      `OTEL_PROPAGATORS: ${unknown.join(', ')} is not known here, and ${used.join(', ') || 'no trace context'} is used; there are ${PROPAGATORS.join(', ')}, baggage and none`,
    );
  return list.includes('none') ? [] : used;
}

/** For tests, and for callers that want tracing without an environment. */
export const DEFAULT_TRACING: TracingSettings = {
  protocol: 'http/protobuf',
  sampler: DEFAULT_SAMPLER,
  queue: DEFAULT_QUEUE,
  propagators: DEFAULT_PROPAGATORS,
};
