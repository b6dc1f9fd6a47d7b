/** The health listener: what a kubelet's probes ask (`/healthz/live`, `/healthz/ready`). */
import { type HttpRoute, type HttpServer, sendJson, startHttpServer } from './http-server.ts';

export interface HealthSource {
  /** Why the process should be restarted; `undefined` while it is fine. */
  notLiveBecause(): string | undefined;
  /** Why no calls should be sent here; `undefined` when they may come. */
  notReadyBecause(): string | undefined;
}

export function startHealth(
  listen: string,
  source: HealthSource,
  onError: (error: unknown) => void,
): Promise<HttpServer> {
  const routes = [
    probe('/healthz/live', () => source.notLiveBecause()),
    probe('/healthz/ready', () => source.notReadyBecause()),
  ];
  return startHttpServer({ setting: 'health.listen', listen, routes, onError });
}

/** 200 when there is nothing against it, 503 with the reason when there is. */
export function probe(path: string, because: () => string | undefined): HttpRoute {
  return {
    method: 'GET',
    path,
    handle: (_request, response) => {
      const reason = because();
      if (reason === undefined) sendJson(response, 200, { ok: true });
      else sendJson(response, 503, { ok: false, reason });
    },
  };
}
