/** The health listener, for a kubelet's probes (`/healthz/live`, `/healthz/ready`, `/healthz/app`). */
import type { ServerResponse } from 'node:http';
import { type HttpRoute, type HttpServer, sendJson, startHttpServer } from './http-server.ts';

export interface HealthSource {
  /** Why the process should be restarted; `undefined` while it is fine. */
  notLiveBecause(): string | undefined;
  /** Why callers should send no calls here; `undefined` when they may. */
  notReadyBecause(): string | undefined;
  /** Why the app, or the named one of its gRPC services, does not serve; `undefined` when it does. */
  appBecause?(service: string): Promise<string | undefined>;
  /** The problem with the configuration file while another configuration is in use. */
  configNote?(): string | undefined;
  /** The problem with the bus: the sidecar serves what needs no bus all the same. */
  busNote?(): string | undefined;
}

/** `config`: perhaps another configuration is in use than the intended one. */
interface Notes {
  readonly config?: string | undefined;
  readonly bus?: string | undefined;
}

const NO_NOTES: Notes = {};

/** Every full gRPC service name is shorter. */
const MAX_SERVICE_CHARS = 256;

/** @param setting the setting that has the address, for messages */
export function startHealth(
  listen: string,
  source: HealthSource,
  onError: (error: unknown) => void,
  setting = 'health.listen',
): Promise<HttpServer> {
  const notes = () => ({ config: source.configNote?.(), bus: source.busNote?.() });
  const routes = [
    probe('/healthz/live', () => source.notLiveBecause(), notes),
    probe('/healthz/ready', () => source.notReadyBecause(), notes),
  ];
  if (source.appBecause !== undefined) routes.push(appProbe((service) => source.appBecause!(service)));
  return startHttpServer({ setting, listen, routes, onError });
}

/**
 * `/healthz/app?service=NAME` returns the app's health as a gRPC probe would find it, for a kubelet, whose gRPC probes can
 * neither reach an app on localhost nor use TLS. An absent or empty service means the app as a whole.
 */
function appProbe(because: (service: string) => Promise<string | undefined>): HttpRoute {
  return {
    method: 'GET',
    path: '/healthz/app',
    handle: async (request, response) => {
      const services = new URLSearchParams((request.url ?? '').split('?').slice(1).join('?')).getAll(
        'service',
      );
      const [service = ''] = services;
      if (services.length > 1 || service.length > MAX_SERVICE_CHARS) {
        const error = `give one service of at most ${MAX_SERVICE_CHARS} characters: /healthz/app?service=NAME`;
        return sendJson(response, 400, { error });
      }
      sendHealth(response, await because(service));
    },
  };
}

/**
 * Answers 200 when `because` returns no reason, and 503 with the reason otherwise.
 *
 * @param notes about what is wrong although the sidecar serves
 */
export function probe(
  path: string,
  because: () => string | undefined,
  notes: () => Notes = () => NO_NOTES,
): HttpRoute {
  return {
    method: 'GET',
    path,
    handle: (_request, response) => sendHealth(response, because(), notes()),
  };
}

function sendHealth(response: ServerResponse, reason: string | undefined, notes = NO_NOTES): void {
  if (reason === undefined) sendJson(response, 200, { ok: true, ...notes });
  else sendJson(response, 503, { ok: false, reason, ...notes });
}
