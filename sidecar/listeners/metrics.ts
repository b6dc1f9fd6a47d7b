/** The metrics listener: `/metrics` for Prometheus. */
import { type HttpRoute, type HttpServer, send, startHttpServer } from './http-server.ts';

/** Where the pages come from (`telemetry/metrics-pages.ts`). */
export interface MetricsSource {
  /** @param accept the request's `Accept`; it chooses between the text format, OpenMetrics and protobuf */
  page(accept: string | undefined): Promise<{ readonly contentType: string; readonly body: string | Buffer }>;
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
    handle: async (request, response) => {
      const { contentType, body } = await source.page(request.headers.accept);
      response.setHeader('Vary', 'Accept');
      send(response, 200, contentType, body);
    },
  };
}
