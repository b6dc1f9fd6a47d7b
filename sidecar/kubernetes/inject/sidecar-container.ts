import { type PodWishes, quantity } from './annotations.ts';
import type { LlmMove } from './app-environment.ts';
import { drainTimes } from './drain-times.ts';
import { INTERCEPTING_LISTENERS } from './intercept.ts';
import type { JsonObject } from './json.ts';
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
 * What a sidecar idles at and what it takes under load; docs/kubernetes.md has the measurements. There is no CPU limit
 * unless it is asked for: being throttled is a pause in every call of the pod.
 */
const DEFAULTS = { cpuRequest: '100m', memoryRequest: '128Mi', memoryLimit: '512Mi' };

export interface SidecarSource {
  readonly settings: InjectSettings;
  readonly wishes: PodWishes;
  readonly facts: PodFacts;
  /** The name in metrics, traces and HealthCheck. */
  readonly name: string | undefined;
  /** What of the app's environment the sidecar has to know. */
  readonly llm: LlmMove;
  /** OTEL_… variables of the app, which the sidecar shares. */
  readonly otel: readonly JsonObject[];
}

/** The sidecar as a native sidecar: an init container that stays (Kubernetes 1.29 and later). */
export function sidecarContainer(source: SidecarSource): JsonObject {
  const { settings, wishes, facts } = source;
  const { ports } = facts;
  const serves = facts.appPort !== undefined;
  const mounts = sidecarMounts(wishes);
  return {
    name: SIDECAR_NAME,
    image: settings.image,
    ...(settings.pullPolicy === undefined ? {} : { imagePullPolicy: settings.pullPolicy }),
    restartPolicy: 'Always',
    args: wishes.config === undefined ? ['run'] : ['run', '--config', `${CONFIG_FOLDER}/${CONFIG_FILE}`],
    env: environment(source),
    ports: [
      {
        // The name of the app's port, so that a Service that asks for the port by name gets the sidecar.
        name: serves ? (facts.appPortName ?? 'grpc-outrigger') : 'grpc-outrigger',
        containerPort: ports.inbound,
        protocol: 'TCP',
      },
      { name: PORT_NAMES.metrics, containerPort: ports.metrics, protocol: 'TCP' },
      { name: PORT_NAMES.health, containerPort: ports.health, protocol: 'TCP' },
    ],
    // The app starts when this has succeeded.
    startupProbe: {
      ...probe('/healthz/live', ports.health),
      periodSeconds: 1,
      failureThreshold: 60,
      timeoutSeconds: 2,
    },
    // Ready means that the app is; a pod that serves nothing is ready with its sidecar.
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
    // Runs when the pod begins to end, beside the app's hook; SIGTERM comes when the app has ended.
    lifecycle: {
      preStop: {
        exec: {
          command: [
            'outrigger',
            'drain',
            ...(wishes.config === undefined ? [] : ['--config', `${CONFIG_FOLDER}/${CONFIG_FILE}`]),
          ],
        },
      },
    },
    resources: resources(wishes, facts.sharedResources),
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

function environment({ settings, wishes, facts, name, llm, otel }: SidecarSource): JsonObject[] {
  const { delay, timeout } = drainTimes(facts.graceSeconds);
  const own: JsonObject[] = [
    // First, because `$(NAME)` refers to what stands before it.
    ...llm.environment,
    { name: 'POD_NAME', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } },
    { name: 'POD_NAMESPACE', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } } },
    // Whose label is the zone that endpoints are preferred in.
    { name: 'NODE_NAME', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'spec.nodeName' } } },
    ...(wishes.portOffset === 0 ? [] : listenAddresses(facts.ports)),
    ...(wishes.intercept ? INTERCEPTING_LISTENERS : []),
  ];
  // What a config map says stays, except where the pod knows better: its port, its time to end, its log level.
  if (name !== undefined) own.push({ name: 'OUTRIGGER_NAME', value: name });
  if (facts.appPort !== undefined)
    own.push({ name: 'OUTRIGGER_INBOUND_APP', value: `127.0.0.1:${facts.appPort}` });
  else if (facts.onlyCalls) own.push({ name: 'OUTRIGGER_INBOUND_APP', value: 'none' });
  own.push({ name: 'OUTRIGGER_DRAIN_DELAY', value: `${delay}s` });
  own.push({ name: 'OUTRIGGER_DRAIN_TIMEOUT', value: `${timeout}s` });
  if (wishes.logLevel !== undefined) own.push({ name: 'OUTRIGGER_LOG_LEVEL', value: wishes.logLevel });
  if (wishes.config === undefined && llm.upstreams !== undefined)
    own.push({ name: 'OUTRIGGER_LLM_UPSTREAMS', value: llm.upstreams });
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

/** What the configuration has by default, on the ports that the pod has for it. */
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
 * Defaults are for what the pod has not got as a whole: of that a container's part may not be more than there is, and
 * Kubernetes would refuse the pod.
 */
function resources({ requests, limits }: PodWishes, shared: ReadonlySet<string>): JsonObject {
  const { cpuRequest, memoryRequest, memoryLimit } = DEFAULTS;
  const cpu = requests.cpu ?? limits.cpu ?? (shared.has('cpu') ? undefined : cpuRequest);
  const memory = requests.memory ?? limits.memory ?? (shared.has('memory') ? undefined : memoryRequest);
  const ownLimit = quantity(memory ?? '0') > quantity(memoryLimit) ? memory : memoryLimit;
  const mostMemory = limits.memory ?? (shared.has('memory') ? undefined : ownLimit);
  return { requests: given({ cpu, memory }), limits: given({ cpu: limits.cpu, memory: mostMemory }) };
}

function given(amounts: Readonly<Record<string, string | undefined>>): JsonObject {
  return Object.fromEntries(
    Object.entries(amounts).flatMap(([name, amount]) => (amount === undefined ? [] : [[name, amount]])),
  );
}
