/** Examines a pod before the injection: its ports, its grace period, and what conflicts with a sidecar. */
import { LEAST_LIMITS, type PodAnnotations, quantity } from './annotations.ts';
import { findAppPort } from './app-port.ts';
import { at, type JsonObject, numberAt, objectAt, objectsAt, stringAt } from './json.ts';
import type { Note } from './notes.ts';
import { INTERCEPT_NAME, PORT_NAMES, type Ports, portsAt, SIDECAR_NAME, SIDECAR_USER } from './settings.ts';
import { lateCertificates, sidecarVolumes } from './sidecar-volumes.ts';

/** The facts about a pod before it is changed. */
export interface PodFacts {
  /** The gRPC port of the app; undefined for a pod that serves no gRPC. */
  readonly appPort: number | undefined;
  /** Whether the pod only makes calls, so that its sidecar probes no app. */
  readonly onlyCalls: boolean;
  /** The name of the app's container; undefined if no container has a name. */
  readonly appContainer: string | undefined;
  /** The name of the app's port, which the sidecar's port takes over. */
  readonly appPortName: string | undefined;
  /** What told that this is the app's port. */
  readonly appPortEvidence: string;
  /** The pod's grace period in seconds. */
  readonly graceSeconds: number;
  /** The ports of the sidecar. */
  readonly ports: Ports;
  /** The resources of the pod as a whole (`spec.resources`), which the sidecar shares. */
  readonly sharedResources: ReadonlySet<string>;
}

const OS_LABEL = 'kubernetes.io/os';
/** Kubernetes' default for `terminationGracePeriodSeconds`. */
const DEFAULT_GRACE_SECONDS = 30;
export function readFacts(
  spec: JsonObject,
  annotations: PodAnnotations,
  services: readonly JsonObject[],
): { facts: PodFacts; notes: readonly Note[] } {
  const { port, onlyCalls, notes } = findAppPort(spec, annotations, services);
  const grace = numberAt(spec, 'terminationGracePeriodSeconds') ?? DEFAULT_GRACE_SECONDS;
  const facts = {
    appPort: port?.number,
    onlyCalls,
    appContainer: port?.container ?? stringAt(objectsAt(spec, 'containers')[0], 'name'),
    appPortName: port?.name,
    appPortEvidence: port?.evidence ?? '',
    graceSeconds: Math.max(0, Math.floor(grace)),
    ports: portsAt(annotations.portOffset),
    sharedResources: new Set(
      ['requests', 'limits'].flatMap((kind) => Object.keys(objectAt(objectAt(spec, 'resources'), kind))),
    ),
  };
  return { facts, notes };
}

/** Why a sidecar would not help a pod or would break it; undefined when the pod can have one. */
export function cannotHaveSidecar(spec: JsonObject, metadata: JsonObject): string | undefined {
  if (objectsAt(spec, 'containers').length === 0) return 'it has no containers';
  if (at(spec, 'hostNetwork') === true) return 'it uses the network of its node (hostNetwork)';
  const os = stringAt(objectAt(spec, 'os'), 'name') ?? stringAt(objectAt(spec, 'nodeSelector'), OS_LABEL);
  if (os === 'windows') return 'it runs on Windows';
  if (Object.hasOwn(objectAt(metadata, 'annotations'), 'kubernetes.io/config.mirror'))
    return 'it is the mirror of a static pod';
  return undefined;
}

/** Whether the pod already has a sidecar, added by hand or by an earlier injection. */
export function hasSidecar(spec: JsonObject): boolean {
  return [...objectsAt(spec, 'initContainers'), ...objectsAt(spec, 'containers')].some(
    (container) =>
      stringAt(container, 'name') === SIDECAR_NAME &&
      (at(container, 'restartPolicy') === 'Always' || looksLikeOurs(container)),
  );
}

function looksLikeOurs(container: JsonObject): boolean {
  const [repository] = (stringAt(container, 'image') ?? '').split('/').at(-1)!.split(/[:@]/);
  return repository === SIDECAR_NAME;
}

