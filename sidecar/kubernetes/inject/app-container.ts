/** Changes the app's container: probes, port name and preStop hook. */
import { at, isObject, type Json, type JsonObject, numberAt, objectAt, stringAt } from './json.ts';
import type { Ports } from './settings.ts';

const PROBES = ['startupProbe', 'readinessProbe', 'livenessProbe'] as const;
/** The services for which the sidecar's health service answers, besides its own name. */
const HEALTH_SERVICES = new Set([undefined, '', 'agent.AgentService']);

/** Decides how the kubelet probes the app through the sidecar. */
export interface ProbeTarget {
  readonly ports: Ports;
  /** The sidecar's name; its health service answers for it. */
  readonly name: string | undefined;
  /** Whether the sidecar's port may use TLS, which a kubelet's gRPC probes do not support. */
  readonly mayHaveTls: boolean;
}

/**
 * Redirects gRPC probes of the app's port to the sidecar, which answers for the app: the app may listen on localhost
 * only, where the kubelet can't reach it. A probe stays gRPC if the sidecar's own health service can answer it.
 * Otherwise it becomes an HTTP probe of the sidecar's health port, which checks the app.
 */
export function moveProbes(container: JsonObject, appPort: number, target: ProbeTarget): JsonObject {
  let moved = container;
  for (const key of PROBES) {
    const probe = objectAt(container, key);
    const grpc = objectAt(probe, 'grpc');
    if (numberAt(grpc, 'port') !== appPort) continue;
    const service = stringAt(grpc, 'service');
    const isKnown = HEALTH_SERVICES.has(service) || service === target.name;
    const { grpc: _, ...rest } = probe;
    const there =
      isKnown && !target.mayHaveTls
        ? { ...probe, grpc: { ...grpc, port: target.ports.inbound } }
        : { httpGet: httpGetOf(service ?? '', target.ports.health), ...rest };
    moved = { ...moved, [key]: there };
  }
  return moved;
}

function httpGetOf(service: string, port: number): JsonObject {
  // Not encodeURIComponent, which throws for half a surrogate pair.
  const query = service === '' ? '' : `?${new URLSearchParams({ service })}`;
  return { path: `/healthz/app${query}`, port, scheme: 'HTTP' };
}

/**
 * Removes the name of the app's port, because the sidecar's port takes it: a Service that targets a port by name finds
 * the first container with that name. References to the name in the container itself become the number.
 */
export function releasePortName(container: JsonObject, appPort: number, name: string): JsonObject {
  const ports = at(container, 'ports');
  if (!Array.isArray(ports)) return container;
  const owns = (port: Json): boolean =>
    stringAt(port, 'name') === name && numberAt(port, 'containerPort') === appPort;
  if (!ports.some(owns)) return container;
  const released: Record<string, Json> = {
    ...container,
    ports: ports.map((port: Json) => {
      if (!owns(port)) return port;
      const { name: _, ...unnamed } = port as JsonObject;
      return unnamed;
    }),
  };
  for (const key of PROBES) {
    const probe = at(container, key);
    if (isObject(probe)) released[key] = withoutPortName(probe, name, appPort);
  }
  const lifecycle = at(container, 'lifecycle');
  if (isObject(lifecycle)) {
    released['lifecycle'] = Object.fromEntries(
      Object.entries(lifecycle).map(([hook, action]) => [
        hook,
        isObject(action) ? withoutPortName(action, name, appPort) : action,
      ]),
    );
  }
  return released;
}

function withoutPortName(action: JsonObject, name: string, port: number): JsonObject {
  let changed = action;
  for (const kind of ['httpGet', 'tcpSocket']) {
    const target = at(action, kind);
    if (isObject(target) && target['port'] === name) changed = { ...changed, [kind]: { ...target, port } };
  }
  return changed;
}

/** Delays SIGTERM while the sidecar sends callers away, if the container has no hook of its own. */
export function holdSigterm(container: JsonObject, seconds: number): JsonObject {
  const lifecycle = objectAt(container, 'lifecycle');
  if (seconds <= 0 || isObject(at(lifecycle, 'preStop'))) return container;
  return { ...container, lifecycle: { ...lifecycle, preStop: { sleep: { seconds } } } };
}
