/**
 * Finds out what kind an answer is: by the request, by its head, and by its first bytes. Pure.
 *
 * The egress reads only answers that it understands. The provider's content type is not enough: streams come with any type
 * or none, and JSON as text. So the first bytes decide where the operation has events or JSON at all.
 */

import { traitsOf } from '../kinds/operations.ts';
import { type Headers, textOf } from '../shared/headers.ts';
import type { Operation } from '../shared/operation.ts';

export type AnswerKind = 'json' | 'events' | 'unread';

export interface Expectation {
  /** The egress does not read the answer, whatever its bytes are. */
  readonly isUnread: boolean;
  /** The answer should be a stream of events. */
  readonly isEvents: boolean;
}

/** What the request asks for. */
interface RequestShape {
  readonly operation: Operation;
  readonly stream: boolean;
  /** A stream as one JSON array. */
  readonly isArray: boolean;
}

const UNREAD: Expectation = { isUnread: true, isEvents: false };

/** Statuses without the requested answer: No Content, Reset Content, Partial Content. */
const WITHOUT_ANSWER: ReadonlySet<number> = new Set([204, 205, 206]);
const JSON_LINES = /^application\/(?:x-)?(?:ndjson|jsonl|jsonlines|json-seq)\b/;
const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json\b/;
const EVENTS_TYPE = 'text/event-stream';

/** Returns what the answer should be, before its first byte. */
export function expectationOf(
  method: string,
  { operation, stream, isArray = false }: Pick<RequestShape, 'operation' | 'stream'> & Partial<RequestShape>,
  status: number,
  headers: Headers,
): Expectation {
  const traits = traitsOf(operation);
  if (!traits.answersJson && traits.events === undefined) return UNREAD;
  if (method === 'HEAD' || status < 200 || status >= 300 || WITHOUT_ANSWER.has(status)) return UNREAD;
  if (!isReadable(headers)) return UNREAD;
  const type = textOf(headers['content-type'])?.trim().toLowerCase() ?? '';
  if (JSON_LINES.test(type)) return UNREAD;
  const isEvents = isArray || type.startsWith(EVENTS_TYPE) || (stream && !JSON_TYPE.test(type));
  return { isUnread: false, isEvents: isEvents && traits.events !== undefined };
}

/** Whether the body is in UTF-8, and not encoded although we asked for `identity`. */
function isReadable(headers: Headers): boolean {
  const encoding = textOf(headers['content-encoding'])?.trim().toLowerCase() ?? '';
  if (encoding !== '' && encoding !== 'identity') return false;
  const charset = /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(textOf(headers['content-type']) ?? '')?.[1];
  return charset === undefined || /^(?:utf-?8|us-ascii|ascii)$/i.test(charset);
}

/** So many bytes have room for a byte order mark and the name of a field. */
const SEEN_BYTES = 16;
const MARK = [0xef, 0xbb, 0xbf] as const;
const SPACE = 0x20;
const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
const FIELDS = ['data', 'event', 'id', 'retry'] as const;

/**
 * Returns the kind of an answer by its first bytes; undefined while they leave it open.
 *
 * @param head the answer from its first byte
 */
export function kindOf(head: Buffer): AnswerKind | undefined {
  let at = 0;
  while (at < MARK.length && head[at] === MARK[at]) at++;
  if (at < MARK.length) {
    if (at === head.length) return undefined;
    if (at > 0) return 'unread';
  }
  while (at < head.length && isWhiteSpace(head[at]!)) at++;
  if (at === head.length) return undefined;
  const first = head[at];
  if (first === OPEN_BRACE || first === OPEN_BRACKET) return 'json';
  const text = head.toString('latin1', at, at + SEEN_BYTES);
  const name = /^[a-z]*/.exec(text)![0];
  const next = text[name.length];
  if (next === ':' && (name === '' || isField(name))) return 'events';
  if (next === '\n' || next === '\r') return isField(name) ? 'events' : 'unread';
  const mayBeField = next === undefined && FIELDS.some((field) => field.startsWith(name));
  return mayBeField ? undefined : 'unread';
}

function isField(name: string): boolean {
  return (FIELDS as readonly string[]).includes(name);
}

function isWhiteSpace(byte: number): boolean {
  return byte === SPACE || (byte >= 0x09 && byte <= 0x0d);
}
