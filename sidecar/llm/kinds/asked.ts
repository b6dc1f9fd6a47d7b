/**
 * Reads the target of a request: the API that its client is written for, and the path below that API's base. Pure.
 *
 *     /v1/…                               OpenAI's; Anthropic's and Gemini's by the path, or by a header of their clients
 *     /openai/v1/…, /openai/…             OpenAI's, as Azure has it
 *     /openai/deployments/NAME/…          the same; the path names the model
 *     /v1beta/…, /v1alpha/…               Gemini's; the path names the model
 *     /v1beta/openai/…                    OpenAI's, as Gemini has it
 */
import type { Headers } from '../shared/headers.ts';
import type { ApiName, KindName } from '../shared/operation.ts';
import { decoded } from '../shared/provider-credentials.ts';
import { canonicalPath } from './operations.ts';

export interface Asked {
  readonly api: ApiName;
  /** The kind of upstream that the request's client is made for. */
  readonly home: KindName;
  /** The base under which the request came: `/v1`, `/openai/deployments/NAME`, `/v1beta`. */
  readonly base: string;
  /** After that base, with its query: `/chat/completions?x=1`. */
  readonly path: string;
  /** The model that the path names; '' where none does. */
  readonly model: string;
  /** The path itself asks for a stream. */
  readonly isStream: boolean;
  /** The stream is one JSON array, and no events. */
  readonly isArray: boolean;
  /** It comes from a caller of the service, whose credentials are for us alone. */
  readonly isOfService?: true;
}

const BASES =
  /^(\/v1beta\/openai|\/v1|\/(?:upload\/)?v1(?:alpha|beta)|\/openai\/(?:v1|deployments\/[^/?]+)|\/openai)(?=\/)(.*)$/s;
const DEPLOYMENTS = '/openai/deployments/';

/** @param target the path and query of the request; undefined is returned for one below no base */
export function askedOf(target: string, headers: Headers): Asked | undefined {
  const found = BASES.exec(target);
  if (found === null) return undefined;
  const [, base = '', path = ''] = found;
  const api = apiOfPath(base, path, headers);
  if (api === 'gemini') return { api, home: 'gemini', base, path, ...inGeminiPath(path) };
  const model = base.startsWith(DEPLOYMENTS) ? decoded(base.slice(DEPLOYMENTS.length)) : '';
  return { api, home: homeOf(api, base), base, path, model, isStream: false, isArray: false };
}

function homeOf(api: ApiName, base: string): KindName {
  if (base.startsWith('/openai')) return 'azure';
  return base === '/v1beta/openai' ? 'gemini' : api;
}

function apiOfPath(base: string, path: string, headers: Headers): ApiName {
  if (base === '/v1beta/openai' || base.startsWith('/openai')) return 'openai';
  if (base !== '/v1') return 'gemini';
  const [plain = ''] = path.split('?', 1);
  if (plain === '/chat/completions' || plain === '/responses') return 'openai';
  const canonical = canonicalPath(plain);
  if (/^\/(?:messages(?:\/|$)|complete$)/.test(canonical)) return 'anthropic';
  if (/^\/[a-z]+\/[^/:]+:[a-z]+$/i.test(canonical)) return 'gemini';
  // Both have lists of models and of files under the paths that OpenAI has.
  return apiByHeaders(headers);
}

/** `/models/NAME:streamGenerateContent`, in any spelling that a server may take. */
function inGeminiPath(path: string): Pick<Asked, 'model' | 'isStream' | 'isArray'> {
  const [plain = '', query = ''] = path.split('?', 2);
  const text = decoded(plain);
  const isStream = /:streamgeneratecontent$/i.test(text);
  const isArray = isStream && !/(?:^|&)(?:alt|%24alt|\$alt)=sse(?:&|$)/i.test(query);
  return { model: /^\/models\/([^/:]+)/.exec(text)?.[1] ?? '', isStream, isArray };
}

/** Returns the API of a request whose path tells nothing, for the form of its error. */
export function apiByHeaders(headers: Headers): ApiName {
  if (headers['anthropic-version'] !== undefined) return 'anthropic';
  return headers['x-goog-api-key'] === undefined ? 'openai' : 'gemini';
}
