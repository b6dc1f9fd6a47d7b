/** The two text formats of an exposition; OpenMetrics has exemplars. */
export type ExpositionFormat = 'text' | 'openmetrics';

/** As prom-client's registry knows them. */
export const CONTENT_TYPES = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
} as const satisfies Record<ExpositionFormat, string>;

const MAX_RANGES = 32;

/**
 * Which format to answer with. OpenMetrics only for who names it and does not prefer plain text: everybody else, curl
 * and browsers among them, gets what every scraper reads.
 *
 * @param accept the header `Accept` (RFC 9110 §12.5.1)
 */
export function acceptedFormat(accept: string | undefined): ExpositionFormat {
  if (accept === undefined) return 'text';
  let openMetrics = 0;
  let text = 0;
  for (const range of accept.split(',', MAX_RANGES)) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    if (type === 'application/openmetrics-text') {
      const version = parameterOf(parameters, 'version');
      // Other versions may read otherwise. Prometheus asks for both of these.
      if (version === undefined || version === '1.0.0' || version === '0.0.1')
        openMetrics = Math.max(openMetrics, quality(parameters));
    } else if (type === 'text/plain') text = Math.max(text, quality(parameters));
  }
  return openMetrics > 0 && openMetrics >= text ? 'openmetrics' : 'text';
}

function parameterOf(parameters: readonly string[], name: string): string | undefined {
  const prefix = `${name}=`;
  return parameters.find((parameter) => parameter.startsWith(prefix))?.slice(prefix.length);
}

function quality(parameters: readonly string[]): number {
  const weight = Number(parameterOf(parameters, 'q') ?? 1);
  return weight >= 0 && weight <= 1 ? weight : 0;
}
