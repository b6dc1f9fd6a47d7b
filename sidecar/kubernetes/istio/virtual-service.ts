/** Builds the VirtualService of a host: which calls go to which cluster, their time limits and their retries. */
import type { ClusterConfig, RouteMatchConfig } from '../../config/config.ts';
import { splitAuthority } from '../../net/authority.ts';
import { PROCESS_TASK_PATH } from '../../task/task-message.ts';
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

/** Sends matching calls to the cluster. */
export interface Rule {
  readonly match: RouteMatchConfig;
  readonly cluster: ClusterConfig;
  readonly destination: Destination;
}

/**
 * @param rules in the order of the configuration; the first match wins here, too
 * @param leftOut which of the configuration's rules are missing, and why
 */
export function virtualService(
  at: Named,
  host: string,
  rules: readonly Rule[],
  leftOut: readonly string[],
): Resource {
  const http: Fields[] = [];
  const notes: Note[] = leftOut.map((text) => note('http', text));
  for (const rule of rules) {
    const methods = idempotentMethods(rule);
    const retries = retriesOfIdempotent(rule.cluster);
    if (retries !== undefined && methods.length > 0) {
      const first = http.length;
      http.push(...routesOf(rule, methods, retries));
      notes.push(...timeNotes(rule.cluster, http, first));
      notes.push(...retryNotes(rule.cluster, `http.${http.length - 1}.retries`, true));
    }
    const first = http.length;
    http.push(...routesOf(rule, undefined, retriesOfUntouched(rule.cluster)));
    notes.push(...timeNotes(rule.cluster, http, first));
    notes.push(...routeNotes(rule.cluster, `http.${http.length - 1}`));
  }
  return resource('VirtualService', at, { hosts: [host], http }, notes);
}

function idempotentMethods({ match, cluster }: Rule): readonly string[] {
  return cluster.retry.idempotentMethods.filter((method) => method.startsWith(match.pathPrefix ?? '/'));
}

/** The header with gRPC's timeout of a call. */
const DEADLINE = 'grpc-timeout';

/**
 * A route has one time limit for all of its calls, and the proxy shortens the caller's deadline to it. So separate
 * routes distinguish calls by their method, and by whether they have a deadline.
 *
 * @param methods the methods of these routes; `undefined` for all that match
 */
function routesOf(
  { match, cluster, destination }: Rule,
  methods: readonly string[] | undefined,
  retries: Fields,
): Fields[] {
  const name = methods === undefined ? destination.name : `${destination.name}-idempotent`;
  const port = destination.kind === 'external' ? { number: destination.port } : undefined;
  const route = [{ destination: { host: destination.host, port } }];
  const unary = methods?.includes(PROCESS_TASK_PATH) ?? PROCESS_TASK_PATH.startsWith(match.pathPrefix ?? '/');
  const exactly = (method: string): Fields => ({
    ...matchOf({ ...match, pathPrefix: undefined }),
    uri: { exact: method },
  });
  const matches = methods?.map(exactly) ?? [matchOf(match) ?? {}];
  const routes: Fields[] = [];
  const add = (suffix: string, match: readonly Fields[] | undefined, timeoutMs: number) =>
    routes.push({ name: name + suffix, match, route, timeout: durationOf(timeoutMs), retries });
  if (cluster.timeoutMs > 0 && unary) {
    const match = { ...exactly(PROCESS_TASK_PATH), withoutHeaders: { [DEADLINE]: {} } };
    add('-without-deadline', [match], cluster.timeoutMs);
  }
  if (cluster.maxTimeoutMs > 0) {
    const withDeadline = matches.map((match) => ({
      ...match,
      headers: { ...(match['headers'] as Fields), [DEADLINE]: {} },
    }));
    add('-with-deadline', withDeadline, cluster.maxTimeoutMs);
  }
  add('', methods === undefined && matchOf(match) === undefined ? undefined : matches, 0);
  return routes;
}

/** Whether every call to the host matches. */
export function matchesAll({ authority, pathPrefix, headers }: RouteMatchConfig): boolean {
  return pathPrefix === undefined && Object.keys(headers).length === 0 && portIn(authority) === undefined;
}

/** The port in an authority; the VirtualService has the host. */
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

/** Notes on the routes from `first` on. */
function timeNotes(cluster: ClusterConfig, http: readonly Fields[], first: number): Note[] {
  return http.slice(first).flatMap((route, index) => {
    const path = `http.${first + index}`;
    const name = String(route['name']);
    return notesOf(
      name.endsWith('-without-deadline') &&
        note(
          `${path}.timeout`,
          'timeout: for unary calls without a deadline of the caller. It covers the whole call with its retries.',
        ),
      name.endsWith('-with-deadline') &&
        note(
          `${path}.timeout`,
          'max_timeout: the proxy shortens a longer grpc-timeout of the caller to it, and keeps a shorter one.',
        ),
      route['timeout'] === undefined &&
        note(
          `${path}.route`,
          `No timeout: the caller's grpc-timeout applies, and a call without one has no time limit${cluster.timeoutMs > 0 ? '' : '; timeout 0s'}. Attempts receive the caller's grpc-timeout, not the remaining time.`,
        ),
    );
  });
}

function routeNotes(cluster: ClusterConfig, path: string): Note[] {
  return [
    ...notesOf(
      cluster.idleTimeoutMs !== 0 &&
        note(
          `${path}.route`,
          "idle_timeout: routes have no such field, and the proxies' own is off, so a silent stream stays open until one side ends it. ProxyConfig.connectionSettings.httpStreamIdleTimeout (Istio 1.31) is one for all streams of a proxy, health watches included.",
        ),
      cluster.firstChunkTimeoutMs > 0 &&
        note(
          `${path}.route`,
          'first_chunk_timeout: Istio has no such timeout; perTryTimeout of idempotent methods comes closest.',
        ),
    ),
    ...retryNotes(cluster, `${path}.retries`, false),
  ];
}
