/** What holds for every pod that one injector touches. A pod's own wishes are its annotations. */
export interface InjectSettings {
  /** The sidecar's image. */
  readonly image: string;
  /** The image of the step that redirects traffic: it has nftables, which the sidecar's own has not. */
  readonly interceptImage: string;
  /** A Kubernetes imagePullPolicy; undefined leaves it to the cluster. */
  readonly pullPolicy: 'Always' | 'IfNotPresent' | 'Never' | undefined;
  /** Where sidecars send traces (OTLP), unless the app says where its own go. */
  readonly otlpEndpoint: string | undefined;
}

/** The ports of the sidecar in a pod. */
export interface Ports {
  readonly admin: number;
  readonly outbound: number;
  readonly llm: number;
  readonly inbound: number;
  readonly metrics: number;
  readonly health: number;
}

export const PORTS = {
  admin: 15000,
  outbound: 15001,
  llm: 15002,
  inbound: 15006,
  metrics: 15020,
  health: 15021,
} as const satisfies Ports;

/** So far must they be moved, to be clear of those that a proxy like Istio's has (15000 to 15090), and so far can they. */
export const MIN_PORT_OFFSET = 100;
export const MAX_PORT_OFFSET = 65_535 - Math.max(...Object.values(PORTS));

/** All of them moved by so many, for a pod in which another proxy has the usual ones. */
export function portsAt(offset: number): Ports {
  const moved = Object.entries(PORTS).map(([name, port]) => [name, port + offset]);
  return Object.fromEntries(moved) as unknown as Ports;
}

/** The names of its ports that no other port is named after. */
export const PORT_NAMES = { metrics: 'outrigger-prom', health: 'outrigger-live' } as const;
/** The name of the container. */
export const SIDECAR_NAME = 'outrigger';
export const INTERCEPT_NAME = 'outrigger-intercept';
export const CONFIG_VOLUME = 'outrigger-config';
export const CONFIG_FOLDER = '/etc/outrigger';
/** The key that the config map must have. */
export const CONFIG_FILE = 'outrigger.yaml';
/** Where certificates are, named as cert-manager names them: tls.crt, tls.key, ca.crt. docs/tls.md has these paths. */
export const TLS_FOLDER = '/run/outrigger/tls';
export const TLS_VOLUME = 'outrigger-tls';
/** A token of the pod's service account that the sidecar alone has; where every client looks for one. */
export const TOKEN_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';
export const TOKEN_VOLUME = 'outrigger-token';
/** Whom the sidecar runs as. Interception lets this user's traffic through, so no app may run as it. */
export const SIDECAR_USER = 15000;
/** Whoever runs the redirecting step; it needs the network of the pod and nothing else. */
export const ROOT = 0;

/** The label that turns injection on (on a namespace or a pod) or off (on a pod). */
export const INJECT_LABEL = 'outrigger.dev/inject';
/** Put on what has been injected, with the version that did it. */
export const STATUS_ANNOTATION = 'outrigger.dev/injected';

/** What an app is told instead of the key, which only the sidecar has. Not a secret. */
export const PLACEHOLDER_KEY = 'held-by-outrigger';

export function defaultInjectSettings(version: string): InjectSettings {
  return {
    image: `outrigger:${version}`,
    interceptImage: `outrigger-intercept:${version}`,
    pullPolicy: undefined,
    otlpEndpoint: undefined,
  };
}
