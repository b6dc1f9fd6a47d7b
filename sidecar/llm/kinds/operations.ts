/**
 * Finds the operation of a request in the tables of the APIs, one file each. Pure.
 *
 * The method and the path of a request name its operation. The egress reads nothing of an operation but what its table
 * says: the rest of the request and its answer pass as they are.
 */
import type { ApiName, Operation } from '../shared/operation.ts';
import { decoded } from '../shared/provider-credentials.ts';
import { ANTHROPIC_API } from './anthropic.ts';
import { GEMINI_API } from './gemini.ts';
import { OPENAI_API } from './openai.ts';
import { type OperationTraits, type ProviderApi, unread } from './traits.ts';

const APIS: Readonly<Record<ApiName, ProviderApi>> = {
  openai: OPENAI_API,
  anthropic: ANTHROPIC_API,
  gemini: GEMINI_API,
};

const UNREAD = unread();
/** Each operation that the egress reads has one meaning, whichever API it belongs to. */
const TRAITS: Readonly<Partial<Record<Operation, OperationTraits>>> = {
  ...OPENAI_API.operations,
  ...ANTHROPIC_API.operations,
  ...GEMINI_API.operations,
};

export function apiOf(name: ApiName): ProviderApi {
  return APIS[name];
}

export function traitsOf(operation: Operation): OperationTraits {
  return TRAITS[operation] ?? UNREAD;
}

/** A server, and each proxy before it, may decode a path once. */
const MAX_DECODINGS = 4;

/**
 * Returns the path as lenient servers read it: decoded, in lower case, without empty segments, `.` and parameters
 * (`;x=1`). The request keeps its path; the result only says what the path may mean.
 */
export function canonicalPath(path: string): string {
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

/** Paths that need no canonical form: nearly all requests have one of them. */
const PLAIN: ReadonlySet<string> = new Set(['/chat/completions', '/responses', '/messages', '/embeddings']);

/**
 * Returns the operation of a request.
 *
 * @param path after the base URL, without its query, as it stands in the request
 */
export function operationOf(method: string, path: string, api: ApiName): Operation {
  return APIS[api].operationOf(method, PLAIN.has(path) ? path : canonicalPath(path));
}

/** Segments of paths below which models generate what no budget counts. */
const GENERATING: ReadonlySet<string> = new Set([
  'batch',
  'batches',
  'cachedcontents',
  'chat',
  'complete',
  'completion',
  'completions',
  'embedding',
  'embeddings',
  'generate',
  'interactions',
  'realtime',
  'responses',
  'runs',
]);
/** What a model of Gemini does stands after its name; only counting is free. */
const VERB = /:(?!counttokens$)[a-z]+$/;
/** Last segments of such paths under which no model works. */
const FREE = /^(?:cancel|count_tokens|input_tokens|chatcmpl-[\w-]+)$/;

/** First segments of paths where nothing is generated, whatever is sent there. */
const STORING: ReadonlySet<string> = new Set(['files', 'uploads', 'models']);

/**
 * Whether a request may cost what no budget counts, as far as its path can tell: pictures that are edited, speech, videos, training.
 * What is not known may.
 *
 * @param path after the base URL, without its query
 */
export function mayCostUncounted(method: string, path: string, api: ApiName): boolean {
  if (method === 'GET' || method === 'HEAD' || method === 'DELETE') return false;
  const operation = operationOf(method, path, api);
  if (traitsOf(operation).isCounted || operation === 'count_tokens') return false;
  const segments = canonicalPath(path).split('/');
  if (api === 'gemini' && /:counttokens$/.test(segments.at(-1)!)) return false;
  return !STORING.has(segments[1] ?? '') && !FREE.test(segments.at(-1)!);
}

/**
 * Whether a request may spend tokens that the egress can't count: batches, runs of assistants, and paths with the name of
 * a generating operation that the table lacks (`/engines/x/completions`).
 *
 * @param path after the base URL, without its query
 */
export function spendsUncounted(method: string, path: string, api: ApiName): boolean {
  if (method === 'GET' || method === 'HEAD' || method === 'DELETE') return false;
  if (traitsOf(operationOf(method, path, api)).isCounted) return false;
  const canonical = canonicalPath(path);
  if (api === 'gemini' && VERB.test(canonical)) return true;
  const segments = canonical.split('/');
  return segments.some((segment) => GENERATING.has(segment)) && !FREE.test(segments.at(-1)!);
}
