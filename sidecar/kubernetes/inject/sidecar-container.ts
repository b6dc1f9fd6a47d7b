/** Builds the sidecar's container. */
import { type PodAnnotations, quantity } from './annotations.ts';
import type { Target } from './app-addresses.ts';
import { drainTimes } from './drain-times.ts';
import { INTERCEPTING_LISTENERS } from './intercept.ts';
import type { JsonObject } from './json.ts';
import type { LlmMove } from './model-access.ts';
import type { PodFacts } from './pod-facts.ts';
import {
  CONFIG_FILE,
  CONFIG_FOLDER,
  type InjectSettings,
  PORT_NAMES,
  type Ports,
  SIDECAR_NAME,
  SIDECAR_USER,
} from './settings.ts';
import { sidecarMounts } from './sidecar-volumes.ts';

/**
 * The sidecar's usage when idle and under load; docs/kubernetes.md has the measurements. It has no CPU limit unless the
 * pod requests one: throttling would pause every call of the pod.
 */
const DEFAULTS = { cpuRequest: '100m', memoryRequest: '128Mi', memoryLimit: '512Mi' };

export interface SidecarSource {
  readonly settings: InjectSettings;
  readonly annotations: PodAnnotations;
  readonly facts: PodFacts;
  /** The name in metrics, traces and HealthCheck. */
  readonly name: string | undefined;
  /** The parts of the app's environment for the sidecar. */
  readonly llm: LlmMove;
  /** OTEL_… variables of the app, which the sidecar also gets. */
  readonly otel: readonly JsonObject[];
  /** The local ports in place of the addresses that the app calls. */
  readonly targets: readonly Target[];
}

/** The sidecar as a native sidecar: an init container that keeps running (Kubernetes 1.29 and later). */
export function sidecarContainer(source: SidecarSource): JsonObject {
  const { settings, annotations, facts } = source;
  const { ports } = facts;
  const serves = facts.appPort !== undefined;
  const mounts = sidecarMounts(annotations);
  return {
    name: SIDECAR_NAME,
    image: settings.image,
    ...(settings.pullPolicy === undefined ? {} : { imagePullPolicy: settings.pullPolicy }),
    restartPolicy: 'Always',
    args: annotations.config === undefined ? ['run'] : ['run', '--config', `${CONFIG_FOLDER}/${CONFIG_FILE}`],
    env: environment(source),
    ports: [
      {
        // The name of the app's port, so that a Service that targets the port by name reaches the sidecar.
        name: serves ? (facts.appPortName ?? 'grpc-outrigger') : 'grpc-outrigger',
        containerPort: ports.inbound,
        protocol: 'TCP',
      },
      { name: PORT_NAMES.metrics, containerPort: ports.metrics, protocol: 'TCP' },
      { name: PORT_NAMES.health, containerPort: ports.health, protocol: 'TCP' },
    ],
    // The app starts after this probe has succeeded.
    startupProbe: {
      ...probe('/healthz/live', ports.health),
      periodSeconds: 1,
      failureThreshold: 60,
      timeoutSeconds: 2,
    },
    // The sidecar is ready when the app is; in a pod that serves nothing, when the sidecar is.
    readinessProbe: {
      ...probe(serves ? '/healthz/ready' : '/healthz/live', ports.health),
      periodSeconds: 2,
      failureThreshold: 3,
      timeoutSeconds: 2,
    },
    livenessProbe: {
      ...probe('/healthz/live', ports.health),
      periodSeconds: 10,
      failureThreshold: 6,
      timeoutSeconds: 5,
    },
    // Runs when the pod begins to end, together with the app's hook; SIGTERM arrives when the app has ended.
    lifecycle: {
      preStop: {
        exec: {
          command: [
            'outrigger',
            'drain',
            ...(annotations.config === undefined ? [] : ['--config', `${CONFIG_FOLDER}/${CONFIG_FILE}`]),
          ],
        },
      },
    },
    resources: resources(annotations, facts.sharedResources),
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: SIDECAR_USER,
      runAsNonRoot: true,
      runAsUser: SIDECAR_USER,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    ...(mounts.length === 0 ? {} : { volumeMounts: mounts }),
  };
}

