/**
 * The admin listener: a dashboard and JSON for people on this machine, and two commands.
 *
 * It asks for no password, so it must not be reachable through somebody's browser: a page of another
 * site may not send it commands (Origin), and a name that was made to point at 127.0.0.1 is not
 * answered (DNS rebinding). Nothing in its answers is a secret.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { hostName, splitAuthority } from '../cluster/authority.ts';
import type { EventLog } from '../telemetry/events.ts';
import { dashboardRoutes } from './dashboard.ts';
import { answerEvents } from './event-stream.ts';
import { probe } from './health.ts';
import { type HttpRoute, type HttpServer, sendJson, startHttpServer } from './http-server.ts';
import { type LiveSource, LiveStream } from './live-stream.ts';
import { type MetricsSource, metricsRoute } from './metrics.ts';

/** What the admin pages show and do. Each value becomes JSON as it is. */
export interface AdminSource {
  /** Clusters by name with their endpoints: state, load, ejection, breaker. */
  clusters(): object;
  /** The effective configuration in the file's form, without secrets. */
  config(): object;
  stats(): object;
  notReadyBecause(): string | undefined;
  readonly metrics: MetricsSource;
  readonly events: EventLog;
  /** What the dashboard shows. */
  readonly live: LiveSource;
  /** Begins to drain; does not wait for its end. */
  drain(): void;
  /** The same for callers alone; what the app calls itself is served on. */
  drainInbound(): void;
  /** Reads the configuration again: empty when it is used now, or every problem while the old one stays. */
  reload(): Promise<readonly object[]>;
}

export function startAdmin(
  listen: string,
  source: AdminSource,
  onError: (error: unknown) => void,
): Promise<HttpServer> {
  const json = (path: string, value: () => object): HttpRoute => ({
    method: 'GET',
    path,
    handle: (_request, response) => sendJson(response, 200, value()),
  });
  const live = new LiveStream(source.live, onError);
  const routes: readonly HttpRoute[] = [
    ...dashboardRoutes(),
    json('/clusters', () => source.clusters()),
    json('/config', () => source.config()),
    json('/stats', () => source.stats()),
    metricsRoute(source.metrics),
    probe('/ready', () => source.notReadyBecause()),
    {
      method: 'GET',
      path: '/events',
      handle: (request, response) => answerEvents(source.events, request, response),
    },
    {
      method: 'GET',
      path: '/live',
      handle: (request, response) => live.handle(request, response),
    },
    { method: 'POST', path: '/drain', handle: (_request, response) => drain(response, () => source.drain()) },
    {
      method: 'POST',
      path: '/drain/inbound',
      handle: (_request, response) => drain(response, () => source.drainInbound()),
    },
    { method: 'POST', path: '/reload', handle: (_request, response) => reload(source, response) },
  ];
  return startHttpServer({ setting: 'admin.listen', listen, routes, refuse: refuseOtherSites, onError });
}

function drain(response: ServerResponse, begin: () => void): void {
  // The answer first: the end of the drain closes this listener.
  sendJson(response, 202, { draining: true });
  begin();
}

async function reload(source: AdminSource, response: ServerResponse): Promise<void> {
  const problems = await source.reload();
  if (problems.length === 0) sendJson(response, 200, { reloaded: true });
  else sendJson(response, 422, { reloaded: false, problems });
}

/** Why a request may be another site's doing; `undefined` when it is not. */
function refuseOtherSites(request: IncomingMessage): string | undefined {
  const { host, origin } = request.headers;
  if (host === undefined || !isOurs(host, request)) {
    return 'the Host header names another machine; use http://localhost or http://127.0.0.1';
  }
  // Only browsers send Origin, and they always do with a POST.
  const otherSite = origin !== undefined && origin !== `http://${host}`;
  const site = request.headers['sec-fetch-site'];
  const crossSite = site !== undefined && site !== 'same-origin' && site !== 'none';
  if (request.method === 'POST' && (otherSite || crossSite)) {
    return 'the request comes from a page of another site';
  }
  return undefined;
}

/** localhost, a loopback address, or the very address that the connection was made to. */
function isOurs(hostHeader: string, request: IncomingMessage): boolean {
  const name = splitAuthority(hostHeader).host;
  if (name === 'localhost' || name === '::1') return true;
  if (isIP(name) === 0) return false;
  const local = request.socket.localAddress?.replace(/^::ffff:/, '');
  return name.startsWith('127.') || name === (local && hostName(local));
}
