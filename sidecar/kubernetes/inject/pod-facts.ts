/** Examines a pod before the injection: its ports, its grace period, and what conflicts with a sidecar. */
import type { PodWishes } from './annotations.ts';
import { at, type JsonObject, numberAt, objectAt, objectsAt, stringAt } from './json.ts';
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
/** Port names that exclude gRPC, as `appProtocol` and Istio use them: `http`, `https-admin`, `metrics`. */
const NOT_GRPC = /^(https?|http2?-?web|web|metrics|prometheus|prom|udp|dns|ws|wss)(-|$)/;

const WEB = /^(https?|web|ws|wss)(-|$)/;

/**
 * A pod only makes calls if it says so, or if it declares the port of a web server and no port that may be gRPC. A pod
 * that declares no ports, or only metrics, may still serve on the default port; and we do not know here what a config
 * map says about the app.
 */
function isOnlyCalling(
  wishes: PodWishes,
  appPort: number | undefined,
  names: readonly (string | undefined)[],
) {
  if (wishes.appPort === 'none') return true;
  if (appPort !== undefined || wishes.config !== undefined) return false;
  return names.some((name = '') => WEB.test(name) && !/metrics|prom/.test(name));
}

export function readFacts(spec: JsonObject, wishes: PodWishes): PodFacts {
  const containers = objectsAt(spec, 'containers');
  const wanted = wishes.appPort === 'none' ? undefined : wishes.appPort;
  const candidates = containers.flatMap((container) =>
    objectsAt(container, 'ports').map((port) => ({
      container: stringAt(container, 'name'),
      number: numberAt(port, 'containerPort'),
      name: stringAt(port, 'name'),
      protocol: stringAt(port, 'protocol') ?? 'TCP',
    })),
  );
  const found =
    wishes.appPort === 'none'
      ? undefined
      : candidates.find(
          ({ number, name, protocol }) =>
            number !== undefined &&
            protocol === 'TCP' &&
            (wanted === undefined ? !NOT_GRPC.test(name ?? '') : number === wanted),
        );
  const grace = numberAt(spec, 'terminationGracePeriodSeconds') ?? DEFAULT_GRACE_SECONDS;
  const appPort = found?.number ?? wanted;
  return {
    appPort,
    onlyCalls: isOnlyCalling(
      wishes,
      appPort,
      candidates.map(({ name }) => name),
    ),
    appContainer: found?.container ?? stringAt(containers[0], 'name'),
    appPortName: found?.name,
    graceSeconds: Math.max(0, Math.floor(grace)),
    ports: portsAt(wishes.portOffset),
    sharedResources: new Set(
      ['requests', 'limits'].flatMap((kind) => Object.keys(objectAt(objectAt(spec, 'resources'), kind))),
    ),
  };
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
export function clashes(spec: JsonObject, wishes: PodWishes, facts: PodFacts): string[] {
  const problems: string[] = [];
  const inits = objectsAt(spec, 'initContainers');
  const containers = objectsAt(spec, 'containers');
  const names: string[] = wishes.intercept ? [SIDECAR_NAME, INTERCEPT_NAME] : [SIDECAR_NAME];
  const ports = new Map(Object.entries(facts.ports).map(([name, port]) => [port as number, name]));
  for (const container of [...inits, ...containers]) {
    const name = stringAt(container, 'name') ?? '';
    if (names.includes(name))
      problems.push(
        `a container is named ${name} already; give it another name, for the sidecar needs this one`,
      );
    for (const port of objectsAt(container, 'ports')) {
      for (const key of ['containerPort', 'hostPort']) {
        const number = numberAt(port, key) ?? 0;
        if (ports.has(number))
          problems.push(
            `${key} ${number} of the container ${name} is the sidecar's ${ports.get(number)} port; choose another port`,
          );
      }
    }
    if (wishes.intercept && runsAsSidecarUser(container, spec))
      problems.push(
        `the container ${name} runs as user ${SIDECAR_USER}, whose traffic is not intercepted; choose another user`,
      );
  }
  if (facts.appPort !== undefined && ports.has(facts.appPort))
    problems.push(
      `the app's port ${facts.appPort} is the sidecar's ${ports.get(facts.appPort)} port; choose another port for the app`,
    );
  if (Object.values<string | undefined>(PORT_NAMES).includes(facts.appPortName))
    problems.push(
      `the app's port is named ${facts.appPortName}, as one of the sidecar's is; give it another name`,
    );
  for (const [kind, amounts] of Object.entries({ request: wishes.requests, limit: wishes.limits }))
    for (const resource of ['cpu', 'memory'] as const)
      if (amounts[resource] !== undefined && facts.sharedResources.has(resource))
        problems.push(
          `the annotation outrigger.dev/${resource}-${kind} is for pods without resources as a whole; leave it out, for the sidecar takes its part of the ${resource} in spec.resources`,
        );
  const volumes = new Set(objectsAt(spec, 'volumes').map((volume) => stringAt(volume, 'name')));
  for (const { name } of sidecarVolumes(wishes))
    if (volumes.has(name)) problems.push(`a volume is named ${name} already; give it another name`);
  if (wishes.tlsVolume !== undefined && !volumes.has(wishes.tlsVolume))
    problems.push(
      `the pod has no volume ${wishes.tlsVolume}, which the annotation outrigger.dev/tls-volume names; add it, or take outrigger.dev/tls-secret`,
    );
  const late = lateCertificates(spec, wishes);
  if (late !== undefined) problems.push(late);
  return [...new Set(problems)];
}

function runsAsSidecarUser(container: JsonObject, spec: JsonObject): boolean {
  const own = numberAt(objectAt(container, 'securityContext'), 'runAsUser');
  return (own ?? numberAt(objectAt(spec, 'securityContext'), 'runAsUser')) === SIDECAR_USER;
}
