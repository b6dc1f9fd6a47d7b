/**
 * Compares the names of servers by one rule everywhere: a call's `:authority` with a route or a cluster, the name that an
 * agent dialled with the configured one, a host of Istio's with both.
 *
 * - Case does not matter (RFC 9110 §4.2.3), nor does the dot at the end of a full name (RFC 1034 §3.1).
 * - IPv6 addresses compare as addresses: with or without brackets, however their zeros are written (RFC 5952).
 * - The port matters when both have one. Look-ups prefer the name with the port.
 * - `name`, `name.namespace`, `name.namespace.svc` and `name.namespace.svc.cluster.local` are one Service; the first
 *   of them needs the namespace of the caller ({@link NameScope}).
 */
import { isIPv4, isIPv6 } from 'node:net';

/** The namespace and the domain that complete short names. */
export interface NameScope {
  /** The namespace of the calling pod. '' when it is unknown: then a name without a namespace is not completed. */
  readonly namespace: string;
  /** The domain of the Kubernetes cluster, in lower case, without a dot at its end. */
  readonly clusterDomain: string;
}

export const DEFAULT_CLUSTER_DOMAIN = 'cluster.local';

/** The scope of a machine outside Kubernetes. */
export const NO_SCOPE: NameScope = { namespace: '', clusterDomain: DEFAULT_CLUSTER_DOMAIN };

/** An authority in canonical form: two that mean the same are equal. */
export interface Authority {
  /** A Service by its full name, another name in lower case, an address without brackets. */
  readonly host: string;
  /** 0 when none is given. */
  readonly port: number;
}

/** Parses `host`, `host:port`, `[ipv6]:port` or a bare IPv6 address. It accepts any text and never throws. */
export function parseAuthority(text: string, scope: NameScope): Authority {
  const { host, port } = splitAuthority(text);
  return { host: fullName(host, scope), port };
}

/** The same, but leaves a Service's short name as it is. */
export function splitAuthority(text: string): Authority {
  const colon = portColon(text);
  if (colon < 0) return { host: hostName(text), port: 0 };
  return { host: hostName(text.slice(0, colon)), port: Number(text.slice(colon + 1)) };
}

/** Whether the requested name means the known one. */
export function isSameAuthority(asked: Authority, known: Authority): boolean {
  return asked.host === known.host && (known.port === 0 || known.port === asked.port);
}

/**
 * Returns a host's name or address in lower case, without brackets and without the dot at its end. A text that is neither
 * (`a..`, `[a:80]`) stays as it is, so that a result that is read again stays the same.
 */
export function hostName(host: string): string {
  let name = host.toLowerCase();
  for (;;) {
    const colon = name.includes(':');
    if (name.startsWith('[') && name.endsWith(']')) {
      const inside = name.slice(1, -1);
      if (colon && !isIPv6(inside)) return name;
      name = inside;
    } else if (!colon && /[^.]\.$/.test(name)) name = name.slice(0, -1);
    // Look for a colon first: the first call of isIPv6 compiles a large regular expression.
    else return colon && isIPv6(name) ? shortIPv6(name) : name;
  }
}

/** The URL parser writes the shortest form. It rejects an address with a zone, which then stays as it is. */
function shortIPv6(address: string): string {
  const url = `http://[${address}]`;
  return URL.canParse(url) ? new URL(url).hostname.slice(1, -1) : address;
}

/** Returns the index of the colon before the port; -1 without one. An empty port means none (RFC 3986 §3.2.3). */
function portColon(text: string): number {
  const colon = text.lastIndexOf(':');
  if (colon < 0 || !/^\d*$/.test(text.slice(colon + 1))) return -1;
  if (text.startsWith('[')) return text[colon - 1] === ']' ? colon : -1;
  return text.indexOf(':') === colon ? colon : -1;
}

/** Completes a Service's name to that of its DNS record, so that all short forms become one. */
function fullName(host: string, { namespace, clusterDomain }: NameScope): string {
  if (host === '' || host.includes(':') || isIPv4(host)) return host;
  const dot = host.indexOf('.');
  if (dot < 0) return namespace === '' ? host : `${host}.${namespace}.svc.${clusterDomain}`;
  if (host.endsWith('.svc')) return `${host}.${clusterDomain}`;
  // Any other name of three labels or more is complete: a Service's full name, or a name outside the cluster.
  return host.includes('.', dot + 1) ? host : `${host}.svc.${clusterDomain}`;
}
