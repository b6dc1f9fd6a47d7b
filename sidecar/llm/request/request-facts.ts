/** Reads the body of a request: its model, whether its answer is a stream, and how many tokens it may use. Pure. */

import { isObject } from '../../node/json.ts';
import type { Asked } from '../kinds/asked.ts';
import { traitsOf } from '../kinds/operations.ts';
import type { Body } from '../shared/body.ts';
import type { ApiName, Operation } from '../shared/operation.ts';
import { MESSAGES_KEYS } from './conversation.ts';
import { DataParts } from './data-parts.ts';
import { textsOf } from './json-field-path.ts';
import { JsonScan } from './json-scan.ts';
import { TOKENS_PER_REFERENCE } from './spending.ts';

export interface RequestFacts {
  readonly api: ApiName;
  readonly operation: Operation;
  /** The model that the caller names, in the path or in the body; '' without one. */
  readonly model: string;
  /** The path names the model. */
  readonly isModelInPath: boolean;
  /** The model in the body; '' without one. */
  readonly bodyModel: string;
  readonly stream: boolean;
  /** The stream is one JSON array. */
  readonly isArray: boolean;
  /** The request's own maximum for the answer, over all its choices; 0 without one. */
  readonly maxOutputTokens: number;
  /** The number of answers. */
  readonly choices: number;
  /** An estimate of the prompt's tokens, for the limits of a minute; the provider's `usage` corrects it. */
  readonly estimatedInputTokens: number;
  /** The caller itself requests the usage of a stream. */
  readonly includesUsage: boolean;
  /** `stream_options` of the request; undefined without it. */
  readonly streamOptions: Readonly<Record<string, unknown>> | undefined;
  /** The scan of a body that is a JSON object; undefined for any other body, which the provider will refuse. */
  readonly scan: JsonScan | undefined;
  /** Whether there is a scan. */
  readonly understood: boolean;
  readonly temperature: number | undefined;
  /** `prompt_cache_key`: requests with one name share a cache; '' without one. */
  readonly cacheKey: string;
  /** The stored response that the request continues; '' without one. */
  readonly previousResponse: string;
}

/** English has about four bytes a token; code and other scripts have fewer. */
const BYTES_PER_TOKEN = 4;
const MODEL_MAX_LENGTH = 256;

/** Keys by which a provider, or a gateway behind this one, takes another model than `model` names. */
export const MODEL_CHOOSERS = [
  'fallbacks',
  'context_window_fallbacks',
  'content_policy_fallbacks',
  'preset',
] as const;

/** The keys at the top level of a request that a policy reads, or changes. */
export const READ_KEYS: ReadonlySet<string> = new Set([
  'model',
  'models',
  'stream',
  'stream_options',
  'temperature',
  'n',
  'best_of',
  'prompt',
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'generationConfig',
  'generation_config',
  'cachedContent',
  'cached_content',
  'prompt_cache_key',
  'previous_response_id',
  'conversation',
  ...MESSAGES_KEYS,
  'web_search_options',
  ...MODEL_CHOOSERS,
]);

/** The types of message parts that are no text. */
const REFERENCES: ReadonlySet<string> = new Set([
  'image_url',
  'input_image',
  'input_audio',
  'input_file',
  'file',
  'image',
  'document',
]);

/**
 * Returns a scan for the body of a request, for {@link readRequestFacts}; undefined where no policy reads the body.
 *
 * @param hasBudget a budget bounds its tokens, so the scan looks at more
 * @param keys those at the top level that it looks for
 */
export function requestScan(
  operation: Operation,
  hasBudget = false,
  keys: ReadonlySet<string> = READ_KEYS,
): JsonScan | undefined {
  if (!traitsOf(operation).readsRequest) return undefined;
  return new JsonScan(keys, REFERENCES, hasBudget ? new DataParts() : undefined);
}

/** What the path of a request says. */
type Place = Pick<Asked, 'api' | 'model' | 'isStream' | 'isArray'>;

