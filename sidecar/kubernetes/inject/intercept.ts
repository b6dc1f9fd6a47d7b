import type { PodWishes } from './annotations.ts';
import type { JsonObject } from './json.ts';
import type { PodFacts } from './pod-facts.ts';
import { INTERCEPT_NAME, type InjectSettings, PORTS, ROOT, SIDECAR_USER } from './settings.ts';

/** Where a pod's gRPC goes when nothing says otherwise: the port of the agents. */
const DEFAULT_PORT = 50051;

export interface Interception {
  /** The app's port: connections that come to it from outside go to the sidecar; undefined for none. */
  readonly inboundPort: number | undefined;
  /** Connections that leave for these ports go to the sidecar. */
  readonly outboundPorts: readonly number[];
}

/**
 * The nftables script that redirects a pod's gRPC. It replaces its own table in one transaction, so it may run again.
 *
 * - What the sidecar sends itself is let through by its user: to the app, and to other pods.
 * - What stays on the loopback interface is let through: an app that calls 127.0.0.1 means it.
 * - IPv4 and IPv6: a redirected connection stays in its family and ends on 127.0.0.1 or [::1], or outside on the
 *   address that it came to, so the sidecar has to listen on all of them ({@link INTERCEPTING_LISTENERS}).
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

/** Where a sidecar has to listen for what the rules redirect to it. */
export const INTERCEPTING_LISTENERS: readonly JsonObject[] = [
  { name: 'OUTRIGGER_INBOUND_LISTEN', value: `[::]:${PORTS.inbound}` },
  { name: 'OUTRIGGER_OUTBOUND_LISTEN', value: `localhost:${PORTS.outbound}` },
];

export function interception(wishes: PodWishes, facts: PodFacts): Interception {
  return {
    inboundPort: facts.appPort,
    outboundPorts: wishes.interceptPorts ?? [facts.appPort ?? DEFAULT_PORT],
  };
}

/**
 * The step that redirects, as an init container behind the sidecar's, so that nothing is redirected to a sidecar
 * that is not there. It needs NET_ADMIN and root, which the pod security standards "baseline" and "restricted" refuse.
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
