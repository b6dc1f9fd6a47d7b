/** What the egress reads of a request: which operation, which model, and how many tokens it may use. Pure. */
import { type Operation, traitsOf } from './operations.ts';

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
  /** More tokens than the prompt can have, for budgets. */
  readonly mostInputTokens: number;
  /** The caller asks for a stream's usage itself. */
  readonly includesUsage: boolean;
  /** `stream_options` as it stands in the request; undefined when it is not there. */
  readonly streamOptions: Readonly<Record<string, unknown>> | undefined;
  /** The body is the JSON object that the operation wants; otherwise it goes on as it is, for the provider to refuse. */
  readonly understood: boolean;
  readonly temperature: number | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/** English has about four bytes a token; code and other scripts have fewer. */
const BYTES_PER_TOKEN = 4;
/** An image, a sound or a file that the request only refers to: about what a large picture costs. */
const TOKENS_PER_REFERENCE = 2_000;
const MODEL_MAX_LENGTH = 256;

export function readFacts(operation: Operation, body: Buffer): RequestFacts {
  const { readsRequest, isCounted } = traitsOf(operation);
  const json = readsRequest ? parseObject(body) : undefined;
  if (json === undefined) return unread(operation, isCounted ? body.length : 0);
  const streamOptions = isObject(json['stream_options']) ? json['stream_options'] : undefined;
  const choices = Math.max(1, whole(json['n']) || whole(json['best_of']));
  const references = countReferences(json, 0);
  const textBytes = Math.max(0, body.length - references.bytes);
  const referred = references.count * TOKENS_PER_REFERENCE;
  return {
    operation,
    model: typeof json['model'] === 'string' ? json['model'].slice(0, MODEL_MAX_LENGTH) : '',
    stream: json['stream'] === true,
    maxOutputTokens: choices * maxOutput(operation, json),
    choices,
    estimatedInputTokens: Math.ceil(textBytes / BYTES_PER_TOKEN) + referred,
    // A token has at least a byte.
    mostInputTokens: textBytes + referred,
    includesUsage: streamOptions?.['include_usage'] === true,
    streamOptions,
    understood: true,
    temperature: typeof json['temperature'] === 'number' ? json['temperature'] : undefined,
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
    mostInputTokens: bytes,
    includesUsage: false,
    streamOptions: undefined,
    understood: false,
    temperature: undefined,
  };
}

function maxOutput(operation: Operation, json: Json): number {
  for (const field of traitsOf(operation).maxOutputFields) {
    const most = whole(json[field]);
    if (most > 0) return most;
  }
  return 0;
}

/** The field by which an operation is told how long its answer may be; undefined when it has no length. */
export function maxOutputField(operation: Operation): string | undefined {
  return traitsOf(operation).maxOutputFields[0];
}

const REFERENCES: ReadonlySet<string> = new Set([
  'image_url',
  'input_image',
  'input_audio',
  'input_file',
  'file',
]);
/** Deep enough for messages and their parts; what is deeper is counted by its bytes. */
const MAX_DEPTH = 8;

/** The parts that are no text, and the bytes of those that are written into the request. */
function countReferences(value: unknown, depth: number): { count: number; bytes: number } {
  const sum = { count: 0, bytes: 0 };
  if (depth > MAX_DEPTH || typeof value !== 'object' || value === null) return sum;
  for (const inner of Object.values(value)) {
    if (typeof inner !== 'object' || inner === null) continue;
    if (REFERENCES.has((inner as Json)['type'] as string)) {
      sum.count++;
      sum.bytes += longestText(inner, 0);
      continue;
    }
    const { count, bytes } = countReferences(inner, depth + 1);
    sum.count += count;
    sum.bytes += bytes;
  }
  return sum;
}

/** The length of the data of a part: its longest text. */
function longestText(value: unknown, depth: number): number {
  if (typeof value === 'string') return value.length;
  if (depth > 3 || typeof value !== 'object' || value === null) return 0;
  return Object.values(value).reduce<number>(
    (most, inner) => Math.max(most, longestText(inner, depth + 1)),
    0,
  );
}

function parseObject(body: Buffer): Json | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function whole(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}
