/**
 * Finds errors in answers whose status says that all is well: the first event of a stream, a later one, or a plain answer that
 * is nothing else. Each is taken for the status that the provider would have given it. Pure.
 */

import { isObject, type JsonObject } from '../../node/json.ts';
import { billingWord } from './error-body.ts';

export interface AnswerError {
  /** That it stands for: 400 to 599. */
  readonly status: number;
  /** The provider's word for it; '' when it has none that can be shown. */
  readonly code: string;
  /** Its words for people, never shown as they are: it may name a key. */
  readonly message: string;
  /** The provider's word for missing money, if that is it. */
  readonly outOfCredit: string | undefined;
}

/** What providers call their errors, in `code`, `type` or `status`; the first row that fits holds. */
const WORDS: readonly (readonly [words: RegExp, status: number])[] = [
  [/rate.?limit|too.?many.?requests|resource.?exhausted|throttl|quota|^tokens$|^requests$/, 429],
  [/overload|unavailable|capacity/, 503],
  [/time.?out|deadline/, 504],
  [/authentication|api.?key|unauthori[sz]ed|unauthenticated/, 401],
  [/billing|credit|balance|payment/, 402],
  [/permission|forbidden/, 403],
  [/not.?found/, 404],
  [/too.?large/, 413],
  [/invalid|bad.?request|unsupported|not.?supported|context.?length|content|policy|safety|prompt|image/, 400],
];
const SERVER_ERROR = 500;
const PAYMENT_REQUIRED = 402;
const MAX_MESSAGE_CHARS = 2_048;
const UNNAMED: AnswerError = { status: SERVER_ERROR, code: '', message: '', outOfCredit: undefined };
const SHOWN_CODE = /^[\w.:-]{1,64}$/;
/** What an answer consists of: with one of these beside it an error is not all there is. */
const CONTENTS = ['choices', 'data', 'output', 'content', 'embeddings'] as const;

/** The error that a plain answer is, and nothing else. */
export function errorInsteadOf(answer: unknown): AnswerError | undefined {
  // Gemini's is in a list.
  const value = Array.isArray(answer) && answer.length === 1 ? answer[0] : answer;
  if (!isObject(value)) return undefined;
  for (const name of CONTENTS) {
    const content = value[name];
    if (Array.isArray(content) ? content.length > 0 : typeof content === 'string') return undefined;
  }
  return objectError(value);
}

/**
 * The error that an event of a stream tells.
 *
 * @param type the event's name, or its `type`
 * @param value its data; undefined when they are no JSON
 */
export function errorInEvent(type: string | undefined, value: unknown): AnswerError | undefined {
  const found = isObject(value) ? objectError(value) : undefined;
  if (found !== undefined || type !== 'error') return found;
  return isObject(value) ? read(value, {}) : UNNAMED;
}

function objectError(value: JsonObject): AnswerError | undefined {
  const response = value['response'];
  // Of the Responses API, plain or as the event `response.failed`.
  const failed = isObject(response) ? response : value;
  const error = value['error'] ?? failed['error'];
  if (isObject(error)) return Object.keys(error).length > 0 ? read(error, value) : undefined;
  if (typeof error === 'string' && error !== '') return read({ ...value, message: error }, {});
  if (value['object'] === 'error' || value['type'] === 'error') return read(value, {});
  return failed['status'] === 'failed' && typeof failed['object'] === 'string' ? read({}, {}) : undefined;
}

/** @param outer where the error stands: some have its status there */
function read(error: JsonObject, outer: JsonObject): AnswerError {
  const words = [error['code'], error['type'], error['status']].filter((word) => typeof word === 'string');
  const outOfCredit = billingWord(error);
  let status = numeric(error['code']) ?? numeric(error['status']) ?? numeric(error['status_code']);
  status ??= numeric(outer['code']) ?? numeric(outer['status']) ?? numeric(outer['status_code']);
  status ??= outOfCredit === undefined ? statusOfWords(words) : PAYMENT_REQUIRED;
  const code = words.find((word) => SHOWN_CODE.test(word)) ?? outOfCredit ?? '';
  const isBilling = outOfCredit !== undefined || status === PAYMENT_REQUIRED;
  return {
    status,
    code,
    message: typeof error['message'] === 'string' ? error['message'].slice(0, MAX_MESSAGE_CHARS) : '',
    outOfCredit: isBilling ? (outOfCredit ?? 'payment_required') : undefined,
  };
}

/** An error that nobody has a word for is the server's: what a caller did wrong is named. */
function statusOfWords(words: readonly string[]): number {
  for (const [known, status] of WORDS)
    if (words.some((word) => known.test(word.toLowerCase()))) return status;
  return SERVER_ERROR;
}

function numeric(value: unknown): number | undefined {
  const status = typeof value === 'string' && /^\d{3}$/.test(value) ? Number(value) : value;
  return typeof status === 'number' && status >= 400 && status <= 599 ? status : undefined;
}
