/** The metrics listener: `/metrics` for Prometheus, and `/status` for `outrigger status`. */
import { type HttpRoute, type HttpServer, send, sendJson, startHttpServer } from './http-server.ts';

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
  status?: () => object,
): Promise<HttpServer> {
  const routes = [metricsRoute(source), ...(status === undefined ? [] : [statusRoute(status)])];
  return startHttpServer({ setting: 'metrics.listen', listen, routes, onError });
}

/** This listener is open to other pods: `status` holds nothing that they may not know (`admin/status-page.ts`). */
export function statusRoute(status: () => object): HttpRoute {
  return {
    method: 'GET',
    path: '/status',
    handle: (_request, response) => sendJson(response, 200, status()),
  };
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
