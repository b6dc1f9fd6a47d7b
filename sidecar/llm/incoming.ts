/** Reads a request of the agent's: where it is for, its body within bounds, and who it is for. */

import { decoded } from './credentials.ts';
import { type Reason, refuse } from './reasons.ts';
import type { RequestHeaders } from './relay.ts';
import type { DownstreamRequest, Reply } from './reply.ts';
import { type Headers, textOf } from './retry-after.ts';

/** The agent writes its request in one go; one that stops in the middle has gone wrong. */
const BODY_TIMEOUT_MS = 60_000;

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

/** Calls back with the whole body, or answers why not. Nothing is called when the caller leaves. */
export function readBody(
  request: DownstreamRequest,
  reply: Reply,
  budget: BodyMemory,
  maxBytes: number,
  onBody: (body: Buffer) => void,
): void {
  const parts: Buffer[] = [];
  let bytes = 0;
  let refused = false;
  const giveUp = (reason: Reason, message: string): void => {
    refused = true;
    clearTimeout(timer);
    budget.release(bytes);
    parts.length = 0;
    refuse(
      reply,
      reason,
      message,
      request.httpVersionMajor === 1 ? { headers: { connection: 'close' } } : {},
    );
  };
  const timer = setTimeout(() => {
    giveUp('bad_request', `the body of the request did not come within ${BODY_TIMEOUT_MS} ms`);
  }, BODY_TIMEOUT_MS);
  timer.unref();
  request.on('data', (part: Buffer) => {
    if (refused) return;
    if (bytes + part.length > maxBytes) {
      giveUp(
        'request_too_large',
        `the request has more than ${maxBytes} bytes (llm.limits.max_request_bytes)`,
      );
    } else if (!budget.take(part.length)) {
      giveUp('overloaded', 'the requests that are under way hold too much memory; ask again later');
    } else {
      bytes += part.length;
      parts.push(part);
    }
  });
  request.on('error', () => {});
  request.on('end', () => {
    if (refused) return;
    clearTimeout(timer);
    onBody(parts.length === 1 ? parts[0]! : Buffer.concat(parts));
  });
  request.on('close', () => {
    clearTimeout(timer);
    if (!refused && !request.complete) budget.release(bytes);
  });
}

/** What all bodies together may take. */
export class BodyMemory {
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  take(bytes: number): boolean {
    if (this.#bytes + bytes > this.#maxBytes) return false;
    this.#bytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/** The trace id of a W3C `traceparent`; undefined when there is none. */
export function traceIdOf(headers: Headers): string | undefined {
  return /^[\da-f]{2}-([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/.exec(textOf(headers['traceparent']) ?? '')?.[1];
}
