/** Reads the head of a request: its path, its trace, and whether it may be served at all. */

import type { DownstreamRequest } from '../caller/downstream.ts';
import type { RefusalExtras, RefusalReason } from '../caller/refusals.ts';
import { type Headers, type HttpHeaders, textOf } from '../shared/headers.ts';
import { decoded } from '../shared/provider-credentials.ts';

/** What the path in front of the operation must be, as in `OPENAI_BASE_URL=http://127.0.0.1:15002/v1`. */
export const BASE_PATH = '/v1';

/** A request target in absolute form, as clients send it that take us for a proxy: its authority, and the rest. */
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]*)(.*)$/is;

/** What a server goes by, whichever form a target has (RFC 9112, section 3.2.2). */
function originForm(target: string): string {
  return target.startsWith('/') ? target : (ABSOLUTE_FORM.exec(target)?.[2] ?? target);
}

/**
 * The path after the base, with its query; undefined when it is not under the base, or would not be for a provider that
 * decodes it.
 */
export function operationPath(target: string | undefined): string | undefined {
  const url = originForm(target ?? '');
  if (!url.startsWith(BASE_PATH)) return undefined;
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
function complaintAbout(headers: Headers, target: string, isLoopback: boolean): string | undefined {
  if (headers['origin'] !== undefined || headers['sec-fetch-site'] !== undefined)
    return 'requests of web pages are not served here';
  // The authority of a target in absolute form counts instead of the header (RFC 9112, section 3.2.2).
  const authority = ABSOLUTE_FORM.exec(target)?.[1] ?? headers[':authority'] ?? headers['host'];
  const host = textOf(authority)?.toLowerCase() ?? '';
  const name = host.replace(/:\d+$/, '');
  // A name that was made to point at 127.0.0.1 is not answered (DNS rebinding).
  if (isLoopback && !/^(?:localhost\.?|127(?:\.\d{1,3}){3}|\[::1\])?$/.test(name))
    return 'the Host header names another machine; use http://127.0.0.1 or http://localhost';
  return undefined;
}

/** What providers' APIs use; others (TRACE, CONNECT) would tell a caller the key, or open a tunnel. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']);

/** Why a request is turned away, in the words of its answer. */
export interface Objection {
  readonly reason: RefusalReason;
  readonly message: string;
  readonly more?: RefusalExtras;
}

/** The fault in a request's head. */
export function objectionTo(request: DownstreamRequest, isLoopback: boolean): Objection | undefined {
  const complaint = complaintAbout(request.headers, request.url ?? '', isLoopback);
  if (complaint !== undefined) return { reason: 'forbidden', message: complaint };
  // RFC 8441 is not offered, so no client should ask for it.
  if (request.method === 'CONNECT')
    return {
      reason: 'not_implemented',
      message: 'no tunnel is opened over HTTP/2; a WebSocket to a model begins over HTTP/1.1',
    };
  if (!METHODS.has(request.method ?? ''))
    return {
      reason: 'method_not_allowed',
      message: `the method ${request.method} is not passed on`,
      more: { headers: { allow: [...METHODS].join(', ') } },
    };
  if (operationPath(request.url) !== undefined) return undefined;
  const message =
    'the path must begin with /v1/ and stay below it: set OPENAI_BASE_URL to http://HOST:PORT/v1';
  return { reason: 'no_route', message };
}

/** Pseudo-headers left out. */
export function plainHeaders(headers: DownstreamRequest['headers']): HttpHeaders {
  const plain: HttpHeaders = {};
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined && !name.startsWith(':')) plain[name] = value;
  }
  return plain;
}

/** The trace id of a W3C `traceparent`; undefined when there is none. */
export function traceIdIn(headers: Headers): string | undefined {
  return /^[\da-f]{2}-([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/.exec(textOf(headers['traceparent']) ?? '')?.[1];
}
