/**
 * Socket addresses as the configuration writes them: `host:port`, `[2001:db8::1]:port`, or
 * `unix:/path/to/socket` (also `unix:///path`, as gRPC's naming has it).
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';

/** A TCP address; `host` is a name or an IP address without brackets. */
export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** A unix domain socket. */
export interface UnixAddress {
  readonly path: string;
}

export type Address = TcpAddress | UnixAddress;

/** sockaddr_un holds 108 bytes on Linux, the closing NUL included (unix(7)). */
const MAX_UNIX_PATH_BYTES = 107;
const HOST_LABEL = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

/** Reads an address; `undefined` when `text` is none. Port 0 is accepted: the system picks one. */
export function parseAddress(text: string): Address | undefined {
  if (text.startsWith('unix:')) return parseUnix(text.slice('unix:'.length));
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  if (port > 65_535) return undefined;
  if (match[1] !== undefined) return isIPv6(match[1]) ? { host: match[1], port } : undefined;
  const host = match[2]!;
  return isHost(host) ? { host, port } : undefined;
}

function parseUnix(rest: string): UnixAddress | undefined {
  const path = rest.startsWith('///') ? rest.slice(2) : rest;
  const fits = path.length > 1 && Buffer.byteLength(path) <= MAX_UNIX_PATH_BYTES;
  return fits && path.startsWith('/') && !path.includes('\0') ? { path } : undefined;
}

/** A name that is all digits and dots is an IPv4 address or a mistake, never a DNS name. */
function isHost(host: string): boolean {
  if (/^[\d.]+$/.test(host)) return isIPv4(host);
  const name = host.endsWith('.') ? host.slice(0, -1) : host;
  return name.length <= 253 && name.split('.').every((label) => HOST_LABEL.test(label));
}

/** Writes an address back: IPv6 in brackets, one form for unix sockets. */
export function formatAddress(address: Address): string {
  if ('path' in address) return `unix:${address.path}`;
  return isIPv6(address.host) ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Whether one can listen on it: an IP address, localhost, or a unix socket; no other name. */
export function isListenable(address: Address): boolean {
  return 'path' in address || address.host === 'localhost' || isIP(address.host) !== 0;
}

/** Whether two listeners on these addresses would collide (any-address overlaps every address). */
export function overlaps(a: Address, b: Address): boolean {
  if ('path' in a || 'path' in b) return 'path' in a && 'path' in b && a.path === b.path;
  if (a.port !== b.port || a.port === 0) return false;
  return isAny(a.host) || isAny(b.host) || canonicalHost(a.host) === canonicalHost(b.host);
}

/** Whether `target` is where a listener on `listen` would be reached from this machine. */
export function reaches(target: Address, listen: Address): boolean {
  if ('path' in target || 'path' in listen) return overlaps(target, listen);
  if (target.port !== listen.port) return false;
  const local = isLoopback(target.host) || isAny(target.host);
  if (isAny(listen.host)) return local;
  return canonicalHost(target.host) === canonicalHost(listen.host);
}

/** Whether the host is this machine's loopback. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

function isAny(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

function canonicalHost(host: string): string {
  return host === 'localhost' ? '127.0.0.1' : host.toLowerCase();
}
