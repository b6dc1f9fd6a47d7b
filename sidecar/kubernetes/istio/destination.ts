/**
 * Maps the endpoints of the configuration to destinations: a Service of Kubernetes, or a host outside the mesh.
 *
 *     dns: writing-agent-headless:15006       → Service writing-agent of the namespace
 *     dns: code-agent.tools:50051             → Service code-agent of the namespace tools
 *     kubernetes: { service: code-agent }     → the same, of its namespace
 *     endpoints: [127.0.0.1:50061]            → Service with the name of the cluster
 *     endpoints: [10.0.0.7:50051, …]          → ServiceEntry with these addresses
 *     dns: agents.example.com:443             → ServiceEntry that Istio resolves
 */
import { isIP } from 'node:net';
import type { ClusterConfig } from '../../config/config.ts';
import { type Address, parseAddress } from '../../net/address.ts';
import { hostName, type NameScope, parseAuthority } from '../../net/authority.ts';
import { objectName } from './resource.ts';

export type Destination = ServiceDestination | ExternalDestination;

interface ServiceDestination {
  readonly kind: 'service';
  readonly name: string;
  readonly namespace: string;
  /** The host name in Istio. */
  readonly host: string;
  /** Why this host, if the configuration names another; empty otherwise. */
  readonly because: string;
}

export interface ExternalDestination {
  readonly kind: 'external';
  readonly name: string;
  readonly namespace: string;
  readonly host: string;
  readonly port: number;
  /** IP addresses with their ports; undefined when Istio resolves the host. */
  readonly addresses: readonly { readonly address: string; readonly port: number }[] | undefined;
  /** Endpoints that a ServiceEntry can't express. */
  readonly leftOut: readonly string[];
}

const HEADLESS = /-headless$/;
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function destinationOf(cluster: ClusterConfig, scope: NameScope): Destination {
  const { namespace } = scope;
  if (cluster.kubernetes !== undefined) {
    const { service: name, namespace: own } = cluster.kubernetes;
    return named(name, own === '' ? namespace : own, scope);
  }
  const targets = (cluster.dns === undefined ? cluster.endpoints : [cluster.dns]).map((text) =>
    parseAddress(text),
  );
  const hosts = targets.map((target) => (target.kind === 'unix' ? 'localhost' : target.host));
  if (hosts.every(isLoopback)) {
    const because = `${targetsOf(cluster)} is a loopback address; we assume that the Service has the cluster's name.`;
    return service(objectName(cluster.name), namespace, because, scope);
  }
  const [only] = hosts;
  if (hosts.length === 1 && only !== undefined && isIP(only) === 0) {
    const [name = '', second, third] = hostName(only).split('.');
    if (LABEL.test(name) && (second === undefined || third === undefined || third === 'svc'))
      return named(name, second ?? namespace, scope);
  }
  return external(cluster, namespace, targets);
}

/** Whether the configuration's `authority` means this destination. */
export function isCalled(
  destination: Destination,
  cluster: string,
  authority: string,
  scope: NameScope,
): boolean {
  const hostOf = (text: string) => parseAuthority(text, scope).host;
  return [hostOf(cluster), hostOf(destination.host)].includes(hostOf(authority));
}

/** By the convention of the manifests, a headless Service accompanies a normal one. */
function named(name: string, namespace: string, scope: NameScope): ServiceDestination {
  const because = HEADLESS.test(name) ? headless(name) : '';
  return service(name.replace(HEADLESS, ''), namespace, because, scope);
}

function service(
  name: string,
  namespace: string,
  because: string,
  { clusterDomain }: NameScope,
): ServiceDestination {
  return { kind: 'service', name, namespace, host: `${name}.${namespace}.svc.${clusterDomain}`, because };
}

function headless(name: string): string {
  return `${name} is for Outrigger's sidecars: Istio neither balances over a headless Service nor ejects its pods, so this is the Service without -headless.`;
}

function external(
  cluster: ClusterConfig,
  namespace: string,
  targets: readonly Address[],
): ExternalDestination {
  const leftOut: string[] = [];
  const addresses: { address: string; port: number }[] = [];
  const names: { host: string; port: number }[] = [];
  targets.forEach((target, index) => {
    if (target.kind === 'unix') leftOut.push(cluster.endpoints[index] ?? '');
    else if (isIP(target.host) !== 0) addresses.push({ address: target.host, port: target.port });
    else names.push({ host: hostName(target.host), port: target.port });
  });
  const name = objectName(cluster.name);
  const [first, ...rest] = names;
  if (first !== undefined && addresses.length === 0) {
    leftOut.push(...rest.map(({ host, port }) => `${host}:${port}`));
    return {
      kind: 'external',
      name,
      namespace,
      host: first.host,
      port: first.port,
      addresses: undefined,
      leftOut,
    };
  }
  leftOut.push(...names.map(({ host, port }) => `${host}:${port}`));
  const host = `${name}.${namespace}.outrigger.internal`;
  return { kind: 'external', name, namespace, host, port: addresses[0]?.port ?? 443, addresses, leftOut };
}

function targetsOf(cluster: ClusterConfig): string {
  return cluster.dns ?? cluster.endpoints.join(', ');
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}
