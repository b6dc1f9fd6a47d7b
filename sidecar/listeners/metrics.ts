/** The metrics listener: `/metrics` for Prometheus. */
import { type HttpRoute, type HttpServer, send, startHttpServer } from './http-server.ts';

interface MetricsPage {
  readonly contentType: string;
  readonly body: string | Buffer;
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
  // One page may answer many requests: convert it once, so that its readers share the bytes.
  const bytesOf = new WeakMap<MetricsPage, Buffer>();
  return {
    method: 'GET',
    path: '/metrics',
    handle: async (request, response) => {
      const page = await source.page(request.headers.accept);
      let bytes = bytesOf.get(page);
      if (bytes === undefined) {
        bytes = typeof page.body === 'string' ? Buffer.from(page.body) : page.body;
        bytesOf.set(page, bytes);
      }
      response.setHeader('Vary', 'Accept');
      send(response, 200, page.contentType, bytes);
    },
  };
}
