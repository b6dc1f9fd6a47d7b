import type { PodWishes } from './annotations.ts';
import { at, type JsonObject, numberAt, objectAt, objectsAt, stringAt } from './json.ts';
import { INTERCEPT_NAME, PORT_NAMES, type Ports, portsAt, SIDECAR_NAME, SIDECAR_USER } from './settings.ts';
import { lateCertificates, sidecarVolumes } from './sidecar-volumes.ts';

/** What has been found out about a pod before it is changed. */
export interface PodFacts {
  /** The gRPC port of the app; undefined for a pod that serves none. */
  readonly appPort: number | undefined;
  /** Nothing in the pod serves gRPC, so that its sidecar probes no app. */
  readonly onlyCalls: boolean;
  /** The name of the app's container, undefined when there are no containers with names. */
  readonly appContainer: string | undefined;
  /** The name that the app's port has, which the sidecar's port takes over. */
  readonly appPortName: string | undefined;
  /** The seconds that the pod has to end. */
  readonly graceSeconds: number;
  /** Where the sidecar listens. */
  readonly ports: Ports;
  /** The resources that the pod has as a whole (`spec.resources`), of which the sidecar takes what it needs. */
  readonly sharedResources: ReadonlySet<string>;
}

const OS_LABEL = 'kubernetes.io/os';
/** Kubernetes' default for `terminationGracePeriodSeconds`. */
const DEFAULT_GRACE_SECONDS = 30;
/** Names of ports that are plainly not gRPC, as `appProtocol` and Istio use them: `http`, `https-admin`, `metrics`. */
const NOT_GRPC = /^(https?|http2?-?web|web|metrics|prometheus|prom|udp|dns|ws|wss)(-|$)/;

const WEB = /^(https?|web|ws|wss)(-|$)/;

/**
 * A pod that only calls: it says so, or it declares the port of a web server and none that may be gRPC. A pod that declares
 * nothing, or metrics alone, may still serve at the default port, and what a config map says of the app is not known here.
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

/** Why a pod has nothing to gain or everything to lose from a sidecar; undefined when it can have one. */
export function cannotHaveSidecar(spec: JsonObject, metadata: JsonObject): string | undefined {
  if (objectsAt(spec, 'containers').length === 0) return 'it has no containers';
  if (at(spec, 'hostNetwork') === true) return 'it uses the network of its node (hostNetwork)';
  const os = stringAt(objectAt(spec, 'os'), 'name') ?? stringAt(objectAt(spec, 'nodeSelector'), OS_LABEL);
  if (os === 'windows') return 'it runs on Windows';
  if (Object.hasOwn(objectAt(metadata, 'annotations'), 'kubernetes.io/config.mirror'))
    return 'it is the mirror of a static pod';
  return undefined;
}

/** Whether a sidecar is there that somebody put in by hand, or that an earlier injection did. */
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

/** Everything of the pod's that a sidecar would collide with. */
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
