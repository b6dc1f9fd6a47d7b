/**
 * The kind of upstream for providers and servers with OpenAI's API of their own: vLLM, Ollama, Mistral, OpenRouter, LiteLLM.
 *
 * Many of them serve Anthropic's `/v1/messages`, too. They do so here where no upstream of kind `anthropic` does, since
 * most know other models. `upstreams[].lacks` says what one of them can't take: operations, and fields of requests.
 * `openai.ts` and `anthropic.ts` describe the APIs.
 */
import type { HttpHeaders } from '../shared/headers.ts';
import { OPENAI_QUOTAS } from './openai.ts';
import type { ProviderKind } from './traits.ts';

/** Puts the key where the caller had its own; a bearer token where it had none. */
function authorizeLikeCaller(sent: HttpHeaders, callers: HttpHeaders, key: string): void {
  let isNative = false;
  if (callers['api-key'] !== undefined) sent['api-key'] = key;
  for (const name of ['x-api-key', 'x-goog-api-key'] as const) {
    if (callers[name] === undefined) continue;
    sent[name] = key;
    // The own APIs of Anthropic and Gemini may refuse a request with two credentials.
    isNative = callers['authorization'] === undefined;
  }
  if (!isNative) sent['authorization'] = `Bearer ${key}`;
}

/** Mistral has neither the Responses API nor Anthropic's. */
const MISTRAL = /(?:^|\.)mistral\.ai$/;

/** What a provider at this host lacks, where the configuration does not say. */
export function lackedAt(hostname: string): readonly string[] {
  return MISTRAL.test(hostname) ? ['responses', 'messages'] : [];
}

export const COMPATIBLE: ProviderKind = {
  name: 'compatible',
  apis: new Set(['openai']),
  alsoSpeaks: new Set(['anthropic']),
  hosts: undefined,
  pathOf: (basePath, { path }) => basePath + path,
  isModelInPath: () => false,
  authorize: authorizeLikeCaller,
  quotas: OPENAI_QUOTAS,
};
