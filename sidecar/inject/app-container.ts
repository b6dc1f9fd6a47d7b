import { at, isObject, type Json, type JsonObject, numberAt, objectAt, stringAt } from './json.ts';
import { PORTS } from './settings.ts';

const PROBES = ['startupProbe', 'readinessProbe', 'livenessProbe'] as const;
/** The services that the sidecar's health service answers for; another one is the app's own business. */
const HEALTH_SERVICES = new Set([undefined, '', 'agent.AgentService']);

/**
 * gRPC probes of the app's port go to the sidecar's, which answers for the app: the app may listen on localhost only,
 * where no kubelet comes.
 */
export function moveProbes(container: JsonObject, appPort: number, name: string | undefined): JsonObject {
  let moved = container;
  for (const key of PROBES) {
    const probe = objectAt(container, key);
    const grpc = objectAt(probe, 'grpc');
    if (numberAt(grpc, 'port') !== appPort) continue;
    const service = stringAt(grpc, 'service');
    if (!HEALTH_SERVICES.has(service) && service !== name) continue;
    moved = { ...moved, [key]: { ...probe, grpc: { ...grpc, port: PORTS.inbound } } };
  }
  return moved;
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
