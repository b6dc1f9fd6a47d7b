/** Reads the annotations with which a pod configures its sidecar. */
import { isAgentType } from '../../settings/kinds.ts';
import { isObject, type JsonObject, objectAt } from './json.ts';
import { shown } from './notes.ts';
import { MAX_PORT_OFFSET, MIN_PORT_OFFSET } from './settings.ts';

/** The settings of a pod's annotations. */
export interface PodAnnotations {
  /** `none` for a pod that serves no gRPC; undefined for the first container port. */
  readonly appPort: number | 'none' | undefined;
  /** The name of a config map. */
  readonly config: string | undefined;
  readonly logLevel: string | undefined;
  readonly requests: Resources;
  readonly limits: Resources;
  readonly intercept: boolean;
  /** The destination ports whose connections the rules redirect to the sidecar; undefined for the app's own port. */
  readonly interceptPorts: readonly number[] | undefined;
  /** The Secret that holds the sidecar's certificate. */
  readonly tlsSecret: string | undefined;
  /** The volume of the pod that holds it instead: one of a CSI driver, or one that a SPIFFE helper writes to. */
  readonly tlsVolume: string | undefined;
  /** Whether the sidecar reads endpoints from the Kubernetes API, for which it needs a token. */
  readonly endpointSlices: boolean;
  /** The offset of all ports of the sidecar. */
  readonly portOffset: number;
  /** The variables whose addresses lead through the sidecar; undefined for those of the usual names. */
  readonly outboundEnv: readonly string[] | undefined;
  /** The types of tasks that the sidecar takes from the bus; undefined where the configuration decides. */
  readonly agentTypes: readonly string[] | undefined;
}

interface Resources {
  readonly cpu: string | undefined;
  readonly memory: string | undefined;
}

const PREFIX = 'outrigger.dev/';
/** The annotations that are settings. We refuse other annotations with our prefix, because they are misspelled. */
const SETTINGS = [
  'app-port',
  'config',
  'log-level',
  'cpu-request',
  'memory-request',
  'cpu-limit',
  'memory-limit',
  'intercept',
  'intercept-ports',
  'tls-secret',
  'tls-volume',
  'endpoint-slices',
  'port-offset',
  'outbound-env',
  'agent-types',
] as const;
/** Our mark, and the label, which some write as an annotation. */
const OWN = ['injected', 'inject'];
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
/** A Kubernetes quantity without exponents: 100m, 0.5, 128Mi. */
const CPU = /^(\d{1,6}m|\d{1,3}(\.\d{1,3})?)$/;
const MEMORY = /^\d{1,15}(\.\d{1,3})?(Ki|Mi|Gi|k|M|G)?$/;
/** The name of a config map or a Secret (a DNS subdomain), and the name of a volume (a DNS label). */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const VOLUME_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const MAX_INTERCEPT_PORTS = 32;
/** Names of environment variables with commas between them; `none` is no name of ours. */
const VARIABLES = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}( *, *[A-Za-z_][A-Za-z0-9_.-]{0,127}){0,31}$/;
/** Agent types with commas between them, each of which the sidecar's configuration takes. */
const AGENT_TYPES = {
  test(list: string): boolean {
    const types = list.split(',').map((type) => type.trim());
    return types.length <= MAX_AGENT_TYPES && types.every(isAgentType);
  },
};
const MAX_AGENT_TYPES = 32;

