/**
 * Gemini's API, and the kind of upstream that it comes from, which has OpenAI's API (`openai.ts`), too.
 *
 * - paths: `/v1beta/models/NAME:generateContent`, `:streamGenerateContent` (`?alt=sse`, or else one JSON array),
 *   `:embedContent`, `:countTokens`; OpenAI's API under `/v1beta/openai`
 * - key: `x-goog-api-key`; on OpenAI's paths `Authorization: Bearer`
 * - the answer is bounded by `generationConfig.maxOutputTokens`, for each of `generationConfig.candidateCount`
 * - a stream has no marker: it is whole with the `finishReason` of each candidate, or a `blockReason` of the prompt
 * - an error is `{"error":{"code","message","status"}}`, in an array where the stream is one
 * - limits: no headers; a wait: `retryDelay` of a `RetryInfo` in the error
 */
import { isObject, type JsonObject } from '../../node/json.ts';
import type { Operation } from '../shared/operation.ts';
import { decoded } from '../shared/provider-credentials.ts';
import { type AnswerFacts, count, joined, noteNames, type Usage } from './answer-facts.ts';
import {
  dialect,
  generating,
  NOTHING,
  type OwnError,
  type ProviderApi,
  type ProviderKind,
  unread,
} from './traits.ts';

/** The last part of a path names what a model does, in lower case as all of it. */
const METHODS: Readonly<Record<string, Operation>> = {
  generatecontent: 'generate',
  streamgeneratecontent: 'generate',
  embedcontent: 'embed',
  batchembedcontents: 'embed',
  counttokens: 'count_tokens',
};

function operationOf(method: string, path: string): Operation {
  const verb = /:([a-z]+)$/.exec(path)?.[1];
  if (verb !== undefined) return (method === 'POST' && METHODS[verb]) || 'other';
  const [, first = ''] = path.split('/', 2);
  if (first === 'models' && method === 'GET') return 'models';
  return first === 'files' || first === 'batches' ? first : 'other';
}

/** Reads an answer, or one event of a stream: they have one form. */
function read(value: JsonObject, facts: AnswerFacts): string | undefined {
  facts.usage = usageOf(value['usageMetadata']) ?? facts.usage;
  noteNames(facts, value['modelVersion'], value['responseId']);
  const { candidates } = value;
  if (!Array.isArray(candidates)) {
    const blocked = blockReason(value);
    if (blocked !== undefined) facts.finishReason = blocked;
    return undefined;
  }
  let text: string | undefined;
  for (const candidate of candidates) {
    if (!isObject(candidate)) continue;
    if (typeof candidate['finishReason'] === 'string') facts.finishReason = candidate['finishReason'];
    const { content } = candidate;
    const parts = isObject(content) ? content['parts'] : undefined;
    if (!Array.isArray(parts)) continue;
    for (const part of parts) {
      if (!isObject(part)) continue;
      text = joined(text, part['text']);
      if (part['functionCall'] !== undefined) text = (text ?? '') + JSON.stringify(part['functionCall']);
    }
  }
  return text;
}

/** The prompt includes what came from the cache; thoughts stand beside the candidates. */
function usageOf(value: unknown): Usage | undefined {
  if (!isObject(value)) return undefined;
  const prompt = count(value['promptTokenCount']);
  const candidates = count(value['candidatesTokenCount']);
  const reasoningTokens = count(value['thoughtsTokenCount']) ?? 0;
  if (prompt === undefined && candidates === undefined && reasoningTokens === 0) return undefined;
  return {
    inputTokens: (prompt ?? 0) + (count(value['toolUsePromptTokenCount']) ?? 0),
    cacheReadTokens: count(value['cachedContentTokenCount']) ?? 0,
    cacheWrite5mTokens: 0,
    cacheWrite1hTokens: 0,
    outputTokens: (candidates ?? 0) + reasoningTokens,
    reasoningTokens,
  };
}

function blockReason(value: JsonObject): string | undefined {
  const { promptFeedback } = value;
  const reason = isObject(promptFeedback) ? promptFeedback['blockReason'] : undefined;
  return typeof reason === 'string' ? reason : undefined;
}

