/** Gives the ports of an annotated Service the name of the sidecar's port in place of the app's number. */
import { at, isObject, type Json, type JsonObject, numberAt, objectAt, objectsAt, stringAt } from './json.ts';
import { servicesOf, serviceTargets, sidecarOf } from './service-target.ts';

/** The annotation of a Service; its value is `name`. */
export const TARGET_ANNOTATION = 'outrigger.dev/target-port';

/** A pod, or a template, that has its sidecar. */
export interface InjectedPod {
  readonly labels: JsonObject;
  readonly namespace: string | undefined;
  readonly spec: JsonObject;
}

/** What a Service's annotation asks for. */
export function asksForName(service: JsonObject): boolean {
  return at(objectAt(objectAt(service, 'metadata'), 'annotations'), TARGET_ANNOTATION) === 'name';
}

/** The name by which a Service reaches the sidecar: the app's, which the sidecar has taken over, or the sidecar's own. */
export function inboundPortName(spec: JsonObject): string | undefined {
  const [inbound] = objectsAt(sidecarOf(spec) ?? {}, 'ports');
  return stringAt(inbound, 'name');
}

/** The same Service if nothing asks for a change. A pod without the name is no endpoint, so a roll-out loses no call. */
export function retargeted(service: JsonObject, pods: readonly InjectedPod[]): JsonObject {
  if (!asksForName(service)) return service;
  const selected = pods.filter(
    ({ labels, namespace }) => servicesOf([service], labels, namespace).length > 0,
  );
  const changed = new Map<string, string>();
  for (const { spec } of selected)
    for (const { port, leads, isHeadless } of serviceTargets(service, spec)) {
      const name = inboundPortName(spec);
      if (leads === 'bypass' && !isHeadless && name !== undefined) changed.set(port, name);
    }
  const ports = at(objectAt(service, 'spec'), 'ports');
  if (changed.size === 0 || !Array.isArray(ports)) return service;
  const named = ports.map((port: Json) => {
    const name = changed.get(stringAt(port, 'name') ?? String(numberAt(port, 'port')));
    return name === undefined || !isObject(port) ? port : { ...port, targetPort: name };
  });
  return { ...service, spec: { ...objectAt(service, 'spec'), ports: named } };
}
