import { at, isObject, type Json, type JsonObject, numberAt, objectAt, stringAt } from './json.ts';
import type { Ports } from './settings.ts';

const PROBES = ['startupProbe', 'readinessProbe', 'livenessProbe'] as const;
/** The services that the sidecar's health service answers for, its name beside them. */
const HEALTH_SERVICES = new Set([undefined, '', 'agent.AgentService']);

/** What decides where the sidecar is probed for the app. */
export interface ProbeTarget {
  readonly ports: Ports;
  /** The sidecar's name, which its health service answers for. */
  readonly name: string | undefined;
  /** Its port may speak TLS, which a kubelet's gRPC probes can't. */
  readonly mayHaveTls: boolean;
}

/**
 * gRPC probes of the app's port go to the sidecar, which answers for the app: the app may listen on localhost only,
 * where no kubelet comes. They stay gRPC where the sidecar's own health service can be asked so; otherwise its health
 * port is asked over HTTP, which asks the app.
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
  // Not encodeURIComponent, which throws at half a surrogate pair.
  const query = service === '' ? '' : `?${new URLSearchParams({ service })}`;
  return { path: `/healthz/app${query}`, port, scheme: 'HTTP' };
}

/**
 * Takes the name off the app's port, for the sidecar's port has it now: a Service that asks for its target by name
 * looks at containers first. What the container itself says by that name is said by number instead.
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

/** Holds SIGTERM back while callers are sent away, where the container has no hook of its own. */
export function holdSigterm(container: JsonObject, seconds: number): JsonObject {
  const lifecycle = objectAt(container, 'lifecycle');
  if (seconds <= 0 || isObject(at(lifecycle, 'preStop'))) return container;
  return { ...container, lifecycle: { ...lifecycle, preStop: { sleep: { seconds } } } };
}
