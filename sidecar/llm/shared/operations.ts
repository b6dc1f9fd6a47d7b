/**
 * Has the one table of what the egress understands of a provider's API. Pure.
 *
 * The method and the path of a request name its operation. The egress reads nothing of an operation but what the table
 * says: the rest of the request and its answer pass as they are.
 */
import { decoded } from './provider-credentials.ts';

export type Operation =
  | 'chat'
  | 'completions'
  | 'responses'
  | 'messages'
  | 'embeddings'
  | 'images'
  | 'models'
  | 'audio'
  | 'files'
  | 'batches'
  | 'realtime'
  | 'other';

/**
 * The server-sent events of a streamed answer, and how they end:
 *
 * - `choices`: `data: [DONE]`, or the `finish_reason` of the last choice (chat and legacy completions);
 * - `responses`: `response.completed`, `incomplete`, `failed` or `cancelled`;
 * - `messages`: `message_stop` (Anthropic);
 * - `unmarked`: the end of the bytes (images).
 */
export type EventDialect = 'choices' | 'responses' | 'messages' | 'unmarked';

export interface OperationTraits {
  /** The request is a JSON object, and its `model`, `stream` and `n` mean what they say. */
  readonly readsRequest: boolean;
  /** A language model generates text: `upstreams[].model` replaces the request's `model`. */
  readonly generatesText: boolean;
  /** Its tokens count for limits and budgets. */
  readonly isCounted: boolean;
  /** Fields of the request that bound its answer, in tokens: the first one present counts, and the first one is added. */
  readonly maxOutputFields: readonly string[];
  /** A stream sends its usage only with `stream_options.include_usage`. */
  readonly asksForUsage: boolean;
  /** The plain answer is one JSON value: the answer, or an error. The egress reads no other one. */
  readonly answersJson: boolean;
  /** The dialect of a stream's events; undefined without a stream, or with unknown events. */
  readonly events: EventDialect | undefined;
}

const UNKNOWN: OperationTraits = {
  readsRequest: false,
  generatesText: false,
  isCounted: false,
  maxOutputFields: [],
  asksForUsage: false,
  answersJson: false,
  events: undefined,
};
const TEXT: OperationTraits = {
  ...UNKNOWN,
  readsRequest: true,
  generatesText: true,
  isCounted: true,
  answersJson: true,
};

const TRAITS: Readonly<Record<Operation, OperationTraits>> = {
  chat: {
    ...TEXT,
    maxOutputFields: ['max_completion_tokens', 'max_tokens'],
    asksForUsage: true,
    events: 'choices',
  },
  completions: { ...TEXT, maxOutputFields: ['max_tokens'], asksForUsage: true, events: 'choices' },
  responses: { ...TEXT, maxOutputFields: ['max_output_tokens'], events: 'responses' },
  messages: { ...TEXT, maxOutputFields: ['max_tokens'], events: 'messages' },
  embeddings: { ...UNKNOWN, readsRequest: true, isCounted: true, answersJson: true },
  images: { ...UNKNOWN, readsRequest: true, answersJson: true, events: 'unmarked' },
  models: { ...UNKNOWN, answersJson: true },
  audio: UNKNOWN,
  files: UNKNOWN,
  batches: UNKNOWN,
  realtime: UNKNOWN,
  other: UNKNOWN,
};

/** The operations of POST, by the whole path. */
const POSTS: Readonly<Record<string, Operation>> = {
  '/chat/completions': 'chat',
  '/completions': 'completions',
  '/responses': 'responses',
  '/messages': 'messages',
  '/embeddings': 'embeddings',
  '/images/generations': 'images',
};
/** First segments of paths whose answers the egress does not read; the log shows their names. */
const UNREAD: ReadonlySet<string> = new Set(['audio', 'files', 'batches', 'realtime']);

/** A server, and each proxy before it, may decode a path once. */
const MAX_DECODINGS = 4;

/**
 * Returns the path as lenient servers read it: decoded, in lower case, without empty segments, `.` and parameters
 * (`;x=1`). The request keeps its path; the result only says what the path may mean.
 */
function canonicalPath(path: string): string {
  let text = path;
  for (let turn = 0; turn < MAX_DECODINGS && text.includes('%'); turn++) text = decoded(text);
  const segments = text
    .split(/[?#]/, 1)[0]!
    .toLowerCase()
    .split(/[/\\]/)
    .map((segment) => segment.split(';', 1)[0]!.replace(/^[\s\p{C}]+|[\s\p{C}.]+$/gu, ''))
    .filter((segment) => segment !== '');
  return `/${segments.join('/')}`;
}

/** Segments of paths below which models generate what no budget counts. */
const GENERATING: ReadonlySet<string> = new Set([
  'batch',
  'batches',
  'chat',
  'complete',
  'completion',
  'completions',
  'embedding',
  'embeddings',
  'generate',
  'realtime',
  'responses',
  'runs',
]);
/** Last segments of such paths under which no model works. */
const FREE = /^(?:cancel|count_tokens|input_tokens|chatcmpl-[\w-]+)$/;

/**
 * Whether a request may spend tokens that the egress can't count: batches, runs of assistants, and paths with the name of
 * a generating operation that the table lacks (`/engines/x/completions`).
 *
 * @param path after the base URL, without its query
 */
export function spendsUncounted(method: string, path: string): boolean {
  if (method === 'GET' || method === 'HEAD' || method === 'DELETE') return false;
  if (traitsOf(operationOf(method, path)).isCounted) return false;
  const segments = canonicalPath(path).split('/');
  return segments.some((segment) => GENERATING.has(segment)) && !FREE.test(segments.at(-1)!);
}

/**
 * Returns the operation of a request.
 *
 * @param path after the base URL, without its query, as it stands in the request
 */
export function operationOf(method: string, path: string): Operation {
  const plain = Object.hasOwn(POSTS, path) ? path : canonicalPath(path);
  if (method === 'POST' && Object.hasOwn(POSTS, plain)) return POSTS[plain]!;
  const first = plain.split('/', 2)[1] ?? '';
  if (first === 'models' && method === 'GET') return 'models';
  return UNREAD.has(first) ? (first as Operation) : 'other';
}

export function traitsOf(operation: Operation): OperationTraits {
  return TRAITS[operation];
}