const NO_PLACE: Place = { api: 'openai', model: '', isStream: false, isArray: false };

/** @param scan the scan of the whole body; undefined where no policy reads it */
export function readRequestFacts(
  operation: Operation,
  body: Body,
  scan: JsonScan | undefined,
  place: Place = NO_PLACE,
): RequestFacts {
  const traits = traitsOf(operation);
  if (scan === undefined || !scan.isWhole) return unread(operation, traits.isCounted ? body.bytes : 0, place);
  const model = lastOf(scan, 'model');
  const bodyModel = typeof model === 'string' ? model.slice(0, MODEL_MAX_LENGTH) : '';
  const temperature = lastOf(scan, 'temperature');
  const options = lastOf(scan, 'stream_options');
  const streamOptions = isObject(options) ? options : undefined;
  let choices = 0;
  for (const field of traits.choicesFields) choices ||= largestOf(scan, field);
  choices = Math.max(1, choices);
  const textBytes = Math.max(0, body.bytes - scan.partBytes);
  const referred = scan.parts * TOKENS_PER_REFERENCE;
  return {
    api: place.api,
    operation,
    ...modelOf(place, bodyModel),
    isArray: place.isArray,
    stream: place.isStream || (place.api !== 'gemini' && lastOf(scan, 'stream') === true),
    maxOutputTokens: choices * maxOutput(operation, scan),
    choices,
    estimatedInputTokens: Math.ceil(textBytes / BYTES_PER_TOKEN) + referred,
    includesUsage: streamOptions?.['include_usage'] === true,
    streamOptions,
    scan,
    understood: true,
    temperature: typeof temperature === 'number' ? temperature : undefined,
    cacheKey: stringOf(scan, 'prompt_cache_key'),
    previousResponse: stringOf(scan, 'previous_response_id'),
  };
}

function modelOf({ model }: Place, bodyModel: string) {
  const isModelInPath = model !== '';
  return { model: isModelInPath ? model.slice(0, MODEL_MAX_LENGTH) : bodyModel, isModelInPath, bodyModel };
}

function unread(operation: Operation, bytes: number, place: Place): RequestFacts {
  return {
    api: place.api,
    operation,
    ...modelOf(place, ''),
    isArray: place.isArray,
    stream: place.isStream,
    maxOutputTokens: 0,
    choices: 1,
    estimatedInputTokens: Math.ceil(bytes / BYTES_PER_TOKEN),
    includesUsage: false,
    streamOptions: undefined,
    scan: undefined,
    understood: false,
    temperature: undefined,
    cacheKey: '',
    previousResponse: '',
  };
}

function maxOutput(operation: Operation, scan: JsonScan): number {
  for (const field of traitsOf(operation).maxOutputFields) {
    const most = mostOf(scan, field);
    if (most > 0) return most;
  }
  return 0;
}

/** Returns the field that bounds the answer of an operation; undefined where none does. */
export function maxOutputField(operation: Operation): string | undefined {
  return traitsOf(operation).maxOutputFields[0];
}

/** Returns the value of a key; the last one, as most servers do. */
function lastOf(scan: JsonScan, key: string): unknown {
  return parsed(scan.fields.get(key)?.texts.at(-1));
}

function stringOf(scan: JsonScan, key: string): string {
  const value = lastOf(scan, key);
  return typeof value === 'string' ? value : '';
}

/** Returns the largest of a field's values: no server takes a larger one. */
function largestOf(scan: JsonScan, field: string): number {
  return (textsOf(scan, field) ?? []).reduce((most, text) => Math.max(most, whole(parsed(text))), 0);
}

/** The same for a maximum: 0, which is no maximum, where one of the values is none. */
function mostOf(scan: JsonScan, field: string): number {
  const texts = textsOf(scan, field) ?? [];
  return texts.some((text) => whole(parsed(text)) === 0) ? 0 : largestOf(scan, field);
}

function parsed(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function whole(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}
