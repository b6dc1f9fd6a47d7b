/** Reads what a request asks for: its model, whether it wants a stream, and how many tokens it may use. Pure. */

import { isObject } from '../../node/json.ts';
import type { Body } from '../shared/body.ts';
import { type Operation, traitsOf } from '../shared/operations.ts';
import { DataParts } from './data-parts.ts';
import { JsonScan } from './json-scan.ts';
import { TOKENS_PER_REFERENCE } from './spending.ts';

export interface RequestFacts {
  readonly operation: Operation;
  /** As the caller names it; '' when it names none. */
  readonly model: string;
  readonly stream: boolean;
  /** The most the answer may have by the request's own words, over all its choices; 0 when it names no maximum. */
  readonly maxOutputTokens: number;
  /** How many answers are asked for. */
  readonly choices: number;
  /** A guess at the tokens of the prompt, for the limits of a minute, which the provider's `usage` corrects. */
  readonly estimatedInputTokens: number;
  /** The caller asks for a stream's usage itself. */
  readonly includesUsage: boolean;
  /** `stream_options` as it stands in the request; undefined when it is not there. */
  readonly streamOptions: Readonly<Record<string, unknown>> | undefined;
  /** Of a body that is the JSON object that the operation wants; any other goes on as it is, for the provider to refuse. */
  readonly scan: JsonScan | undefined;
  /** There is a scan. */
  readonly understood: boolean;
  readonly temperature: number | undefined;
}

/** English has about four bytes a token; code and other scripts have fewer. */
const BYTES_PER_TOKEN = 4;
const MODEL_MAX_LENGTH = 256;

/** The keys at the top level of a request that a policy reads, or changes. */
const READ_KEYS: ReadonlySet<string> = new Set([
  'model',
  'stream',
  'stream_options',
  'temperature',
  'n',
  'best_of',
  'prompt',
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
]);

/** Parts of messages that are no text. */
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
 * Takes the body of a request as it comes, for {@link readRequestFacts}; undefined where nobody looks into it.
 *
 * @param hasBudget its tokens are to be bounded: more is looked at
 */
export function requestScan(operation: Operation, hasBudget = false): JsonScan | undefined {
  if (!traitsOf(operation).readsRequest) return undefined;
  return new JsonScan(READ_KEYS, REFERENCES, hasBudget ? new DataParts() : undefined);
}

/** @param scan of the whole body; undefined where the operation's body is not looked into */
export function readRequestFacts(operation: Operation, body: Body, scan: JsonScan | undefined): RequestFacts {
  if (scan === undefined || !scan.isWhole)
    return unread(operation, traitsOf(operation).isCounted ? body.bytes : 0);
  const model = lastOf(scan, 'model');
  const temperature = lastOf(scan, 'temperature');
  const options = lastOf(scan, 'stream_options');
  const streamOptions = isObject(options) ? options : undefined;
  const choices = Math.max(1, largestOf(scan, 'n') || largestOf(scan, 'best_of'));
  const textBytes = Math.max(0, body.bytes - scan.partBytes);
  const referred = scan.parts * TOKENS_PER_REFERENCE;
  return {
    operation,
    model: typeof model === 'string' ? model.slice(0, MODEL_MAX_LENGTH) : '',
    stream: lastOf(scan, 'stream') === true,
    maxOutputTokens: choices * maxOutput(operation, scan),
    choices,
    estimatedInputTokens: Math.ceil(textBytes / BYTES_PER_TOKEN) + referred,
    includesUsage: streamOptions?.['include_usage'] === true,
    streamOptions,
    scan,
    understood: true,
    temperature: typeof temperature === 'number' ? temperature : undefined,
  };
}

function unread(operation: Operation, bytes: number): RequestFacts {
  return {
    operation,
    model: '',
    stream: false,
    maxOutputTokens: 0,
    choices: 1,
    estimatedInputTokens: Math.ceil(bytes / BYTES_PER_TOKEN),
    includesUsage: false,
    streamOptions: undefined,
    scan: undefined,
    understood: false,
    temperature: undefined,
  };
}

function maxOutput(operation: Operation, scan: JsonScan): number {
  for (const field of traitsOf(operation).maxOutputFields) {
    const most = mostOf(scan, field);
    if (most > 0) return most;
  }
  return 0;
}

/** The field by which an operation is told how long its answer may be; undefined when it has no length. */
export function maxOutputField(operation: Operation): string | undefined {
  return traitsOf(operation).maxOutputFields[0];
}

/** The value of a key; the last one, as most readers have it. */
function lastOf(scan: JsonScan, key: string): unknown {
  return parsed(scan.fields.get(key)?.texts.at(-1));
}

/** The largest of the values of a key: whichever a reader takes, it is no more. */
function largestOf(scan: JsonScan, key: string): number {
  return (scan.fields.get(key)?.texts ?? []).reduce((most, text) => Math.max(most, whole(parsed(text))), 0);
}

/** The same of a maximum: 0, which is none, where one of the values is none. */
function mostOf(scan: JsonScan, key: string): number {
  const texts = scan.fields.get(key)?.texts ?? [];
  return texts.some((text) => whole(parsed(text)) === 0) ? 0 : largestOf(scan, key);
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
