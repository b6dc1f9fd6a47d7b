/**
 * Where the ports of a Service lead in an injected pod: to the sidecar, or past it to the app. Pure, so that `inject`
 * and checks of a running cluster judge alike.
 */
import { at, isObject, type JsonObject, numberAt, objectAt, objectsAt, stringAt } from './json.ts';
import { SIDECAR_NAME } from './settings.ts';
import { inOneNamespace, namespaceOf, selects } from './surroundings.ts';

/** One port of a Service, for one pod. */
export interface ServiceTarget {
  /** The name of the Service's port, or its number. */
  readonly port: string;
  /** `targetPort` as it counts: a name, or a number. */
  readonly target: string | number;
  /** The port of the pod that it leads to; undefined where no container declares the name. */
  readonly number: number | undefined;
  /** `bypass`: to the app's own port, past the sidecar; `other`: to a port that is neither's. */
  readonly leads: 'sidecar' | 'bypass' | 'other';
  /** The Service has no address: callers find the pods by DNS, and dial the port that they know. */
  readonly isHeadless: boolean;
}

/** The Services that select a pod with these labels. */
export function servicesOf(
  services: readonly JsonObject[],
  labels: JsonObject,
  namespace: string | undefined,
): readonly JsonObject[] {
  return services.filter(
    (service) =>
      inOneNamespace(namespaceOf(service), namespace) &&
      selects(objectAt(objectAt(service, 'spec'), 'selector'), labels),
  );
}

/** @param spec the `spec` of an injected pod; in a pod without a sidecar nothing is bypassed */
export function serviceTargets(service: JsonObject, spec: JsonObject): readonly ServiceTarget[] {
  const sidecar = sidecarOf(spec);
  const inbound =
    sidecar === undefined ? undefined : numberAt(objectsAt(sidecar, 'ports')[0], 'containerPort');
  const app = sidecar === undefined ? undefined : appPortOf(sidecar);
  const isHeadless = at(objectAt(service, 'spec'), 'clusterIP') === 'None';
  return portsOf(service).map(({ port, target, written }) => {
    const dialled = numberAt(written, 'port');
    const number = isHeadless && dialled === app ? app : resolvePort(spec, target);
    const leads =
      number === undefined ? 'other' : number === inbound ? 'sidecar' : number === app ? 'bypass' : 'other';
    return { port, target, number, leads, isHeadless };
  });
}

/** The TCP ports of a Service, with their targets; without a `targetPort` the port itself. */
export function portsOf(
  service: JsonObject,
): readonly { readonly port: string; readonly target: string | number; readonly written: JsonObject }[] {
  return objectsAt(objectAt(service, 'spec'), 'ports').flatMap((written) => {
    const number = numberAt(written, 'port');
    if (number === undefined || (stringAt(written, 'protocol') ?? 'TCP') !== 'TCP') return [];
    const given = at(written, 'targetPort');
    const target =
      typeof given === 'string' && given !== ''
        ? given
        : typeof given === 'number' && given !== 0
          ? given
          : number;
    return [{ port: stringAt(written, 'name') ?? String(number), target, written }];
  });
}

/** The port that a target means in a pod. Kubernetes takes the first container with the name, native sidecars included. */
export function resolvePort(spec: JsonObject, target: string | number): number | undefined {
  if (typeof target === 'number') return target;
  // A number in quotes is a number to kubectl users, but a name to Kubernetes; no port can have such a name.
  const containers = [
    ...objectsAt(spec, 'containers'),
    ...objectsAt(spec, 'initContainers').filter((init) => at(init, 'restartPolicy') === 'Always'),
  ];
  for (const container of containers)
    for (const port of objectsAt(container, 'ports'))
      if (stringAt(port, 'name') === target) return numberAt(port, 'containerPort');
  return undefined;
}

/** The sidecar's container of a pod; undefined without one. */
export function sidecarOf(spec: JsonObject): JsonObject | undefined {
  return [...objectsAt(spec, 'initContainers'), ...objectsAt(spec, 'containers')].find(
    (container) => stringAt(container, 'name') === SIDECAR_NAME,
  );
}

/** The app's port that injection has written into the sidecar's environment. */
function appPortOf(sidecar: JsonObject): number | undefined {
  const variable = objectsAt(sidecar, 'env').find(({ name }) => name === 'OUTRIGGER_INBOUND_APP');
  const port = /:(\d{1,5})$/.exec(isObject(variable) ? (stringAt(variable, 'value') ?? '') : '')?.[1];
  return port === undefined ? undefined : Number(port);
}
