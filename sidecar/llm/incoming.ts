/** Reads the head of a request of the agent's: where it is for, and who it is for. */

import { decoded } from './credentials.ts';
import type { RequestHeaders } from './relay.ts';
import type { DownstreamRequest } from './reply.ts';
import { type Headers, textOf } from './retry-after.ts';

/** What the path in front of the operation must be, as in `OPENAI_BASE_URL=http://127.0.0.1:15002/v1`. */
const BASE_PATH = '/v1';

/**
 * The path after the base, with its query; undefined when it is not under the base, or would not be for a provider that
 * decodes it.
 */
export function operationPath(url: string | undefined): string | undefined {
  if (url === undefined || !url.startsWith(BASE_PATH)) return undefined;
  const rest = url.slice(BASE_PATH.length);
  return rest.startsWith('/') && !climbs(rest.split('?', 1)[0]!) ? rest : undefined;
}

/** Proxies on the way may each decode it once. */
const MAX_DECODINGS = 4;

/** Has it a segment `..`, encoded or not? Some servers take a backslash for a slash, and cut parameters (`..;x`) off. */
function climbs(path: string): boolean {
  if (!path.includes('%') && !path.includes('..')) return false;
  let text = path;
  for (let turn = 0; turn <= MAX_DECODINGS; turn++) {
    if (text.split(/[/\\]/).some((segment) => /^\.\.(?:;|$)/.test(segment))) return true;
    const next = decoded(text);
    if (next === text) return false;
    text = next;
  }
  return true;
}

/**
 * Why a request may be a web page's doing: the egress holds a key and asks for no password, so a page in somebody's
 * browser must not be able to spend with it.
 */
export function complaintAbout(headers: Headers, isLoopback: boolean): string | undefined {
  if (headers['origin'] !== undefined || headers['sec-fetch-site'] !== undefined)
    return 'requests of web pages are not served here';
  const host = textOf(headers[':authority'] ?? headers['host'])?.toLowerCase() ?? '';
  const name = host.replace(/:\d+$/, '');
  // A name that was made to point at 127.0.0.1 is not answered (DNS rebinding).
  if (isLoopback && !/^(?:localhost\.?|127(?:\.\d{1,3}){3}|\[::1\])?$/.test(name))
    return 'the Host header names another machine; use http://127.0.0.1 or http://localhost';
  return undefined;
}

/** Pseudo-headers left out. */
export function plainHeaders(headers: DownstreamRequest['headers']): RequestHeaders {
  const plain: RequestHeaders = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !name.startsWith(':')) plain[name] = value;
  return plain;
}

/** The trace id of a W3C `traceparent`; undefined when there is none. */
export function traceIdOf(headers: Headers): string | undefined {
  return /^[\da-f]{2}-([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/.exec(textOf(headers['traceparent']) ?? '')?.[1];
}
