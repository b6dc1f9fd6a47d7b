/** Keeps results for as long as their `ttlMs` says (revision 2026-07-28, "Caching"). Pure: the time comes in. */
import { canonical, type JsonObject, type RequestMessage } from '../message/json-rpc.ts';

const MAX_ENTRIES = 256;
const MAX_ENTRY_BYTES = 1_048_576;
/** A longer one counts as an hour: a list may change although its server has said nothing. */
const MAX_TTL_MS = 3_600_000;

/** What a notification of a change makes void. */
const CHANGES: Readonly<Record<string, RegExp>> = {
  'notifications/tools/list_changed': /^tools\//,
  'notifications/prompts/list_changed': /^prompts\//,
  'notifications/resources/list_changed': /^resources\//,
  'notifications/resources/updated': /^resources\/read/,
};

/** Methods whose results carry a `ttlMs`. */
const CACHED: ReadonlySet<string> = new Set([
  'server/discover',
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
]);

interface Entry {
  readonly method: string;
  readonly result: JsonObject;
  readonly untilMs: number;
}

export class ListCache {
  private readonly entries = new Map<string, Entry>();
  /** The number of changes so far: a result that was asked for before a change is not kept after it. */
  changes = 0;

  /** The result with the time that is left of it; undefined without one. */
  find(key: string, nowMs: number): JsonObject | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    if (entry.untilMs > nowMs) return { ...entry.result, ttlMs: Math.ceil(entry.untilMs - nowMs) };
    this.entries.delete(key);
    return undefined;
  }

  /**
   * @param bytes of the result, about
   * @param changes as they were when it was asked for
   */
  keep(
    key: string,
    {
      method,
      result,
      bytes,
      changes,
    }: { method: string; result: JsonObject; bytes: number; changes: number },
    nowMs: number,
  ): void {
    const { ttlMs } = result;
    if (changes !== this.changes) return;
    if (typeof ttlMs !== 'number' || !(ttlMs > 0) || bytes > MAX_ENTRY_BYTES) return;
    if (result['resultType'] !== undefined && result['resultType'] !== 'complete') return;
    this.entries.delete(key);
    this.entries.set(key, { method, result, untilMs: nowMs + Math.min(ttlMs, MAX_TTL_MS) });
    if (this.entries.size > MAX_ENTRIES) this.entries.delete(this.entries.keys().next().value!);
  }

  /** Returns whether the method announces a change. */
  changed(method: string): boolean {
    const what = CHANGES[method];
    if (what === undefined) return false;
    this.changes++;
    for (const [key, entry] of this.entries) if (what.test(entry.method)) this.entries.delete(key);
    return true;
  }
}

/**
 * Names a result; undefined for a request whose result is not kept.
 *
 * @param who distinguishes agents that the server may tell apart
 */
export function cacheKey(
  { method, params }: RequestMessage,
  revision: string,
  who: () => string,
): string | undefined {
  if (!CACHED.has(method)) return undefined;
  const { _meta, ...asked } = params;
  return `${method} ${revision} ${who()} ${canonical(asked)}`;
}
