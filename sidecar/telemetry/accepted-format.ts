/** The formats of an exposition: the two of text, of which OpenMetrics has exemplars, and protobuf, which has native histograms, too. */
export type ExpositionFormat = 'text' | 'openmetrics' | 'protobuf';

/** Those of text as prom-client's registry knows them. */
export const CONTENT_TYPES = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
  protobuf: 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited',
} as const satisfies Record<ExpositionFormat, string>;

const MAX_RANGES = 32;

/**
 * Which format to answer with. Protobuf and OpenMetrics only for who names them and prefers nothing else that there is:
 * everybody else, curl and browsers among them, gets what every scraper reads.
 *
 * @param accept the header `Accept` (RFC 9110 §12.5.1)
 */
export function acceptedFormat(accept: string | undefined): ExpositionFormat {
  if (accept === undefined) return 'text';
  const weights = { text: 0, openmetrics: 0, protobuf: 0 };
  for (const range of accept.split(',', MAX_RANGES)) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const format = formatOf(type, parameters);
    if (format !== undefined) weights[format] = Math.max(weights[format], quality(parameters));
  }
  const { text, openmetrics, protobuf } = weights;
  if (protobuf > 0 && protobuf >= openmetrics && protobuf >= text) return 'protobuf';
  return openmetrics > 0 && openmetrics >= text ? 'openmetrics' : 'text';
}

function formatOf(type: string, parameters: readonly string[]): ExpositionFormat | undefined {
  switch (type) {
    case 'application/openmetrics-text': {
      const version = parameterOf(parameters, 'version');
      // Other versions may read otherwise. Prometheus asks for both of these.
      return version === undefined || version === '1.0.0' || version === '0.0.1' ? 'openmetrics' : undefined;
    }
    case 'application/vnd.google.protobuf':
      return parameterOf(parameters, 'proto') === 'io.prometheus.client.metricfamily' &&
        parameterOf(parameters, 'encoding') === 'delimited'
        ? 'protobuf'
        : undefined;
    case 'text/plain':
      return 'text';
    default:
      return undefined;
  }
}

function parameterOf(parameters: readonly string[], name: string): string | undefined {
  const prefix = `${name}=`;
  return parameters.find((parameter) => parameter.startsWith(prefix))?.slice(prefix.length);
}

function quality(parameters: readonly string[]): number {
  const weight = Number(parameterOf(parameters, 'q') ?? 1);
  return weight >= 0 && weight <= 1 ? weight : 0;
}
