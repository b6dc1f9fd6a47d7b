/** Turns header fields into those of HTTP/2 and back (RFC 9113, sections 8.2 and 8.3). Pure. */
import { HeaderList } from '../../http2/hpack/header-list.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { RelayRequest } from './relay-request.ts';

/** Characters that a field can't have (RFC 9110, section 5.5); lenient parsers accept some of them. */
const FORBIDDEN_IN_NAMES = /[^\w!#$%&'*+.^`|~-]/;
const FORBIDDEN_IN_VALUES = /[^\t\x20-\x7e\x80-\xff]/;

/** Whether a field has characters that HTTP forbids, so that it can't be sent on. @param raw names and values in turn */
export function hasForbidden(raw: readonly string[]): boolean {
  for (let at = 0; at < raw.length; at += 2) if (FORBIDDEN_IN_NAMES.test(raw[at]!)) return true;
  return hasForbiddenValue(raw);
}

/** The same for fields whose names have been checked. */
export function hasForbiddenValue(raw: readonly string[]): boolean {
  for (let at = 1; at < raw.length; at += 2) if (FORBIDDEN_IN_VALUES.test(raw[at]!)) return true;
  return false;
}

/** Fields of one HTTP/1.1 connection, which HTTP/2 forbids (section 8.2.2), and those that pseudo-header fields replace. */
const OF_A_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'forwarded',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Methods whose requests have no body. */
export function isBodiless(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
}

/** Returns the fields of a request; undefined when one of them has characters that HTTP forbids. */
export function requestFields(request: RelayRequest): HeaderList | undefined {
  const { method, protocol, hostname, port, path, headers, body } = request;
  const host = hostname.includes(':') ? `[${hostname}]` : hostname;
  const authority = port === (protocol === 'https:' ? 443 : 80) ? host : `${host}:${port}`;
  const scheme = protocol === 'https:' ? 'https' : 'http';
  const fields = [':method', method, ':scheme', scheme, ':authority', authority, ':path', path];
  for (const given in headers) {
    const name = given.toLowerCase();
    if (OF_A_CONNECTION.has(name) || name === 'content-length' || name.charCodeAt(0) === 0x3a) continue;
    const value = headers[given]!;
    if (Array.isArray(value)) for (const one of value) fields.push(name, one);
    else fields.push(name, String(value));
  }
  if (!isBodiless(method)) fields.push('content-length', String(body.bytes));
  return hasForbiddenValue(fields) ? undefined : new HeaderList(fields);
}

/** Returns the fields of an answer as Node has those of HTTP/1.1: repeated ones are joined. */
export function answerHeaders(fields: readonly string[]): HttpHeaders {
  const headers: HttpHeaders = {};
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at]!;
    if (name.charCodeAt(0) === 0x3a || OF_A_CONNECTION.has(name)) continue;
    const value = fields[at + 1]!;
    const known = headers[name];
    if (name === 'set-cookie') headers[name] = known === undefined ? [value] : [...known, value];
    else if (known === undefined) headers[name] = value;
    else if (!ONCE.has(name)) headers[name] = `${known}${name === 'cookie' ? '; ' : ', '}${value}`;
  }
  return headers;
}

/** Of these fields the first one counts, as with Node. */
const ONCE: ReadonlySet<string> = new Set([
  'age',
  'content-length',
  'content-type',
  'etag',
  'expires',
  'last-modified',
  'location',
  'retry-after',
  'server',
]);
