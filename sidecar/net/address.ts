/** Parses and formats the addresses of the configuration: `host:port`, `[ipv6]:port`, `unix:path`. */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { TypedError } from '../errors/typed-error.ts';

/** `inbound.app` of a pod that only makes calls: there is no app to probe, to wait for, or to send calls to. */
export const NO_APP = 'none';

export type Address = TcpAddress | UnixAddress;

interface TcpAddress {
  kind: 'tcp';
  /** A name or an IP literal, the latter without brackets. */
  host: string;
  port: number;
}

interface UnixAddress {
  kind: 'unix';
  path: string;
}

/** An address that can't be used; the message says why and how to write it. */
export class AddressError extends TypedError {
  override readonly name = 'AddressError';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = false;
}

/** The kernel reserves 108 bytes for the path of a Unix socket, one of them for the NUL at its end (unix(7)). */
const MAX_UNIX_PATH_BYTES = 107;
/** RFC 1035 section 2.3.4. */
const MAX_NAME_LENGTH = 253;
const MAX_LABEL_LENGTH = 63;

/**
 * Parses one address; throws {@link AddressError}. `forListening` allows port 0, which lets the system choose a port.
 *
 * `unix:` takes an absolute path, a relative one, or gRPC's `unix:///path`.
 */
export function parseAddress(text: string, { forListening = false } = {}): Address {
  if (text.startsWith('unix:')) return { kind: 'unix', path: parsePath(text, text.slice('unix:'.length)) };
  if (text.includes('/')) {
    throw problem(text, 'it looks like a URL or a path', 'write host:port, or unix:PATH for a socket');
  }
  const colon = text.lastIndexOf(':');
  const bracketEnd = text.lastIndexOf(']');
  if (colon < 0 || colon < bracketEnd) throw problem(text, 'the port is missing', 'write host:port');
  const host = parseHost(text, text.slice(0, colon));
  return { kind: 'tcp', host, port: parsePort(text, text.slice(colon + 1), forListening) };
}

/** Parses an address of a configuration that is already valid; accepts port 0. */
export function readAddress(text: string): Address {
  return parseAddress(text, { forListening: true });
}

/** Returns the canonical text, which {@link parseAddress} can parse. */
export function formatAddress(address: Address): string {
  return address.kind === 'unix' ? `unix:${address.path}` : formatHostPort(address.host, address.port);
}

/** `host:port`, with brackets around an IPv6 literal. */
export function formatHostPort(host: string, port: number): string {
  // Look for a colon first: the first call of isIPv6 compiles a large regular expression.
  return host.includes(':') && isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

function parsePath(text: string, rest: string): string {
  if (rest.startsWith('//') && !rest.startsWith('///')) {
    throw problem(text, 'a Unix socket has no host', 'write unix:/path, or unix:///path');
  }
  const path = rest.startsWith('///') ? rest.slice(2) : rest;
  if (path === '') throw problem(text, 'the path is missing', 'write unix:/path/to/the.sock');
  if (path.includes('\0')) throw problem(text, 'the path contains a NUL', 'write unix:/path/to/the.sock');
  if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) {
    throw problem(
      text,
      `the path is longer than ${MAX_UNIX_PATH_BYTES} bytes`,
      'use a shorter one, /run for example',
    );
  }
  return path;
}

function parseHost(text: string, host: string): string {
  if (host === '') throw problem(text, 'the host is missing', 'write host:port, 127.0.0.1:50051 for example');
  if (host.startsWith('[')) {
    const literal = host.slice(1, -1);
    if (!host.endsWith(']') || !isIPv6(literal)) {
      throw problem(text, 'the text in brackets is not an IPv6 address', 'write [::1]:50051');
    }
    return literal;
  }
  if (host.includes(':')) throw problem(text, 'an IPv6 address needs brackets', 'write [::1]:50051');
  if (isIPv4(host)) return host;
  if (/^[\d.]+$/.test(host)) throw problem(text, 'the host is not an IPv4 address', 'write 10.0.0.7:50051');
  const labels = (host.endsWith('.') ? host.slice(0, -1) : host).split('.');
  if (host.length > MAX_NAME_LENGTH || !labels.every(isLabel)) {
    throw problem(text, 'the host is not a name', 'use letters, digits, hyphens and dots');
  }
  const name = host.toLowerCase();
  // Other names keep their dot: the resolver needs it to see that the name is fully qualified.
  return name === 'localhost.' ? 'localhost' : name;
}

/** RFC 1123 allows letters, digits and hyphens; container networks use the underscore as well. */
function isLabel(label: string): boolean {
  return label.length <= MAX_LABEL_LENGTH && /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/i.test(label);
}

function parsePort(text: string, digits: string, forListening: boolean): number {
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : Number.NaN;
  const least = forListening ? 0 : 1;
  if (port >= least && port <= 65_535) return port;
  throw problem(text, `"${shortened(digits)}" is not a port`, `use a number from ${least} to 65535`);
}

function problem(text: string, what: string, remedy: string): AddressError {
  return new AddressError(`address "${shortened(text)}": ${what}; ${remedy}`);
}

function shortened(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Whether the host is an IP literal, which needs no DNS look-up. */
export function isLiteral(host: string): boolean {
  return isIP(host) !== 0;
}