function environment({
  settings,
  annotations,
  facts,
  name,
  llm,
  otel,
  targets,
}: SidecarSource): JsonObject[] {
  const { delay, timeout } = drainTimes(facts.graceSeconds);
  const own: JsonObject[] = [
    // First, because `$(NAME)` refers to earlier variables.
    ...llm.environment,
    { name: 'POD_NAME', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } },
    { name: 'POD_NAMESPACE', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } } },
    // The sidecar prefers endpoints in the zone of this node's label.
    { name: 'NODE_NAME', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'spec.nodeName' } } },
    ...(annotations.portOffset === 0 ? [] : listenAddresses(facts.ports)),
    ...(annotations.intercept ? INTERCEPTING_LISTENERS : []),
  ];
  // The config map's values stay, except those that the pod determines: its port, its grace period, its log level.
  if (name !== undefined) own.push({ name: 'OUTRIGGER_NAME', value: name });
  if (facts.appPort !== undefined)
    own.push({ name: 'OUTRIGGER_INBOUND_APP', value: `127.0.0.1:${facts.appPort}` });
  else if (facts.onlyCalls) own.push({ name: 'OUTRIGGER_INBOUND_APP', value: 'none' });
  own.push({ name: 'OUTRIGGER_DRAIN_DELAY', value: `${delay}s` });
  own.push({ name: 'OUTRIGGER_DRAIN_TIMEOUT', value: `${timeout}s` });
  if (annotations.logLevel !== undefined)
    own.push({ name: 'OUTRIGGER_LOG_LEVEL', value: annotations.logLevel });
  // JSON is YAML, the form of a list in a variable.
  if (annotations.agentTypes !== undefined)
    own.push({
      name: 'OUTRIGGER_BUS_CONSUME_AGENT_TYPES',
      value: JSON.stringify(annotations.agentTypes),
    });
  if (annotations.config === undefined && llm.upstreams !== undefined)
    own.push({ name: 'OUTRIGGER_LLM_UPSTREAMS', value: llm.upstreams });
  if (targets.length > 0) own.push({ name: 'OUTRIGGER_OUTBOUND_TARGETS', value: JSON.stringify(targets) });
  const traces: JsonObject[] = [...otel];
  if (settings.otlpEndpoint !== undefined && !names(otel).has('OTEL_EXPORTER_OTLP_ENDPOINT'))
    traces.push({ name: 'OTEL_EXPORTER_OTLP_ENDPOINT', value: settings.otlpEndpoint });
  if (!names(otel).has('OTEL_RESOURCE_ATTRIBUTES'))
    traces.push({
      name: 'OTEL_RESOURCE_ATTRIBUTES',
      value: 'k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE)',
    });
  return [...own, ...traces];
}

function names(variables: readonly JsonObject[]): Set<unknown> {
  return new Set(variables.map((variable) => variable['name']));
}

/** The default addresses, on this pod's ports. */
function listenAddresses(ports: Ports): JsonObject[] {
  const outside: readonly (keyof Ports)[] = ['inbound', 'metrics', 'health'];
  return (Object.keys(ports) as (keyof Ports)[]).map((listener) => ({
    name: `OUTRIGGER_${listener.toUpperCase()}_LISTEN`,
    value: `${outside.includes(listener) ? '0.0.0.0' : '127.0.0.1'}:${ports[listener]}`,
  }));
}

function probe(path: string, port: number): JsonObject {
  return { httpGet: { path, port, scheme: 'HTTP' } };
}

/**
 * The defaults apply to resources that the pod as a whole does not limit: a container's part may not exceed the pod's,
 * or Kubernetes refuses the pod.
 */
function resources({ requests, limits }: PodAnnotations, shared: ReadonlySet<string>): JsonObject {
  const { cpuRequest, memoryRequest, memoryLimit } = DEFAULTS;
  // A limit lowers the default request and never raises it: the node reserves what is requested.
  const byDefault = (amount: string, limit: string | undefined): string =>
    limit !== undefined && quantity(limit) < quantity(amount) ? limit : amount;
  const cpu = requests.cpu ?? (shared.has('cpu') ? undefined : byDefault(cpuRequest, limits.cpu));
  const memory =
    requests.memory ?? (shared.has('memory') ? undefined : byDefault(memoryRequest, limits.memory));
  const ownLimit = quantity(memory ?? '0') > quantity(memoryLimit) ? memory : memoryLimit;
  const mostMemory = limits.memory ?? (shared.has('memory') ? undefined : ownLimit);
  return { requests: given({ cpu, memory }), limits: given({ cpu: limits.cpu, memory: mostMemory }) };
}

function given(amounts: Readonly<Record<string, string | undefined>>): JsonObject {
  return Object.fromEntries(
    Object.entries(amounts).flatMap(([name, amount]) => (amount === undefined ? [] : [[name, amount]])),
  );
}
