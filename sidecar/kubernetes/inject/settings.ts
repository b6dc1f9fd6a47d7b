/** The settings of one injector for all of its pods. A pod's annotations add its own. */
export interface InjectSettings {
  /** The sidecar's image. */
  readonly image: string;
  /** The image of the init container that installs the redirection: it has nftables, which the sidecar's image lacks. */
  readonly interceptImage: string;
  /** A Kubernetes imagePullPolicy; undefined uses the cluster's default. */
  readonly pullPolicy: 'Always' | 'IfNotPresent' | 'Never' | undefined;
  /** The destination of the sidecars' traces (OTLP), unless the app configures its own. */
  readonly otlpEndpoint: string | undefined;
}

/** The ports of the sidecar in a pod. */
export interface Ports {
  readonly admin: number;
  readonly outbound: number;
  readonly llm: number;
  readonly mcp: number;
  readonly inbound: number;
  readonly metrics: number;
  readonly health: number;
}

export const PORTS = {
  admin: 15000,
  outbound: 15001,
  llm: 15002,
  mcp: 15003,
  inbound: 15006,
  metrics: 15020,
  health: 15021,
} as const satisfies Ports;

/** The smallest offset avoids the ports of a proxy such as Istio's (15000 to 15090); the largest keeps all ports valid. */
export const MIN_PORT_OFFSET = 100;
export const MAX_PORT_OFFSET = 65_535 - Math.max(...Object.values(PORTS));

/** The ports with this offset, for a pod in which another proxy uses the usual ones. */
export function portsAt(offset: number): Ports {
  const moved = Object.entries(PORTS).map(([name, port]) => [name, port + offset]);
  return Object.fromEntries(moved) as unknown as Ports;
}

/** The names of its ports; no other port has these names. */
export const PORT_NAMES = { metrics: 'outrigger-prom', health: 'outrigger-live' } as const;
/** The name of the container. */
export const SIDECAR_NAME = 'outrigger';
export const INTERCEPT_NAME = 'outrigger-intercept';
export const CONFIG_VOLUME = 'outrigger-config';
export const CONFIG_FOLDER = '/etc/outrigger';
/** The key that the config map must have. */
export const CONFIG_FILE = 'outrigger.yaml';
/**
 * The folder of the certificates, with cert-manager's file names: tls.crt, tls.key, ca.crt. docs/tls.md has these
 * paths.
 */
export const TLS_FOLDER = '/run/outrigger/tls';
export const TLS_VOLUME = 'outrigger-tls';
/** The folder of a token of the pod's service account, for the sidecar alone; every client looks here. */
export const TOKEN_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';
export const TOKEN_VOLUME = 'outrigger-token';
/** The user of the sidecar. The rules let this user's traffic pass, so no app may run as this user. */
export const SIDECAR_USER = 15000;
/** The user of the init container that installs the rules; it needs the network of the pod and nothing else. */
export const ROOT = 0;

/** The label that turns injection on (on a namespace or a pod) or off (on a pod). */
export const INJECT_LABEL = 'outrigger.dev/inject';
/** The annotation of injected pods, with the version of the injector. */
export const STATUS_ANNOTATION = 'outrigger.dev/injected';

/** Replaces the key in the app's environment, because only the sidecar has the key. Not a secret. */
export const PLACEHOLDER_KEY = 'held-by-outrigger';

export function defaultInjectSettings(version: string): InjectSettings {
  return {
    image: `outrigger:${version}`,
    interceptImage: `outrigger-intercept:${version}`,
    pullPolicy: undefined,
    otlpEndpoint: undefined,
  };
}
