/**
 * One rule for comparing the names of servers, wherever two are compared: a call's `:authority` with a route or a cluster,
 * what an agent dialled with what the configuration calls it, a host of Istio's with both.
 *
 * - Case never counts (RFC 9110 §4.2.3), nor does the dot behind a full name (RFC 1034 §3.1).
 * - An IPv6 address is compared as an address: with or without brackets, however its zeros are written (RFC 5952).
 * - A port counts where both have one. Whoever looks a name up prefers the one with the port.
 * - `name`, `name.namespace`, `name.namespace.svc` and `name.namespace.svc.cluster.local` are one Service; the first
 *   of them needs the namespace of who calls ({@link NameScope}).
 */
import { isIPv4, isIPv6 } from 'node:net';

/** Where short names belong. */
export interface NameScope {
  /** Of the pod that calls; '' when it is not known: then a name without a namespace is only itself. */
  readonly namespace: string;
  /** Of the Kubernetes cluster; lower case, without a dot at its end. */
  readonly clusterDomain: string;
}

export const DEFAULT_CLUSTER_DOMAIN = 'cluster.local';

/** Of a machine that is in no Kubernetes cluster. */
export const NO_SCOPE: NameScope = { namespace: '', clusterDomain: DEFAULT_CLUSTER_DOMAIN };

/** An authority in the form in which two that mean the same are equal. */
export interface Authority {
  /** A Service by its full name, another name in lower case, an address without brackets. */
  readonly host: string;
  /** 0 when none is given. */
  readonly port: number;
}

/** Reads `host`, `host:port`, `[ipv6]:port` or a bare IPv6 address; takes any text, and never throws. */
export function parseAuthority(text: string, scope: NameScope): Authority {
  const { host, port } = splitAuthority(text);
  return { host: fullName(host, scope), port };
}

/** The same with a Service's name in the form in which it is written. */
export function splitAuthority(text: string): Authority {
  const colon = portColon(text);
  if (colon < 0) return { host: hostName(text), port: 0 };
  return { host: hostName(text.slice(0, colon)), port: Number(text.slice(colon + 1)) };
}

/** Whether a name that is asked for is the one that is known. */
export function isSameAuthority(asked: Authority, known: Authority): boolean {
  return asked.host === known.host && (known.port === 0 || known.port === asked.port);
}

/** A host's name or address in lower case, without brackets and without the dot at its end. */
export function hostName(host: string): string {
  let name = host.toLowerCase();
  if (name.startsWith('[') && name.endsWith(']')) name = name.slice(1, -1);
  if (name.length > 1 && name.endsWith('.')) name = name.slice(0, -1);
  // The colon first: the question itself compiles a large expression when it is asked for the first time.
  return name.includes(':') && isIPv6(name) ? shortIPv6(name) : name;
}

/** The URL parser writes the shortest form. It takes no zone, which then has to be written in the same way. */
function shortIPv6(address: string): string {
  const url = `http://[${address}]`;
  return URL.canParse(url) ? new URL(url).hostname.slice(1, -1) : address;
}

/** Where the colon before the port is; -1 without one. An empty port is one that is not given (RFC 3986 §3.2.3). */
function portColon(text: string): number {
  const colon = text.lastIndexOf(':');
  if (colon < 0 || !/^\d*$/.test(text.slice(colon + 1))) return -1;
  if (text.startsWith('[')) return text[colon - 1] === ']' ? colon : -1;
  return text.indexOf(':') === colon ? colon : -1;
}

/** A Service's name as its DNS record has it, so that all short forms become one. */
function fullName(host: string, { namespace, clusterDomain }: NameScope): string {
  if (host === '' || host.includes(':') || isIPv4(host)) return host;
  const dot = host.indexOf('.');
  if (dot < 0) return namespace === '' ? host : `${host}.${namespace}.svc.${clusterDomain}`;
  if (host.endsWith('.svc')) return `${host}.${clusterDomain}`;
  // Of three labels and more it is a name of the world outside.
  return host.includes('.', dot + 1) ? host : `${host}.svc.${clusterDomain}`;
}
