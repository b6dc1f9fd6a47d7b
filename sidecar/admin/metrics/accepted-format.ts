/** Picks the format of a scrape's answer from the request's `Accept` header. */

/**
 * The formats of an exposition: two text formats, of which OpenMetrics carries exemplars, and protobuf, which also
 * carries native histograms.
 */
export type ExpositionFormat = 'text' | 'openmetrics' | 'protobuf';

/** The content types of the text formats, as prom-client's registry names them. */
export const CONTENT_TYPES = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
  protobuf: 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited',
} as const satisfies Record<ExpositionFormat, string>;

const MAX_RANGES = 32;

/**
 * Picks the format to answer with. A client gets protobuf or OpenMetrics only when it names them and prefers no other
 * format that we write. Every other client, such as curl or a browser, gets the text format, which every scraper reads.
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
      // Other versions may differ. Prometheus requests both of these.
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
