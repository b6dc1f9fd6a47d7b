/**
 * Finds the port on which the app of a pod serves gRPC: by what the manifests say of it, and never by a guess. A port
 * that may be gRPC or HTTP stays as it is, with a doubt.
 */
import type { PodAnnotations } from './annotations.ts';
import { at, type JsonObject, numberAt, objectAt, objectsAt, stringAt } from './json.ts';
import { doubt, left, type Note, shown } from './notes.ts';
import { portsOf, resolvePort } from './service-target.ts';

/** The app's port, and the container that declares it. */
interface AppPort {
  readonly number: number;
  readonly container: string | undefined;
  readonly name: string | undefined;
  /** What told that it serves gRPC. */
  readonly evidence: string;
}

export interface FoundPort {
  /** Undefined for a pod that serves no gRPC, or that leaves it in doubt. */
  readonly port: AppPort | undefined;
  /** The sidecar has no app: the pod only makes calls. */
  readonly onlyCalls: boolean;
  readonly notes: readonly Note[];
}

interface Candidate {
  readonly container: string | undefined;
  readonly number: number;
  readonly name: string | undefined;
}

type Protocol = { readonly is: 'grpc' | 'other'; readonly evidence: string } | undefined;

/** The port of gRPC's own examples, which nothing else uses by custom. */
const CUSTOMARY_PORT = 50_051;
const GRPC_NAME = /(^|-)(grpc|grpcs|h2c)(-(?!web)|$)/;
/** Words that name another protocol than gRPC, at the start or at the end of a port's name. */
const OTHER_WORDS =
  'https?|http2|web|www|ui|api|rest|graphql|admin|console|dashboard|management|mgmt|actuator|metrics|prometheus|prom|' +
  'monitoring|health|healthz|healthcheck|probe|status|debug|pprof|profiling|udp|dns|ws|wss|websocket|webhook|webhooks|' +
  'frontend|static|redis|mysql|mariadb|postgres|postgresql|pg|mongo|mongodb|amqp|kafka|nats|mqtt|smtp|ssh|ldap|sql|db|jmx|grpc-web';
const OTHER_NAME = new RegExp(`^(?:${OTHER_WORDS})(?:-|\\d|$)|-(?:${OTHER_WORDS})\\d*$`);
const PROBES = ['startupProbe', 'readinessProbe', 'livenessProbe'] as const;
const ANNOTATION = 'outrigger.dev/app-port';

export function findAppPort(
  spec: JsonObject,
  annotations: PodAnnotations,
  services: readonly JsonObject[],
): FoundPort {
  const candidates = candidatesIn(spec);
  if (annotations.appPort === 'none') return { port: undefined, onlyCalls: true, notes: [] };
  if (annotations.appPort !== undefined) {
    const number = annotations.appPort;
    const declared = candidates.find((each) => each.number === number);
    const port = {
      container: undefined,
      name: undefined,
      ...declared,
      number,
      evidence: `the annotation ${ANNOTATION}`,
    };
    return { port, onlyCalls: false, notes: [] };
  }
  const judged = candidates.map((candidate) => ({
    candidate,
    protocol: protocolOf(candidate, spec, services),
  }));
  const serving = judged.filter(({ protocol }) => protocol?.is === 'grpc');
  const [first, ...more] = serving;
  if (first !== undefined) {
    const port = { ...first.candidate, evidence: first.protocol!.evidence };
    if (more.length === 0) return { port, onlyCalls: false, notes: [] };
    const others = list(more.map(({ candidate }) => candidate));
    const text = `${others} also looks like gRPC; the sidecar serves ${named(port)} alone, and callers of other ports bypass it; to choose another, set ${ANNOTATION}`;
    return { port, onlyCalls: false, notes: [doubt(text)] };
  }
  return withoutPort(judged, annotations);
}

