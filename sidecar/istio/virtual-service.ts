/** Which calls go to which cluster, how long they may take and when they are sent again. One for each host. */
import { splitAuthority } from '../cluster/authority.ts';
import type { ClusterConfig, RouteMatchConfig } from '../config/config.ts';
import type { Destination } from './destination.ts';
import {
  durationOf,
  type Fields,
  type Named,
  type Note,
  note,
  notesOf,
  type Resource,
  resource,
} from './resource.ts';
import { retriesOfIdempotent, retriesOfUntouched, retryNotes } from './retries.ts';

/** Calls that match go to the cluster. */
export interface Rule {
  readonly match: RouteMatchConfig;
  readonly cluster: ClusterConfig;
  readonly destination: Destination;
}

/**
 * @param rules in the order of the configuration; the first that matches wins here, too
 * @param said what of the configuration's rules is not among them, and why
 */
export function virtualService(
  at: Named,
  host: string,
  rules: readonly Rule[],
  said: readonly string[],
): Resource {
  const http: Fields[] = [];
  const notes: Note[] = said.map((text) => note('http', text));
  for (const rule of rules) {
    const idempotent = idempotentRoute(rule);
    if (idempotent !== undefined) {
      notes.push(...retryNotes(rule.cluster, `http.${http.length}.retries`, true));
      http.push(idempotent);
    }
    notes.push(...routeNotes(rule.cluster, `http.${http.length}`));
    http.push(routeOf(rule, matchOf(rule.match), retriesOfUntouched(rule.cluster)));
  }
  return resource('VirtualService', at, { hosts: [host], http }, notes);
}

function routeOf(
  { cluster, destination }: Rule,
  match: Fields | undefined,
  retries: Fields,
  name?: string,
): Fields {
  const port = destination.kind === 'external' ? { number: destination.port } : undefined;
  return {
    name: name ?? destination.name,
    match: match === undefined ? undefined : [match],
    route: [{ destination: { host: destination.host, port } }],
    timeout: durationOf(cluster.timeoutMs),
    retries,
  };
}

function idempotentRoute(rule: Rule): Fields | undefined {
  const retries = retriesOfIdempotent(rule.cluster);
  const prefix = rule.match.pathPrefix ?? '/';
  const methods = rule.cluster.retry.idempotentMethods.filter((method) => method.startsWith(prefix));
  if (retries === undefined || methods.length === 0) return undefined;
  const match = methods.map((method) => ({
    ...matchOf({ ...rule.match, pathPrefix: undefined }),
    uri: { exact: method },
  }));
  return { ...routeOf(rule, undefined, retries), name: `${rule.destination.name}-idempotent`, match };
}

/** Whether every call to the host matches. */
export function matchesAll({ authority, pathPrefix, headers }: RouteMatchConfig): boolean {
  return pathPrefix === undefined && Object.keys(headers).length === 0 && portIn(authority) === undefined;
}

/** The host is the VirtualService's; what is left of an authority is its port. */
function portIn(authority: string | undefined): number | undefined {
  return authority === undefined ? undefined : splitAuthority(authority).port || undefined;
}

function matchOf(match: RouteMatchConfig): Fields | undefined {
  if (matchesAll(match)) return undefined;
  const { authority, pathPrefix, headers } = match;
  const names = Object.entries(headers).map(([name, value]) => [name, { exact: value }] as const);
  return {
    port: portIn(authority),
    uri: pathPrefix === undefined ? undefined : { prefix: pathPrefix },
    headers: names.length === 0 ? undefined : Object.fromEntries(names),
  };
}

function routeNotes(cluster: ClusterConfig, path: string): Note[] {
  const clock = cluster.timeoutMs > 0 ? `${path}.timeout` : `${path}.route`;
  return [
    ...notesOf(
      cluster.timeoutMs > 0
        ? note(
            clock,
            "timeout: over the whole call, retries and streams included. A caller's shorter grpc-timeout holds; what is left of it is not sent on to each attempt.",
          )
        : note(clock, 'timeout 0s: none here either, which is also the default.'),
      cluster.idleTimeoutMs > 0 &&
        note(
          clock,
          'idle_timeout: no field of a route, and off in the proxies; a stream that says nothing is ended by the timeout. ProxyConfig.connectionSettings.httpStreamIdleTimeout (Istio 1.31) has one for all streams of a proxy.',
        ),
      cluster.firstChunkTimeoutMs > 0 &&
        note(
          clock,
          'first_chunk_timeout: no such clock; perTryTimeout of idempotent methods is the nearest.',
        ),
    ),
    ...retryNotes(cluster, `${path}.retries`, false),
  ];
}