/** Reads the annotations of a pod, or reports every problem with them. */
export function readAnnotations(
  metadata: JsonObject,
): { annotations: PodAnnotations } | { problems: string[] } {
  const written = objectAt(metadata, 'annotations');
  const problems: string[] = [];
  const raw = (name: (typeof SETTINGS)[number]): string | undefined => {
    const value = written[PREFIX + name];
    // Unquoted YAML values become numbers and booleans; Kubernetes refuses those, but inject need not.
    if (value === undefined || value === null || value === '' || Array.isArray(value) || isObject(value))
      return undefined;
    return String(value).trim();
  };
  const refuse = (name: string, takes: string): undefined => {
    const given = JSON.stringify(shown(String(written[PREFIX + name])));
    problems.push(`the annotation ${PREFIX}${name} takes ${takes}, not ${given}`);
    return undefined;
  };
  const text = (
    name: (typeof SETTINGS)[number],
    form: Pick<RegExp, 'test'>,
    takes: string,
  ): string | undefined => {
    const value = raw(name);
    return value === undefined || form.test(value) ? value : refuse(name, takes);
  };

  for (const key of Object.keys(written)) {
    const name = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : undefined;
    if (name !== undefined && !(SETTINGS as readonly string[]).includes(name) && !OWN.includes(name))
      problems.push(
        `the annotation ${shown(key)} is unknown; the known ones are ${SETTINGS.map((setting) => PREFIX + setting).join(', ')}`,
      );
  }
  const port = raw('app-port');
  const appPort =
    port === undefined || port === 'none'
      ? port
      : (portOf(port) ?? refuse('app-port', 'a port from 1 to 65535, or none'));
  const level = raw('log-level');
  if (level !== undefined && !LOG_LEVELS.includes(level)) refuse('log-level', LOG_LEVELS.join(', '));
  const flag = (name: (typeof SETTINGS)[number]): boolean => {
    const value = raw(name);
    if (value !== undefined && value !== 'true' && value !== 'false') refuse(name, '"true" or "false"');
    return value === 'true';
  };
  const offset = raw('port-offset') ?? '0';
  const isOffset = Number(offset) >= MIN_PORT_OFFSET && Number(offset) <= MAX_PORT_OFFSET;
  if (!/^\d{1,5}$/.test(offset) || (Number(offset) !== 0 && !isOffset))
    refuse('port-offset', `0, or a number from ${MIN_PORT_OFFSET} to ${MAX_PORT_OFFSET} such as 1000`);
  const listed = raw('intercept-ports')?.split(',').map(portOf);
  if (listed?.includes(undefined) || (listed?.length ?? 0) > MAX_INTERCEPT_PORTS)
    refuse('intercept-ports', `at most ${MAX_INTERCEPT_PORTS} ports with commas between them`);
  const variables = text('outbound-env', VARIABLES, 'names of variables with commas between them, or none');
  const agentTypes = text(
    'agent-types',
    AGENT_TYPES,
    'agent types such as research, with commas between them',
  );
  const cpu = 'an amount of CPU such as 100m';
  const memory = 'an amount of memory such as 128Mi';
  const annotations: PodAnnotations = {
    appPort,
    config: text('config', OBJECT_NAME, 'the name of a config map'),
    logLevel: level,
    requests: { cpu: text('cpu-request', CPU, cpu), memory: text('memory-request', MEMORY, memory) },
    limits: { cpu: text('cpu-limit', CPU, cpu), memory: text('memory-limit', MEMORY, memory) },
    intercept: flag('intercept'),
    interceptPorts: listed as number[] | undefined,
    tlsSecret: text('tls-secret', OBJECT_NAME, 'the name of a Secret'),
    tlsVolume: text('tls-volume', VOLUME_NAME, 'the name of a volume of the pod'),
    endpointSlices: flag('endpoint-slices'),
    portOffset: Number(offset),
    outboundEnv: variables === 'none' ? [] : variables?.split(',').map((name) => name.trim()),
    agentTypes: agentTypes?.split(',').map((type) => type.trim()),
  };
  if (annotations.tlsSecret !== undefined && annotations.tlsVolume !== undefined)
    problems.push(
      `the annotations ${PREFIX}tls-secret and ${PREFIX}tls-volume exclude each other; set only one of them`,
    );
  if (annotations.intercept && annotations.portOffset > 0)
    problems.push(
      `the annotations ${PREFIX}intercept and ${PREFIX}port-offset exclude each other: the proxy that uses the sidecar's default ports redirects the pod's connections itself; remove one of them`,
    );
  for (const resource of ['cpu', 'memory'] as const) {
    const given = annotations.limits[resource];
    if (given !== undefined && quantity(given) < quantity(LEAST_LIMITS[resource]))
      problems.push(
        `the annotation ${PREFIX}${resource}-limit (${given}) is too small for the sidecar to run in; give it ${LEAST_LIMITS[resource]} or more`,
      );
    const [request, limit] = [annotations.requests[resource], annotations.limits[resource]];
    if (request !== undefined && limit !== undefined && quantity(request) > quantity(limit))
      problems.push(
        `the annotation ${PREFIX}${resource}-request (${request}) is above ${PREFIX}${resource}-limit (${limit}), which Kubernetes refuses; lower the request`,
      );
  }
  return problems.length > 0 ? { problems } : { annotations };
}

/**
 * The smallest limits in which the sidecar starts, in time for its startup probe, and carries calls: docs/kubernetes.md
 * has its memory when idle.
 */
export const LEAST_LIMITS = { cpu: '50m', memory: '96Mi' } as const;

const UNITS: Readonly<Record<string, number>> = {
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Converts an amount of CPU or memory to a number, for comparisons. */
export function quantity(text: string): number {
  const [, number = '', unit = ''] = /^([\d.]+)(.*)$/.exec(text) ?? [];
  return Number(number) * (UNITS[unit] ?? 1);
}

function portOf(text: string): number | undefined {
  const trimmed = text.trim();
  const port = /^\d{1,5}$/.test(trimmed) ? Number(trimmed) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
}
