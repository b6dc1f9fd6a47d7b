/**
 * The admin listener: a dashboard and JSON for operators on this machine, and the commands drain and reload.
 *
 * It asks for no password, so other sites must not reach it through the operator's browser: it rejects requests from pages
 * of other sites (Origin, Sec-Fetch-Site) but a link to a page, and requests whose Host is a foreign name that resolves to 127.0.0.1 (DNS rebinding). Its
 * answers contain no secrets.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { hostName, splitAuthority } from '../net/authority.ts';
import { isFromOtherSite } from '../node/other-site.ts';
import type { EventLog } from '../telemetry/events.ts';
import { dashboardRoutes } from './dashboard.ts';
import { answerEvents } from './event-stream.ts';
import { probe } from './health.ts';
import { type HttpRoute, type HttpServer, sendJson, startHttpServer } from './http-server.ts';
import { type LiveSource, LiveStream } from './live-stream.ts';
import { type MetricsSource, metricsRoute, statusRoute } from './metrics.ts';

/** The data and commands behind the admin pages. Each value is sent as JSON, unchanged. */
export interface AdminSource {
  /** Clusters by name with their endpoints: state, load, ejection, breaker. */
  clusters(): object;
  /** The effective configuration in the file's form, without secrets. */
  config(): object;
  stats(): object;
  /** The state in a few lines; the metrics listener serves it without texts that quote a peer. */
  status(): object;
  /** The running calls that the query asks for; a text when the query is wrong. */
  calls(query: URLSearchParams): object | string;
  notReadyBecause(): string | undefined;
  readonly metrics: MetricsSource;
  readonly events: EventLog;
  /** The data of the dashboard. */
  readonly live: LiveSource;
  /** Starts a drain; does not wait for its end. */
  drain(): void;
  /** Drains the inbound side only; the sidecar goes on serving the app's own calls. */
  drainInbound(): void;
  /** Reloads the configuration. Resolves with the problems that keep the old one in use, or an empty list. */
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
    {
      method: 'GET',
      path: '/calls',
      handle: (request, response) => {
        const calls = source.calls(queryOf(request));
        if (typeof calls === 'string') sendJson(response, 400, { error: calls });
        else sendJson(response, 200, calls);
      },
    },
    metricsRoute(source.metrics),
    statusRoute(() => source.status()),
    probe('/ready', () => source.notReadyBecause()),
    {
      method: 'GET',
      path: '/events',
      handle: (request, response) => answerEvents(source.events, request, response),
    },
    json('/events.json', () => source.events.recent()),
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

function queryOf({ url = '' }: IncomingMessage): URLSearchParams {
  const at = url.indexOf('?');
  return new URLSearchParams(at < 0 ? '' : url.slice(at + 1));
}

function drain(response: ServerResponse, begin: () => void): void {
  // Answer first: the end of the drain closes this listener.
  sendJson(response, 202, { draining: true });
  begin();
}

async function reload(source: AdminSource, response: ServerResponse): Promise<void> {
  const problems = await source.reload();
  if (problems.length === 0) sendJson(response, 200, { reloaded: true });
  else sendJson(response, 422, { reloaded: false, problems });
}

/** Returns why a request may come from another site; `undefined` when it does not. */
function refuseOtherSites(request: IncomingMessage): string | undefined {
  const { host, origin } = request.headers;
  if (host === undefined || !isOurs(host, request)) {
    return 'the Host header names another machine; use http://localhost or http://127.0.0.1';
  }
  // Only browsers send Origin: with every POST, and with a GET by a script of another site.
  const otherOrigin = origin !== undefined && origin !== `http://${host}`;
  if (otherOrigin || isFromOtherSite(request.method, request.headers)) {
    return 'a page of another site has sent the request';
  }
  return undefined;
}

/** Accepts localhost, a loopback address, and the address that the client connected to. */
function isOurs(hostHeader: string, request: IncomingMessage): boolean {
  const name = splitAuthority(hostHeader).host;
  if (name === 'localhost' || name === '::1') return true;
  if (isIP(name) === 0) return false;
  const local = request.socket.localAddress?.replace(/^::ffff:/, '');
  return name.startsWith('127.') || name === (local && hostName(local));
}
