/** Reads the head of a request: its path, its trace, and whether it may be served at all. */

import type { DownstreamRequest } from '../caller/downstream.ts';
import type { RefusalExtras, RefusalReason } from '../caller/refusals.ts';
import { type Asked, askedOf } from '../kinds/asked.ts';
import { type Headers, type HttpHeaders, textOf } from '../shared/headers.ts';
import { decoded } from '../shared/provider-credentials.ts';

/** A request target in absolute form, as clients of a proxy send it: its authority, and the rest. */
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]*)(.*)$/is;

/** Returns the path and query of a target in either form (RFC 9112, section 3.2.2). */
function originForm(target: string): string {
  return target.startsWith('/') ? target : (ABSOLUTE_FORM.exec(target)?.[2] ?? target);
}

/** Returns what a request asks for; undefined where it is under no base, or would leave it at a provider that decodes the path. */
export function askedBy(target: string | undefined, headers: Headers): Asked | undefined {
  const asked = askedOf(originForm(target ?? ''), headers);
  return asked === undefined || climbs(asked.path.split('?', 1)[0]!) ? undefined : asked;
}

/** Each proxy on the way may decode the path once. */
const MAX_DECODINGS = 4;

/** Whether a path has a segment `..`, encoded or not. Some servers read a backslash as a slash, and drop parameters (`..;x`). */
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
 * Returns why a request may come from a web page: the egress holds a key and asks for no password, so a page in a user's
 * browser must not be able to spend with it.
 */
export function complaintAbout(headers: Headers, target: string, isLoopback: boolean): string | undefined {
  if (headers['origin'] !== undefined || headers['sec-fetch-site'] !== undefined)
    return 'the egress serves no web pages; send the request from a program';
  // The authority of a target in absolute form counts instead of the header (RFC 9112, section 3.2.2).
  const authority = ABSOLUTE_FORM.exec(target)?.[1] ?? headers[':authority'] ?? headers['host'];
  const host = textOf(authority)?.toLowerCase() ?? '';
  const name = host.replace(/:\d+$/, '');
  // An attacker may make a name point at 127.0.0.1 (DNS rebinding).
  if (isLoopback && !/^(?:localhost\.?|127(?:\.\d{1,3}){3}|\[::1\])?$/.test(name))
    return 'the Host header names another machine; use http://127.0.0.1 or http://localhost';
  return undefined;
}

/** The methods of providers' APIs; others (TRACE, CONNECT) would show a caller the key, or open a tunnel. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']);

/** Why the egress turns a request away, in the words of its answer. */
export interface Objection {
  readonly reason: RefusalReason;
  readonly message: string;
  readonly more?: RefusalExtras;
}

/** Where each client must point. */
const WRONG_PATH =
  'the path must begin with /v1/ and stay below it: set OPENAI_BASE_URL to http://HOST:PORT/v1, and ANTHROPIC_BASE_URL, AZURE_OPENAI_ENDPOINT or GOOGLE_GEMINI_BASE_URL to http://HOST:PORT; a client that asks for /models/NAME:generateContent needs http://HOST:PORT/v1beta';

/** Returns the fault in a request's head; undefined without one. */
export function objectionTo(request: DownstreamRequest, isLoopback: boolean): Objection | undefined {
  const complaint = complaintAbout(request.headers, request.url ?? '', isLoopback);
  if (complaint !== undefined) return { reason: 'forbidden', message: complaint };
  // The listener does not offer RFC 8441, so no client should use it.
  if (request.method === 'CONNECT')
    return {
      reason: 'not_implemented',
      message: 'the egress opens no tunnel over HTTP/2; begin a WebSocket to a model over HTTP/1.1',
    };
  if (!METHODS.has(request.method ?? ''))
    return {
      reason: 'method_not_allowed',
      message: `the egress does not pass on the method ${request.method}; use one of the header allow`,
      more: { headers: { allow: [...METHODS].join(', ') } },
    };
  if (askedBy(request.url, request.headers) !== undefined) return undefined;
  return { reason: 'no_route', message: WRONG_PATH };
}

/** Returns the headers without pseudo-headers. */
export function plainHeaders(headers: DownstreamRequest['headers']): HttpHeaders {
  const plain: HttpHeaders = {};
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined && !name.startsWith(':')) plain[name] = value;
  }
  return plain;
}

/** Returns the trace id of a W3C `traceparent`; undefined without one. */
export function traceIdIn(headers: Headers): string | undefined {
  return /^[\da-f]{2}-([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/.exec(textOf(headers['traceparent']) ?? '')?.[1];
}
