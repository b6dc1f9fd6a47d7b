/** The metrics listener: `/metrics` for Prometheus. */
import { type HttpRoute, type HttpServer, send, startHttpServer } from './http-server.ts';

interface MetricsPage {
  readonly contentType: string;
  readonly body: Buffer;
}

/** The source of the pages (`admin/metrics/metrics-pages.ts`). */
export interface MetricsSource {
  /** @param accept the request's `Accept`, which selects the text format, OpenMetrics or protobuf */
  page(accept: string | undefined): Promise<MetricsPage>;
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
