/**
 * Keeps requests where their like have gone before: a conversation at the provider that has its prompt in a cache, and a request
 * that continues a stored response at the upstream that stores it. Only chains with several places need it.
 *
 *     previous_response_id     the upstream of that response, and no other
 *     prompt_cache_key, or     the place where the last such request succeeded, first of the chain, for five minutes
 *     the head of the prompt   after that request; the request leaves it only when that place can't serve it
 */
import { createHash } from 'node:crypto';
import type { ModelRequest } from '../request/model-request.ts';
import { viewsOf } from '../shared/body.ts';
import type { Chain } from './routes.ts';
import type { Target } from './target.ts';

/** How long providers keep a prompt that nobody uses. */
const PROMPT_MS = 300_000;
/** How long a stored response is remembered here; providers keep them for longer. */
const RESPONSE_MS = 86_400_000;
/** Shorter prompts are in no cache: providers begin at some thousand tokens. */
const HEAD_BYTES = 4_096;
const MAX_KEPT = 10_000;

interface Kept {
  readonly place: string;
  readonly untilMs: number;
}

/** Where one request belongs. */
export interface Belonging {
  readonly chain: Chain;
  /** By which its place is remembered; undefined where nothing depends on it. */
  readonly key: string | undefined;
}

export class Affinity {
  private readonly prompts = new Map<string, Kept>();
  private readonly responses = new Map<string, Kept>();

  /** Returns the chain of a request with its own place first, or alone. */
  belongingOf(chain: Chain, request: ModelRequest, nowMs: number): Belonging {
    if (chain.targets.length < 2) return { chain, key: undefined };
    const stored = this.find(this.responses, request.facts.previousResponse, nowMs);
    if (stored !== undefined) {
      const targets = chain.targets.filter(({ upstream }) => upstream.name === stored);
      if (targets.length > 0) return { chain: { ...chain, targets }, key: undefined };
    }
    const key = promptKey(request);
    const place = this.find(this.prompts, key, nowMs);
    return { chain: place === undefined ? chain : withFirst(chain, place), key };
  }

  /** A request has succeeded at a place. @param response the id of a response that is stored there; '' without one */
  note(key: string | undefined, { id, upstream }: Target, response: string, nowMs: number): void {
    if (key !== undefined) keep(this.prompts, key, { place: id, untilMs: nowMs + PROMPT_MS });
    if (response !== '')
      keep(this.responses, response, { place: upstream.name, untilMs: nowMs + RESPONSE_MS });
  }

  private find(kept: ReadonlyMap<string, Kept>, key: string | undefined, nowMs: number): string | undefined {
    if (key === undefined || key === '') return undefined;
    const found = kept.get(key);
    return found !== undefined && found.untilMs > nowMs ? found.place : undefined;
  }
}

function keep(kept: Map<string, Kept>, key: string, one: Kept): void {
  kept.delete(key);
  kept.set(key, one);
  if (kept.size <= MAX_KEPT) return;
  const [oldest] = kept.keys();
  kept.delete(oldest!);
}

/** A cache name of the caller comes before the head of its prompt. */
function promptKey({ facts, asked, body }: ModelRequest): string | undefined {
  const { cacheKey, model, operation } = facts;
  if (cacheKey === '' && body.bytes < HEAD_BYTES) return undefined;
  const hash = createHash('sha1').update(`${asked.api} ${operation} ${model} ${cacheKey}`);
  if (cacheKey === '') for (const view of viewsOf(body, 0, HEAD_BYTES)) hash.update(view);
  return hash.digest('base64');
}

function withFirst(chain: Chain, place: string): Chain {
  const at = chain.targets.findIndex(({ id }) => id === place);
  if (at <= 0) return chain;
  const { targets } = chain;
  return { ...chain, targets: [targets[at]!, ...targets.slice(0, at), ...targets.slice(at + 1)] };
}
