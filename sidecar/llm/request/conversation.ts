/**
 * Names the conversation of a request, so that its turns can be recognised while other conversations have the same system prompt.
 * Each turn repeats what its user has said before, so a name is a digest of the user's first messages:
 *
 *     turn 1   system, user A                             A
 *     turn 2   system, user A, assistant, user B          A B      goes where A went
 *     turn 3   system, user A, …, user B, …, user C       A B C    goes where A B went
 *     another  system, user D                             D        known nowhere
 *
 * Only the last name of a turn is remembered, so that examples at the head of a prompt, which many conversations
 * have in common, name none of them. Pure.
 */
import { createHash } from 'node:crypto';
import { isObject } from '../../node/json.ts';
import { type Body, viewsOf } from '../shared/body.ts';
import { BACKSLASH, CLOSE_OBJECT, COMMA, OPEN_OBJECT, QUOTE } from './json-bytes.ts';
import type { JsonScan } from './json-scan.ts';

/** Where the APIs have the messages: chats and Anthropic's, responses, Gemini's. */
export const MESSAGES_KEYS = ['messages', 'input', 'contents'] as const;
/** A conversation keeps its name from this message of its user on. */
const MAX_MESSAGES = 8;
/** The parts of the messages that are read: the second where the first has no message of the user. */
const WINDOWS = [65_536, 1_048_576];
/** Of a longer message the beginning counts. */
const MAX_MESSAGE_BYTES = 32_768;
const ROLE = /^\{\s*"role"\s*:\s*"([a-z]{1,20})"/;
const ROLE_BYTES = 64;

/**
 * Returns the names that a conversation had, one for each message of its user: the last one is that of this turn. Empty where
 * the body has no messages.
 *
 * @param about what else distinguishes conversations, such as the model
 */
export function conversationNames(body: Body, scan: JsonScan | undefined, about: string): string[] {
  const range = MESSAGES_KEYS.map((key) => scan?.fields.get(key)?.ranges.at(-1)).find(Boolean);
  if (range === undefined) return [];
  for (const bytes of WINDOWS) {
    const end = Math.min(range.end, range.start + bytes);
    const names = namesIn(joined(viewsOf(body, range.start, end)), about);
    if (names.length > 0 || end === range.end) return names;
  }
  return [];
}

function joined(views: readonly Buffer[]): Buffer {
  return views.length === 1 ? views[0]! : Buffer.concat(views);
}

/** @param text the value: a list of messages, or one message that is a string */
function namesIn(text: Buffer, about: string): string[] {
  const hash = createHash('sha1').update(about);
  if (text[0] === QUOTE) return [hash.update(head(text)).digest('base64')];
  const names: string[] = [];
  for (const element of elementsOf(text)) {
    const said = saidByUser(element);
    if (said === undefined) continue;
    hash.update(said);
    names.push(hash.copy().digest('base64'));
    if (names.length === MAX_MESSAGES) break;
  }
  return names;
}

/** What tells a message of the user from others; undefined for a message of anybody else. */
function saidByUser(element: Buffer): Buffer | string | undefined {
  const role = ROLE.exec(element.toString('latin1', 0, ROLE_BYTES))?.[1];
  if (role !== undefined && role !== 'user') return undefined;
  if (element.length > MAX_MESSAGE_BYTES) return role === 'user' ? head(element) : undefined;
  const message = parsed(element);
  if (!isObject(message)) return undefined;
  const { content, parts } = message;
  // Gemini's messages need no role.
  if ((message['role'] ?? (parts === undefined ? '' : 'user')) !== 'user') return undefined;
  const said = typeof content === 'string' ? [{ type: 'text', text: content }] : (content ?? parts);
  return JSON.stringify(said, withoutMarks);
}

/** Clients of Anthropic mark the end of what is to be cached, at another message in each turn. */
function withoutMarks(key: string, value: unknown): unknown {
  return key === 'cache_control' ? undefined : value;
}

function head(bytes: Buffer): Buffer {
  return bytes.subarray(0, MAX_MESSAGE_BYTES);
}

function parsed(element: Buffer): unknown {
  try {
    return JSON.parse(element.toString());
  } catch {
    return undefined;
  }
}

/** The objects of a list; the last one may be cut. */
function* elementsOf(text: Buffer): Generator<Buffer> {
  let depth = 0;
  let start = -1;
  for (let at = 0; at < text.length; at++) {
    const byte = text[at]!;
    if (byte === QUOTE) at = endOfString(text, at);
    // Brackets of lists differ from those of objects in this bit.
    else if ((byte | 0x20) === OPEN_OBJECT) {
      if (++depth === 2) start = at;
    } else if ((byte | 0x20) === CLOSE_OBJECT) {
      if (--depth === 1) {
        yield text.subarray(start, at + 1);
        start = -1;
      }
    } else if (byte === COMMA && depth === 1) start = -1;
  }
  if (start >= 0) yield text.subarray(start);
}

/** Returns where the quote stands that ends the string, or the end of the text. */
function endOfString(text: Buffer, from: number): number {
  let at = from + 1;
  for (;;) {
    const end = text.indexOf(QUOTE, at);
    if (end < 0) return text.length;
    let backslashes = 0;
    while (text[end - 1 - backslashes] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end;
    at = end + 1;
  }
}
