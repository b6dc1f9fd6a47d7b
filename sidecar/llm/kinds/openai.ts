/**
 * OpenAI's API, and the kind of upstream that it comes from. Azure, and the providers of kind `compatible`, speak the same
 * API; Gemini has it under a path of its own.
 *
 * - paths: `/v1/…`; the model stands in the body
 * - key: `Authorization: Bearer`
 * - the answer is bounded by `max_completion_tokens`, `max_tokens` or `max_output_tokens`
 * - a stream ends with `data: [DONE]`, the `finish_reason` of its last choice, or `response.completed` and the like
 * - an error is `{"error":{"message","type","param","code"}}`, in a stream an event of the same form, or `event: error`
 * - limits: `x-ratelimit-*`; a wait: `retry-after-ms`, `Retry-After`
 */
import type { Operation } from '../shared/operation.ts';
import { readChoices, readResponse, readUsage } from './openai-answers.ts';
import {
  dialect,
  generating,
  NOTHING,
  type OwnError,
  type ProviderApi,
  type ProviderKind,
  type QuotaHeaders,
  unread,
} from './traits.ts';

/** The operations of POST, by the whole path. */
const POSTS: Readonly<Record<string, Operation>> = {
  '/chat/completions': 'chat',
  '/completions': 'completions',
  '/responses': 'responses',
  '/embeddings': 'embeddings',
  '/images/generations': 'images',
};
/** First segments of paths whose answers the egress does not read; the log shows their names. */
const UNREAD: ReadonlySet<string> = new Set(['audio', 'files', 'batches', 'realtime']);

function operationOf(method: string, path: string): Operation {
  if (method === 'POST' && Object.hasOwn(POSTS, path)) return POSTS[path]!;
  const first = path.split('/', 2)[1] ?? '';
  if (first === 'models' && method === 'GET') return 'models';
  return UNREAD.has(first) ? (first as Operation) : 'other';
}

function errorObject({ reason, message }: OwnError) {
  return { message, type: 'outrigger_error', param: null, code: reason };
}

/** Clients of completions read the `error` of any event. */
const CHOICES = dialect({
  choices: { list: 'choices', reason: 'finish_reason' },
  read: readChoices,
  errorEvent: (error) => `data: ${JSON.stringify({ error: errorObject(error) })}\n\n`,
});

/** Clients of the Responses API read the event itself. */
function namedError(error: OwnError): string {
  const object = errorObject(error);
  return `event: error\ndata: ${JSON.stringify({ ...object, type: 'error', error: object })}\n\n`;
}

const RESPONSES = dialect({
  endTypes: new Set(['response.completed', 'response.incomplete', 'response.failed', 'response.cancelled']),
  read: readResponse,
  errorEvent: namedError,
});

const IMAGES = dialect({ isUnmarked: true, read: readUsage, errorEvent: namedError });

const COMPLETIONS = {
  ...generating(readChoices),
  asksForUsage: true,
  events: CHOICES,
};
const DATA = { ...unread(), readsRequest: true, answersJson: true, read: readUsage };

export const OPENAI_API: ProviderApi = {
  name: 'openai',
  title: "OpenAI's API",
  operations: {
    chat: {
      ...COMPLETIONS,
      maxOutputFields: ['max_completion_tokens', 'max_tokens'],
      unseenFields: ['web_search_options'],
    },
    completions: { ...COMPLETIONS, maxOutputFields: ['max_tokens'] },
    responses: {
      ...generating(readResponse),
      maxOutputFields: ['max_output_tokens'],
      unseenFields: ['previous_response_id', 'conversation', 'prompt'],
      events: RESPONSES,
    },
    embeddings: { ...DATA, isCounted: true },
    images: { ...DATA, events: IMAGES },
    models: { ...unread(), answersJson: true, read: NOTHING },
  },
  operationOf,
  tooLong: /context_length_exceeded|maximum context length|context window|too many tokens/i,
  models: {
    query: '',
    key: 'data',
    id: 'id',
    idOf: ({ id }) => String(id),
    entry: (name) => ({ id: name, object: 'model', created: 0, owned_by: 'outrigger' }),
    list: (data) => ({ object: 'list', data }),
  },
  errorBody: (error) => ({ error: errorObject(error) }),
};

/** The limits of OpenAI, and of those who follow it. */
export const OPENAI_QUOTAS: readonly QuotaHeaders[] = (['requests', 'tokens'] as const).map((what) => ({
  what,
  limit: `x-ratelimit-limit-${what}`,
  remaining: `x-ratelimit-remaining-${what}`,
  reset: `x-ratelimit-reset-${what}`,
}));

export const OPENAI: ProviderKind = {
  name: 'openai',
  apis: new Set(['openai']),
  alsoSpeaks: new Set(),
  hosts: /(?:^|\.)api\.openai\.com$/,
  pathOf: (basePath, { path }) => basePath + path,
  isModelInPath: () => false,
  authorize: (sent, _callers, key) => {
    sent['authorization'] = `Bearer ${key}`;
  },
  quotas: OPENAI_QUOTAS,
};
