/**
 * Anthropic's API, and the kind of upstream that it comes from.
 *
 * - paths: `/v1/messages`, `/v1/messages/count_tokens`, `/v1/messages/batches`, `/v1/models`; the model stands in the body
 * - key: `x-api-key`; tokens of an account (`sk-ant-oat…`) go as `Authorization: Bearer`
 * - the answer is bounded by `max_tokens`, which every request must have
 * - a stream ends with `message_stop`; an error may come in a 200, as `event: error`
 * - an error is `{"type":"error","error":{"type","message"}}`; 529 is `overloaded_error`
 * - limits: `anthropic-ratelimit-*`, whose resets are times; a wait: `Retry-After`
 */
import { isObject, type JsonObject } from '../../node/json.ts';
import type { Operation } from '../shared/operation.ts';
import { type AnswerFacts, count, joined, noteNames, noteTier, type Usage } from './answer-facts.ts';
import {
  dialect,
  generating,
  NOTHING,
  type OwnError,
  type ProviderApi,
  type ProviderKind,
  unread,
} from './traits.ts';

function operationOf(method: string, path: string): Operation {
  if (method === 'POST' && path === '/messages') return 'messages';
  if (method === 'POST' && path === '/messages/count_tokens') return 'count_tokens';
  if (/^\/messages\/batches(?:\/|$)/.test(path)) return 'batches';
  const [, first = ''] = path.split('/', 2);
  if (first === 'models' && method === 'GET') return 'models';
  return first === 'files' ? 'files' : 'other';
}

/** Reads a message, or an event of its stream. */
function read(value: JsonObject, facts: AnswerFacts): string | undefined {
  if (value['type'] === 'message_start') {
    const message = value['message'];
    if (!isObject(message)) return undefined;
    // The beginning tells the input; the output of it is a placeholder.
    facts.earlyUsage = usageOf(message['usage'], undefined);
    noteNames(facts, message['model'], message['id']);
    noteTierOf(facts, message['usage']);
    return undefined;
  }
  facts.usage = usageOf(value['usage'], facts.earlyUsage) ?? facts.usage;
  noteNames(facts, value['model'], value['id']);
  noteTierOf(facts, value['usage']);
  if (typeof value['stop_reason'] === 'string') facts.finishReason = value['stop_reason'];
  const delta = value['delta'];
  if (!isObject(delta)) return textOf(value['content']);
  if (typeof delta['stop_reason'] === 'string') facts.finishReason = delta['stop_reason'];
  const text = delta['text'] ?? delta['thinking'] ?? delta['partial_json'];
  return typeof text === 'string' ? text : undefined;
}

/** The text of a plain message, and the input of its calls. */
function textOf(content: unknown): string | undefined {
  if (!Array.isArray(content)) return undefined;
  let text: string | undefined;
  for (const block of content) {
    if (!isObject(block)) continue;
    text = joined(text, block['text'] ?? block['thinking']);
    if (isObject(block['input'])) text = (text ?? '') + JSON.stringify(block['input']);
  }
  return text;
}

function noteTierOf(facts: AnswerFacts, usage: unknown): void {
  if (isObject(usage)) noteTier(facts, usage['service_tier']);
}

/**
 * Reads a usage. `input_tokens` leaves out what was read from a cache or written to one; the last usage of a stream may
 * repeat the counts of the first, or leave them out.
 */
function usageOf(value: unknown, early: Usage | undefined): Usage | undefined {
  if (!isObject(value)) return undefined;
  const fresh = count(value['input_tokens']);
  const output = count(value['output_tokens']);
  if (fresh === undefined && output === undefined) return undefined;
  const read = count(value['cache_read_input_tokens']) ?? early?.cacheReadTokens ?? 0;
  const written = count(value['cache_creation_input_tokens']);
  const byLife = value['cache_creation'];
  const hour = isObject(byLife) ? count(byLife['ephemeral_1h_input_tokens']) : undefined;
  const earlyHour = early?.cacheWrite1hTokens ?? 0;
  const cacheWrite1hTokens = hour ?? (written === undefined ? earlyHour : Math.min(earlyHour, written));
  const cacheWrite5mTokens =
    written === undefined ? (early?.cacheWrite5mTokens ?? 0) : Math.max(0, written - cacheWrite1hTokens);
  const details = value['output_tokens_details'];
  const earlyFresh =
    early === undefined
      ? 0
      : early.inputTokens - early.cacheReadTokens - early.cacheWrite5mTokens - early.cacheWrite1hTokens;
  return {
    inputTokens: (fresh ?? earlyFresh) + read + cacheWrite5mTokens + cacheWrite1hTokens,
    cacheReadTokens: read,
    cacheWrite5mTokens,
    cacheWrite1hTokens,
    outputTokens: output ?? 0,
    reasoningTokens: (isObject(details) ? count(details['thinking_tokens']) : undefined) ?? 0,
  };
}

/** The words for errors, by status; clients show them. */
const TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
  504: 'timeout_error',
  529: 'overloaded_error',
};

function errorBody({ status, message }: OwnError) {
  const type = TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error');
  return { type: 'error', error: { type, message } };
}

const EVENTS = dialect({
  endTypes: new Set(['message_stop']),
  read,
  errorEvent: (error) => `event: error\ndata: ${JSON.stringify(errorBody(error))}\n\n`,
});

export const ANTHROPIC_API: ProviderApi = {
  name: 'anthropic',
  title: "Anthropic's API",
  operations: {
    messages: { ...generating(read), maxOutputFields: ['max_tokens'], events: EVENTS },
    count_tokens: { ...unread(), readsRequest: true, generatesText: true, answersJson: true },
    models: { ...unread(), answersJson: true, read: NOTHING },
  },
  operationOf,
  tooLong: /prompt is too long|exceed context limit|context window/i,
  models: {
    query: '?limit=1000',
    key: 'data',
    id: 'id',
    idOf: ({ id }) => String(id),
    entry: (name) => ({ type: 'model', id: name, display_name: name, created_at: '1970-01-01T00:00:00Z' }),
    list: (data) => ({
      data,
      has_more: false,
      first_id: data[0]?.['id'] ?? null,
      last_id: data.at(-1)?.['id'] ?? null,
    }),
  },
  errorBody,
};

export const ANTHROPIC: ProviderKind = {
  name: 'anthropic',
  apis: new Set(['anthropic']),
  alsoSpeaks: new Set(),
  hosts: /(?:^|\.)api\.anthropic\.com$/,
  // The base URL of its clients has no `/v1`; the one of an upstream may have it.
  pathOf: (basePath, { path }) => (basePath.endsWith('/v1') ? basePath : `${basePath}/v1`) + path,
  isModelInPath: () => false,
  authorize: (sent, callers, key, api) => {
    // It has `/v1/chat/completions` for OpenAI's clients, which upstreams without a configured kind may use.
    if (api === 'openai' || key.startsWith('sk-ant-oat')) sent['authorization'] = `Bearer ${key}`;
    else sent['x-api-key'] = key;
    if (api === 'openai') return;
    // The API refuses requests without a version; its own clients send one.
    sent['anthropic-version'] ??= callers['anthropic-version'] ?? '2023-06-01';
  },
  // The first two are what counts; the resets of the others tell how long a 429 lasts.
  quotas: (['requests', 'tokens', 'input-tokens', 'output-tokens'] as const).map((name) => ({
    what: name === 'requests' || name === 'tokens' ? name : undefined,
    limit: `anthropic-ratelimit-${name}-limit`,
    remaining: `anthropic-ratelimit-${name}-remaining`,
    reset: `anthropic-ratelimit-${name}-reset`,
  })),
};