/** No port is known to be gRPC. */
function withoutPort(
  judged: readonly { readonly candidate: Candidate; readonly protocol: Protocol }[],
  { config }: PodAnnotations,
): FoundPort {
  const unknown = judged.filter(({ protocol }) => protocol === undefined).map(({ candidate }) => candidate);
  const choose = (example: string) =>
    `if the app serves gRPC, set the annotation ${ANNOTATION}: "${example}"`;
  if (unknown.length > 0) {
    const ports = list(unknown);
    const text = `nothing tells whether ${ports} is gRPC, so the sidecar leaves it alone and carries only the calls that the pod makes; ${choose(String(unknown[0]!.number))}, otherwise "none"`;
    return { port: undefined, onlyCalls: config === undefined, notes: [doubt(text)] };
  }
  const isMetrics = ({ name = '' }: Candidate): boolean => /metrics|prom|monitoring/.test(name);
  const others = judged.filter(({ candidate }) => !isMetrics(candidate));
  if (others.length === 0) {
    const what = judged.length === 0 ? 'no port' : 'only a port for metrics';
    const text = `the pod declares ${what}; the sidecar passes calls to 127.0.0.1:${CUSTOMARY_PORT}, where an app may listen all the same; ${choose('PORT')}, otherwise "none"`;
    return { port: undefined, onlyCalls: false, notes: config === undefined ? [doubt(text)] : [] };
  }
  const notes = others.map(({ candidate, protocol }) =>
    left(`${named(candidate)}: not gRPC, by ${protocol!.evidence}; it is reached without the sidecar`),
  );
  return { port: undefined, onlyCalls: config === undefined, notes };
}

/** What the manifests say of a port: gRPC's own signs first, then those of other protocols. */
function protocolOf(
  { container, number, name = '' }: Candidate,
  spec: JsonObject,
  services: readonly JsonObject[],
): Protocol {
  const probes = objectsAt(spec, 'containers').flatMap((each) =>
    PROBES.map((key) => ({ key, own: stringAt(each, 'name') === container, probe: objectAt(each, key) })),
  );
  const grpcProbe = probes.find(({ probe }) => numberAt(objectAt(probe, 'grpc'), 'port') === number);
  if (grpcProbe !== undefined) return { is: 'grpc', evidence: `its ${grpcProbe.key}` };
  const offered = services.flatMap((service) =>
    portsOf(service)
      .filter(({ target }) => resolvePort(spec, target) === number)
      .map((port) => ({ ...port, service: stringAt(objectAt(service, 'metadata'), 'name') ?? '' })),
  );
  for (const { service, written } of offered) {
    const is = ofAppProtocol(stringAt(written, 'appProtocol'));
    if (is !== undefined) return { is, evidence: `appProtocol of the Service ${shown(service)}` };
  }
  if (GRPC_NAME.test(name)) return { is: 'grpc', evidence: 'its name' };
  const httpProbe = probes.find(({ own, probe }) => {
    const port = at(objectAt(probe, 'httpGet'), 'port');
    return port === number || (own && name !== '' && port === name);
  });
  if (httpProbe !== undefined) return { is: 'other', evidence: `the httpGet of its ${httpProbe.key}` };
  if (OTHER_NAME.test(name)) return { is: 'other', evidence: 'its name' };
  for (const { service, port } of offered) {
    const is = GRPC_NAME.test(port) ? 'grpc' : OTHER_NAME.test(port) ? 'other' : undefined;
    if (is !== undefined) return { is, evidence: `the name of its port in the Service ${shown(service)}` };
  }
  return number === CUSTOMARY_PORT ? { is: 'grpc', evidence: "its number, gRPC's customary one" } : undefined;
}

/** `Service.spec.ports[].appProtocol`: names of IANA, Kubernetes' own, and Istio's. */
function ofAppProtocol(protocol: string | undefined): 'grpc' | 'other' | undefined {
  if (protocol === undefined || protocol === 'tcp') return undefined;
  if (/^(grpc|h2c|kubernetes\.io\/h2c)$/i.test(protocol)) return 'grpc';
  // HTTP/2 may carry either.
  return /^http2$/i.test(protocol) ? undefined : 'other';
}

function candidatesIn(spec: JsonObject): Candidate[] {
  return objectsAt(spec, 'containers').flatMap((container) =>
    objectsAt(container, 'ports').flatMap((port) => {
      const number = numberAt(port, 'containerPort');
      if (number === undefined || (stringAt(port, 'protocol') ?? 'TCP') !== 'TCP') return [];
      return [{ container: stringAt(container, 'name'), number, name: stringAt(port, 'name') }];
    }),
  );
}

function named({ number, name }: { readonly number: number; readonly name?: string | undefined }): string {
  return name === undefined ? `port ${number}` : `port ${number} (${shown(name)})`;
}

function list(candidates: readonly Candidate[]): string {
  return candidates.map(named).join(' and ');
}
