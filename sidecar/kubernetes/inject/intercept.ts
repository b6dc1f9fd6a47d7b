/** Redirects a pod's gRPC connections to the sidecar by nftables rules. */
import type { PodAnnotations } from './annotations.ts';
import type { JsonObject } from './json.ts';
import type { PodFacts } from './pod-facts.ts';
import { INTERCEPT_NAME, type InjectSettings, PORTS, ROOT, SIDECAR_USER } from './settings.ts';

/** The default port of a pod's gRPC: the port of the agents. */
const DEFAULT_PORT = 50051;

export interface Interception {
  /** The app's port: the rules redirect external connections to it to the sidecar; undefined for none. */
  readonly inboundPort: number | undefined;
  /** The rules redirect outgoing connections to these ports to the sidecar. */
  readonly outboundPorts: readonly number[];
}

/**
 * The nftables script that redirects a pod's gRPC. It replaces its own table in one transaction, so it may run again.
 *
 * - Connections of the sidecar's user pass: to the app, and to other pods.
 * - Connections on the loopback interface pass: an app that calls 127.0.0.1 means that address.
 * - The rules cover IPv4 and IPv6: a redirected connection stays in its family and ends on 127.0.0.1 or [::1], or, from
 *   outside, on the address that it was sent to. So the sidecar has to listen on all of them
 *   ({@link INTERCEPTING_LISTENERS}).
 */
export function interceptRules({ inboundPort, outboundPorts }: Interception): string {
  const inbound =
    inboundPort === undefined
      ? ''
      : `
  chain inbound {
    type nat hook prerouting priority dstnat; policy accept;
    iifname != "lo" tcp dport ${inboundPort} redirect to :${PORTS.inbound}
  }`;
  return `table inet outrigger
delete table inet outrigger
table inet outrigger {${inbound}
  chain outbound {
    type nat hook output priority -100; policy accept;
    meta skuid ${SIDECAR_USER} return
    oifname "lo" return
    tcp dport { ${[...new Set(outboundPorts)].sort((a, b) => a - b).join(', ')} } redirect to :${PORTS.outbound}
  }
}
`;
}

/** The addresses on which a sidecar has to listen for redirected connections. */
export const INTERCEPTING_LISTENERS: readonly JsonObject[] = [
  { name: 'OUTRIGGER_INBOUND_LISTEN', value: `[::]:${PORTS.inbound}` },
  { name: 'OUTRIGGER_OUTBOUND_LISTEN', value: `localhost:${PORTS.outbound}` },
];

export function interception(annotations: PodAnnotations, facts: PodFacts): Interception {
  return {
    inboundPort: facts.appPort,
    outboundPorts: annotations.interceptPorts ?? [facts.appPort ?? DEFAULT_PORT],
  };
}

/**
 * The init container that installs the rules. It runs after the sidecar's, so that no connection is redirected to a
 * sidecar that has not started. It needs NET_ADMIN and root, which the pod security standards "baseline" and
 * "restricted" refuse.
 */
export function interceptContainer(settings: InjectSettings, rules: string): JsonObject {
  return {
    name: INTERCEPT_NAME,
    image: settings.interceptImage,
    ...(settings.pullPolicy === undefined ? {} : { imagePullPolicy: settings.pullPolicy }),
    args: [rules],
    resources: { requests: { cpu: '10m', memory: '16Mi' }, limits: { memory: '64Mi' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: ROOT,
      runAsNonRoot: false,
      runAsUser: ROOT,
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
}
