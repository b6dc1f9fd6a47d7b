/**
 * Keeps requests where their like have gone before: a conversation at the provider that has its prompt in a cache, and a request
 * that names what an upstream stores at that upstream. Only chains with several places need it.
 *
 *     previous_response_id,    the upstream that has answered with this id, and no other; an id in the path that none has
 *     a file, a batch, …       answered with is refused, because it could go to a wrong one
 *     prompt_cache_key, or     the place where its last request succeeded, first of the chain, for five minutes after
 *     the conversation         that request; the request leaves it only when that place can't serve it
 *
 * A conversation is known by what its user has said (`request/conversation.ts`), so that a system prompt which many have in
 * common holds none of them: a new one goes where the chain, with its weights, leads it. A body without messages counts by its head.
 */
import { createHash } from 'node:crypto';
import { conversationNames } from '../request/conversation.ts';
import type { ModelRequest } from '../request/model-request.ts';
import { idsInBody, idsInPath } from '../request/stored-references.ts';
import { viewsOf } from '../shared/body.ts';
import type { Chain } from './routes.ts';
import type { Target } from './target.ts';

/** How long providers keep a prompt that nobody uses. */
const PROMPT_MS = 300_000;
/** How long stored things are remembered; most providers keep responses and files for as long. */
const STORED_MS = 2_592_000_000;
/** Shorter prompts are in no cache: providers begin at some thousand tokens. */
const HEAD_BYTES = 4_096;
/** The most characters of an id in a message. */
const MAX_SHOWN = 128;
const MAX_KEPT = 20_000;

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
  private readonly stored = new Map<string, Kept>();

  /** Returns the chain of a request with its own place first, or alone. */
  belongingOf(chain: Chain, request: ModelRequest, nowMs: number): Belonging {
    if (chain.targets.length < 2) return { chain, key: undefined };
    if (spansUpstreams(chain)) {
      const only = this.whereStored(chain, request, nowMs);
      if (only !== undefined) return { chain: only, key: undefined };
    }
    const keys = promptKeys(request);
    for (let at = keys.length - 1; at >= 0; at--) {
      const place = this.find(this.prompts, keys[at], nowMs);
      if (place !== undefined) return { chain: withFirst(chain, place), key: keys.at(-1) };
    }
    return { chain, key: keys.at(-1) };
  }

  /** A request has succeeded at a place. */
  note(key: string, { id }: Pick<Target, 'id'>, nowMs: number): void {
    keep(this.prompts, key, { place: id, untilMs: nowMs + PROMPT_MS });
  }

  /** An upstream has answered with the id of something that it stores. */
  noteStored(id: string, upstream: string, nowMs: number): void {
    keep(this.stored, id, { place: upstream, untilMs: nowMs + STORED_MS });
  }

  /** The chain of a request that names stored things; undefined when it names none. */
  private whereStored(chain: Chain, request: ModelRequest, nowMs: number): Chain | undefined {
    const inPath = idsInPath(request);
    const { previousResponse } = request.facts;
    const ids = [
      ...inPath,
      ...(previousResponse === '' ? [] : [previousResponse]),
      ...idsInBody(request.body),
    ];
    let targets = chain.targets;
    const at: string[] = [];
    for (const id of ids) {
      const upstream = this.find(this.stored, id, nowMs);
      if (upstream === undefined) continue;
      at.push(`${id} at ${upstream}`);
      targets = targets.filter((target) => target.upstream.name === upstream);
    }
    if (targets.length === 0)
      return refused(chain, `${at.join(', ')}: no upstream of the request has all of it`);
    if (at.length > 0) return { ...chain, targets };
    const [unknown] = inPath;
    if (unknown === undefined) return undefined;
    return refused(
      chain,
      `it is not known which upstream stores ${unknown.slice(0, MAX_SHOWN)}: it was made before this process began, or not through it; list the collection first, or ask the provider itself`,
    );
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

/** By what a request is remembered, and its earlier turns were: the last key is its own. A cache name of the caller comes first. */
function promptKeys({ facts, asked, body }: ModelRequest): readonly string[] {
  const { cacheKey, model, operation, scan } = facts;
  if (cacheKey === '' && body.bytes < HEAD_BYTES) return [];
  const about = `${asked.api} ${operation} ${model} ${cacheKey}`;
  const names = cacheKey === '' ? conversationNames(body, scan, about) : [];
  if (names.length > 0) return names;
  const hash = createHash('sha1').update(about);
  if (cacheKey === '') for (const view of viewsOf(body, 0, HEAD_BYTES)) hash.update(view);
  return [hash.digest('base64')];
}

function spansUpstreams({ targets }: Chain): boolean {
  return targets.some(({ upstream }) => upstream !== targets[0]!.upstream);
}

function refused(chain: Chain, message: string): Chain {
  return { ...chain, targets: [], problem: { reason: 'no_route', message } };
}

function withFirst(chain: Chain, place: string): Chain {
  const at = chain.targets.findIndex(({ id }) => id === place);
  if (at <= 0) return chain;
  const { targets } = chain;
  return { ...chain, targets: [targets[at]!, ...targets.slice(0, at), ...targets.slice(at + 1)] };
}
