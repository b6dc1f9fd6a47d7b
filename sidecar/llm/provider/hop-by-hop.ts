/** Removes header fields that belong to one connection (RFC 9110, section 7.6.1). Pure. */
import type { HttpHeaders } from '../shared/headers.ts';

export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

/**
 * Returns the headers without those that the caller's `connection` names. Call it before adding our own fields: otherwise a
 * caller's `connection: authorization` would remove the upstream's key.
 */
export function withoutNamed(headers: HttpHeaders): HttpHeaders {
  const named = headers['connection'];
  if (named === undefined || named === 'keep-alive' || named === 'close') return headers;
  const names = new Set(
    String(named)
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  );
  const kept: HttpHeaders = {};
  for (const name in headers) if (name !== 'connection' && !names.has(name)) kept[name] = headers[name]!;
  return kept;
}