/** Every conflict between the pod and a sidecar. */
export function clashes(spec: JsonObject, annotations: PodAnnotations, facts: PodFacts): string[] {
  const problems: string[] = [];
  const inits = objectsAt(spec, 'initContainers');
  const containers = objectsAt(spec, 'containers');
  const names: string[] = annotations.intercept ? [SIDECAR_NAME, INTERCEPT_NAME] : [SIDECAR_NAME];
  const ports = new Map(Object.entries(facts.ports).map(([name, port]) => [port as number, name]));
  // Only a configuration names tool servers, and without one nothing listens there.
  if (annotations.config === undefined) ports.delete(facts.ports.mcp);
  for (const container of [...inits, ...containers]) {
    const name = stringAt(container, 'name') ?? '';
    if (names.includes(name))
      problems.push(
        `a container of the pod has the name ${name}, which the sidecar needs; rename the container`,
      );
    for (const port of objectsAt(container, 'ports')) {
      const portName = stringAt(port, 'name');
      if (Object.values<string | undefined>(PORT_NAMES).includes(portName))
        problems.push(
          `a port of the container ${name} has the name ${portName}, which a port of the sidecar needs; rename it`,
        );
      for (const key of ['containerPort', 'hostPort']) {
        const number = numberAt(port, key) ?? 0;
        if (ports.has(number))
          problems.push(
            `${key} ${number} of the container ${name} is the sidecar's ${ports.get(number)} port; choose another port`,
          );
      }
    }
    if (annotations.intercept && runsAsSidecarUser(container, spec))
      problems.push(
        `the container ${name} runs as user ${SIDECAR_USER}, whose connections the rules do not redirect; choose another user`,
      );
  }
  if (facts.appPort !== undefined && ports.has(facts.appPort))
    problems.push(
      `the app's port ${facts.appPort} is the sidecar's ${ports.get(facts.appPort)} port; choose another port for the app`,
    );
  for (const [kind, amounts] of Object.entries({ request: annotations.requests, limit: annotations.limits }))
    for (const resource of ['cpu', 'memory'] as const)
      if (amounts[resource] !== undefined && facts.sharedResources.has(resource))
        problems.push(
          `the annotation outrigger.dev/${resource}-${kind} has no effect in a pod with spec.resources, whose ${resource} the sidecar shares; remove the annotation`,
        );
  for (const resource of ['cpu', 'memory'] as const) {
    const whole = String(at(objectAt(objectAt(spec, 'resources'), 'limits'), resource) ?? '');
    // Amounts with exponents are rare, and left to Kubernetes.
    if (
      /^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$/.test(whole) &&
      quantity(whole) < quantity(LEAST_LIMITS[resource])
    )
      problems.push(
        `spec.resources.limits.${resource} (${whole}) is too small for the sidecar, which shares it; give the pod ${LEAST_LIMITS[resource]} more than its app needs`,
      );
  }
  const volumes = new Set(objectsAt(spec, 'volumes').map((volume) => stringAt(volume, 'name')));
  for (const { name } of sidecarVolumes(annotations))
    if (volumes.has(name))
      problems.push(`a volume of the pod has the name ${name}, which the sidecar needs; rename the volume`);
  if (annotations.tlsVolume !== undefined && !volumes.has(annotations.tlsVolume))
    problems.push(
      `the pod has no volume ${annotations.tlsVolume}, which the annotation outrigger.dev/tls-volume names; add the volume, or use outrigger.dev/tls-secret`,
    );
  const late = lateCertificates(spec, annotations);
  if (late !== undefined) problems.push(late);
  return [...new Set(problems)];
}

function runsAsSidecarUser(container: JsonObject, spec: JsonObject): boolean {
  const own = numberAt(objectAt(container, 'securityContext'), 'runAsUser');
  return (own ?? numberAt(objectAt(spec, 'securityContext'), 'runAsUser')) === SIDECAR_USER;
}
