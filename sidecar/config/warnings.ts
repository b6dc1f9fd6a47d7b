/**
 * Finds settings that work, and are surely a mistake: a route that no call reaches, a limit that another one makes void. They are
 * warnings, never a refusal.
 */
import { formatHostPort, readAddress } from '../net/address.ts';
import { hostName } from '../net/authority.ts';
import { isBeyondLoopback } from '../net/reach.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { serviceWarnings } from './llm-service.ts';
import { llmWarnings } from './llm-warnings.ts';
import { mcpWarnings } from './mcp-relations.ts';
import type { Finding, Path } from './problems.ts';
import { valueAt } from './raw-values.ts';
import type { FileCluster, FileConfig } from './schema.ts';

/** A lower limit of calls makes the default void, which is no mistake. */
const DEFAULT_PENDING = 1_024;

type FileRoute = FileConfig['outbound']['routes'][number];

/** @param given the values before defaults: a default that another setting makes void is no mistake */
export function findWarnings(file: FileConfig, given: unknown): Finding[] {
  return [
    ...shadowedRoutes(file),
    ...unusedClusters(file),
    ...Object.entries(file.outbound.clusters).flatMap(([name, cluster]) =>
      clusterWarnings(['outbound', 'clusters', name], cluster, given),
    ),
    ...voidTimes(['inbound'], file.inbound, given, [
      ...(file.inbound.queue.max_calls > 0 ? [['queue', 'max_wait']] : []),
      ['first_chunk_timeout'],
      ['idle_timeout'],
    ]),
    ...llmWarnings(file),
    ...mcpWarnings(file),
    ...serviceWarnings(file),
    ...exposedListeners(file),
  ];
}

function shadowedRoutes({ outbound: { routes } }: FileConfig): Finding[] {
  return routes.flatMap((route, index) => {
    const by = routes.slice(0, index).findIndex((earlier) => covers(earlier.match, route.match));
    if (by < 0) return [];
    const path = ['outbound', 'routes', index];
    const message = `gets no call: routes[${by}] takes each call that it would take`;
    return [finding(path, message, `move it before routes[${by}], or remove it`)];
  });
}

/** Whether each call that `later` takes is one that `earlier` takes. */
function covers(earlier: FileRoute['match'], later: FileRoute['match']): boolean {
  if (earlier.authority !== undefined && earlier.authority.toLowerCase() !== later.authority?.toLowerCase())
    return false;
  if (earlier.path_prefix !== undefined && later.path_prefix?.startsWith(earlier.path_prefix) !== true)
    return false;
  if (earlier.agent_type !== undefined && earlier.agent_type !== later.agent_type) return false;
  return Object.entries(earlier.headers ?? {}).every(
    ([name, value]) => later.headers !== undefined && later.headers[name] === value,
  );
}

/** Without routes the authority names the cluster, so each one may be used. */
function unusedClusters({ outbound: { routes, clusters } }: FileConfig): Finding[] {
  if (routes.length === 0) return [];
  const used = new Set(routes.map(({ cluster }) => cluster));
  return Object.keys(clusters)
    .filter((name) => !used.has(name))
    .map((name) =>
      finding(
        ['outbound', 'clusters', name],
        'gets no call: no entry of outbound.routes names it',
        'add a route to it, or remove it',
      ),
    );
}

function clusterWarnings(path: Path, cluster: FileCluster, given: unknown): Finding[] {
  const { endpoints = [], hedge, limits, retry } = cluster;
  if (cluster.bus !== undefined) return voidOnBus(path, given);
  const findings: Finding[] = [];
  const names = endpoints.map(canonical);
  for (const [index, name] of names.entries()) {
    const first = names.indexOf(name);
    if (first === index || endpoints[first] === endpoints[index]) continue;
    const message = `is the same endpoint as endpoints[${first}] (${endpoints[first]})`;
    findings.push(finding([...path, 'endpoints', index], message, 'keep one of the two'));
  }
  if (
    (parseDurationMs(hedge.delay) !== 0 || hedge.percentile !== 0) &&
    retry.idempotent_methods.length === 0
  ) {
    const remedy = 'list the methods that may run twice under retry.idempotent_methods, or remove hedge';
    findings.push(finding([...path, 'hedge'], 'has no effect: no method is idempotent', remedy));
  }
  const { max_pending_calls: most } = limits;
  const pending = [...path, 'limits', 'max_pending_calls'];
  if (most !== DEFAULT_PENDING && most > limits.max_concurrent_calls) {
    const message = `has no effect above max_concurrent_calls, which is ${limits.max_concurrent_calls}`;
    findings.push(finding(pending, message, 'lower it, or raise max_concurrent_calls'));
  }
  const times = [['retry', 'per_try_timeout'], ['hedge', 'delay'], ['first_chunk_timeout'], ['idle_timeout']];
  return [...findings, ...voidTimes(path, cluster, given, times)];
}

/** Settings that judge endpoints, or limit the time of an answer. */
const VOID_ON_BUS = [
  'balancer',
  'circuit_breaker',
  'first_chunk_timeout',
  'health_check',
  'hedge',
  'idle_timeout',
  'outlier_detection',
  'retry',
  'timeout',
];

function voidOnBus(path: Path, given: unknown): Finding[] {
  return VOID_ON_BUS.filter((key) => valueAt(given, [...path, key]) !== undefined).map((key) =>
    finding(
      [...path, key],
      'has no effect: the calls of this cluster become tasks on the bus, which end by their result or their deadline',
      'remove it; bus.consume of the agent has what limits a run',
    ),
  );
}

/** The most that any call may take makes a longer limit void; `timeout` does not, because callers may have more time. */
function voidTimes(
  path: Path,
  limits: { max_timeout: string },
  given: unknown,
  keys: readonly Path[],
): Finding[] {
  const maxMs = parseDurationMs(limits.max_timeout)!;
  if (maxMs === 0) return [];
  return keys.flatMap((key) => {
    const value = valueAt(limits, key);
    const isLonger = typeof value === 'string' && parseDurationMs(value)! >= maxMs;
    if (!isLonger || valueAt(given, [...path, ...key]) === undefined) return [];
    const message = `has no effect: max_timeout ends each call after ${limits.max_timeout}`;
    return [finding([...path, ...key], message, 'make it shorter, or raise max_timeout')];
  });
}

/** Listeners that trust whoever reaches them, and that more than this machine can reach. */
function exposedListeners({ admin, outbound }: FileConfig): Finding[] {
  const findings: Finding[] = [];
  const expose = (name: string, listen: string, what: string, remedy: string): void => {
    if (isBeyondLoopback(readAddress(listen)))
      findings.push(finding([name, 'listen'], `is open beyond this machine: ${what}`, remedy));
  };
  expose(
    'admin',
    admin.listen,
    'whoever reaches it can drain the sidecar, and reads its configuration',
    'write 127.0.0.1:15000; `outrigger status` needs only the metrics port',
  );
  const own = Object.entries(outbound.clusters).find(([, { tls }]) => tls?.cert !== undefined);
  if (own !== undefined)
    expose(
      'outbound',
      outbound.listen,
      `whoever reaches it calls ${own[0]} with this agent's certificate`,
      'write 127.0.0.1:15001',
    );
  return findings;
}

function canonical(endpoint: string): string {
  const where = readAddress(endpoint);
  if (where.kind === 'unix') return `unix:${where.path}`;
  const host = hostName(where.host).toLowerCase();
  return formatHostPort(host === 'localhost' ? '127.0.0.1' : host, where.port);
}

function finding(path: Path, message: string, remedy: string): Finding {
  return { path, part: 'key', message, remedy };
}
