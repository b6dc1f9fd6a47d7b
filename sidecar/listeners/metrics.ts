/** The metrics listener: `/metrics` for Prometheus. */
import { type HttpRoute, type HttpServer, send, startHttpServer } from './http-server.ts';

/** What of a prom-client Registry is needed. */
export interface MetricsSource {
  readonly contentType: string;
  metrics(): Promise<string>;
}

export function startMetrics(
  listen: string,
  source: MetricsSource,
  onError: (error: unknown) => void,
): Promise<HttpServer> {
  return startHttpServer({ setting: 'metrics.listen', listen, routes: [metricsRoute(source)], onError });
}

export function metricsRoute(source: MetricsSource): HttpRoute {
  return {
    method: 'GET',
    path: '/metrics',
    handle: async (_request, response) => {
      const body = await source.metrics();
      send(response, 200, source.contentType, body);
    },
  };
}
