/**
 * Finds errors in answers with a good status: in the first event of a stream, in a later one, or in place of a plain
 * answer. Each error stands for the status that the provider would have given it. Pure.
 */

import { isObject, type JsonObject } from '../../node/json.ts';
import type { AnswerError } from '../kinds/answer-facts.ts';
import { billingWord } from './error-body.ts';

/** The words of providers for their errors, in `code`, `type` or `status`; the first row that matches decides. */
const WORDS: readonly (readonly [words: RegExp, status: number])[] = [
  [/rate.?limit|too.?many.?requests|resource.?exhausted|throttl|quota|^tokens$|^requests$/, 429],
  [/^overloaded_error$/, 529],
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
/** The contents of an answer: an answer with one of them is more than an error. */
const CONTENTS = ['choices', 'data', 'output', 'content', 'embeddings'] as const;

/** Returns the error of a plain answer that is nothing else; undefined for another answer. */
export function errorInsteadOf(answer: unknown): AnswerError | undefined {
  // Gemini puts its error in a list.
  const value = Array.isArray(answer) && answer.length === 1 ? answer[0] : answer;
  if (!isObject(value)) return undefined;
  for (const name of CONTENTS) {
    const content = value[name];
    if (Array.isArray(content) ? content.length > 0 : typeof content === 'string') return undefined;
  }
  return objectError(value);
}

/**
 * Returns the error in an event of a stream; undefined without one.
 *
 * @param type the event's name, or its `type`
 * @param value its data; undefined for data that are no JSON
 */
export function errorInEvent(type: string | undefined, value: unknown): AnswerError | undefined {
  const found = isObject(value) ? objectError(value) : undefined;
  if (found !== undefined || type !== 'error') return found;
  return isObject(value) ? read(value, {}) : UNNAMED;
}

function objectError(value: JsonObject): AnswerError | undefined {
  const response = value['response'];
  // The Responses API has the error here, in a plain answer and in the event `response.failed`.
  const failed = isObject(response) ? response : value;
  const error = value['error'] ?? failed['error'];
  if (isObject(error)) return Object.keys(error).length > 0 ? read(error, value) : undefined;
  if (typeof error === 'string' && error !== '') return read({ ...value, message: error }, {});
  if (value['object'] === 'error' || value['type'] === 'error') return read(value, {});
  return failed['status'] === 'failed' && typeof failed['object'] === 'string' ? read({}, {}) : undefined;
}

/** @param outer the object around the error: some providers put the status there */
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

/** An error without a known word is the server's: providers name what a caller did wrong. */
function statusOfWords(words: readonly string[]): number {
  for (const [known, status] of WORDS)
    if (words.some((word) => known.test(word.toLowerCase()))) return status;
  return SERVER_ERROR;
}

function numeric(value: unknown): number | undefined {
  const status = typeof value === 'string' && /^\d{3}$/.test(value) ? Number(value) : value;
  return typeof status === 'number' && status >= 400 && status <= 599 ? status : undefined;
}