/** The words of Google's errors, by status (google.rpc.Code). */
const STATUSES: Readonly<Record<number, string>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  409: 'ABORTED',
  429: 'RESOURCE_EXHAUSTED',
  501: 'UNIMPLEMENTED',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
};

function errorBody({ status, reason, message }: OwnError) {
  const word = STATUSES[status] ?? (status < 500 ? 'FAILED_PRECONDITION' : 'INTERNAL');
  const info = { '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason, domain: 'outrigger.dev' };
  return { error: { code: status, message, status: word, details: [info] } };
}

const EVENTS = dialect({
  choices: { list: 'candidates', reason: 'finishReason' },
  endsWith: (value) => blockReason(value) !== undefined,
  read,
  errorEvent: (error) => `data: ${JSON.stringify(errorBody(error))}\n\n`,
  errorElement: (error) => JSON.stringify(errorBody(error)),
});

export const GEMINI_API: ProviderApi = {
  name: 'gemini',
  title: "Gemini's API",
  operations: {
    generate: {
      ...generating(read),
      maxOutputFields: ['generationConfig.maxOutputTokens', 'generation_config.max_output_tokens'],
      choicesFields: ['generationConfig.candidateCount', 'generation_config.candidate_count'],
      unseenFields: ['cachedContent', 'cached_content'],
      events: EVENTS,
    },
    embed: { ...unread(), readsRequest: true, isCounted: true, answersJson: true },
    count_tokens: { ...unread(), readsRequest: true, generatesText: true, answersJson: true },
    models: { ...unread(), answersJson: true, read: NOTHING },
  },
  operationOf,
  tooLong: /input token count .*exceeds|exceeds the maximum number of tokens/i,
  models: {
    query: '?pageSize=1000',
    key: 'models',
    id: 'name',
    idOf: ({ name }) => String(name).replace(/^models\//, ''),
    entry: (name) => ({
      name: `models/${name}`,
      displayName: name,
      supportedGenerationMethods: ['generateContent', 'countTokens'],
    }),
    list: (models) => ({ models }),
  },
  errorBody,
};

/** Returns the wait of a `google.rpc.RetryInfo` among an error's details: `{"retryDelay":"34.07s"}`. */
function waitInBody(error: JsonObject): number | undefined {
  const { details } = error;
  if (!Array.isArray(details)) return undefined;
  for (const detail of details) {
    const delay = isObject(detail) ? detail['retryDelay'] : undefined;
    if (typeof delay === 'string' && /^\d{1,9}(?:\.\d{1,9})?s$/.test(delay))
      return Math.ceil(Number.parseFloat(delay) * 1000);
  }
  return undefined;
}

/** A model's name in a path, with the version of the API before it. */
const MODEL = /^\/models\/[^/:?]+(?=[:?]|$)/;

export const GEMINI: ProviderKind = {
  name: 'gemini',
  apis: new Set(['gemini']),
  alsoSpeaks: new Set(['openai']),
  hosts: /(?:^|\.)generativelanguage\.googleapis\.com$/,
  pathOf: (basePath, { api, base, path, model }) => {
    const root = basePath.replace(/\/v1(?:alpha|beta)?(?:\/openai)?$/, '');
    // A URL that ends with /openai is for OpenAI's clients alone, and keeps its version.
    if (api === 'openai') return `${/\/openai$/.test(basePath) ? basePath : `${root}/v1beta/openai`}${path}`;
    const callers = MODEL.exec(path)?.[0];
    // The caller's own spelling stays where the model does.
    const isOther = callers !== undefined && model !== '' && decoded(callers) !== `/models/${model}`;
    return (
      root + base + (isOther ? `/models/${encodeURIComponent(model)}${path.slice(callers.length)}` : path)
    );
  },
  isModelInPath: (_basePath, { api }) => api === 'gemini',
  authorize: (sent, _callers, key, api) => {
    if (api === 'openai' || key.startsWith('ya29.')) sent['authorization'] = `Bearer ${key}`;
    else sent['x-goog-api-key'] = key;
  },
  quotas: [],
  waitInBody,
};
